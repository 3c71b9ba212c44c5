"""Requests the ledger accepts. Unknown fields are an error, so typing mistakes surface.

Amounts are integer minor units; the gateway has already turned decimal strings into them.
"""

import msgspec

from schemas.events import (
    AssetSpec,
    MarketRules,
    OrderType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)


class Command(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"
):
    """What every command is: a tagged struct that refuses unknown fields."""


class EmissionEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """after_seconds: counted from genesis. reward_minor: paid each second from then on."""

    after_seconds: int
    reward_minor: int


class OpenLedger(Command, frozen=True, kw_only=True, tag="open_ledger"):
    """Genesis. The first command of a ledger, refused ever after."""

    genesis_second: int
    mined_asset: str
    pool_minor: int
    treasury_minor: int = 0
    assets: tuple[AssetSpec, ...]
    emission: tuple[EmissionEntry, ...]


class OpenMarket(Command, frozen=True, kw_only=True, tag="open_market"):
    market_id: str
    base_asset: str
    quote_asset: str
    tick_minor: int
    lot_minor: int
    rules: MarketRules = MarketRules()


class ConfigureMarket(Command, frozen=True, kw_only=True, tag="configure_market"):
    """New rules for an open market; tick and lot never change."""

    market_id: str
    rules: MarketRules


class HaltMarket(Command, frozen=True, kw_only=True, tag="halt_market"):
    market_id: str
    reason: str


class ResumeMarket(Command, frozen=True, kw_only=True, tag="resume_market"):
    market_id: str


class ScheduleEmission(Command, frozen=True, kw_only=True, tag="schedule_emission"):
    """from_second: in the future. Entries scheduled for later seconds stay."""

    from_second: int
    reward_minor: int


class ConfigureReserveBurn(Command, frozen=True, kw_only=True, tag="configure_reserve_burn"):
    """amount_minor: of the treasury, each minute; 0 stops it."""

    amount_minor: int


class OpenAccount(Command, frozen=True, kw_only=True, tag="open_account"):
    user_id: str


class DepositFunds(Command, frozen=True, kw_only=True, tag="deposit_funds"):
    """Opens the account if the user has none yet."""

    user_id: str
    asset_id: str
    amount_minor: int
    reference: str


class WithdrawFunds(Command, frozen=True, kw_only=True, tag="withdraw_funds"):
    """Settles what was mined first, if the withdrawal needs it."""

    user_id: str
    asset_id: str
    amount_minor: int
    reference: str


class FreezeAccount(Command, frozen=True, kw_only=True, tag="freeze_account"):
    """Cancels the user's open orders too."""

    user_id: str
    reason: str


class UnfreezeAccount(Command, frozen=True, kw_only=True, tag="unfreeze_account"):
    user_id: str


class GrantContribution(Command, frozen=True, kw_only=True, tag="grant_contribution"):
    """Opens the account if the user has none yet.

    expires_second: first second without the weight.
    """

    user_id: str
    grant_id: str
    source: str
    weight: int
    expires_second: int | None = None


class AdjustContribution(Command, frozen=True, kw_only=True, tag="adjust_contribution"):
    """Another weight or expiry for a grant in force; weight 0 revokes it."""

    user_id: str
    grant_id: str
    weight: int
    expires_second: int | None = None


class SettleAccrual(Command, frozen=True, kw_only=True, tag="settle_accrual"):
    user_id: str


class PlaceOrder(Command, frozen=True, kw_only=True, tag="place_order"):
    """price_minor: quote minor units per whole base unit; None for market orders.

    Exactly one of quantity_minor (base) and quote_budget_minor (quote, market orders only): a
    budget is the most a buy spends, the most a sell receives.
    """

    user_id: str
    client_order_id: str
    market_id: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce = "gtc"
    post_only: bool = False
    self_trade_prevention: SelfTradePrevention = "cancel_newest"
    price_minor: int | None = None
    quantity_minor: int | None = None
    quote_budget_minor: int | None = None


class ReplaceOrder(Command, frozen=True, kw_only=True, tag="replace_order"):
    """New price and leaves for a resting order. It keeps its place when only its leaves shrink;

    otherwise it is cancelled and placed anew under new_client_order_id.
    """

    user_id: str
    order_id: int
    new_client_order_id: str
    price_minor: int
    quantity_minor: int


class CancelOrder(Command, frozen=True, kw_only=True, tag="cancel_order"):
    user_id: str
    order_id: int


class CancelAllOrders(Command, frozen=True, kw_only=True, tag="cancel_all_orders"):
    """market_id: None cancels in every market."""

    user_id: str
    market_id: str | None = None


LedgerCommand = (
    OpenLedger
    | OpenMarket
    | ConfigureMarket
    | HaltMarket
    | ResumeMarket
    | ScheduleEmission
    | ConfigureReserveBurn
    | OpenAccount
    | FreezeAccount
    | UnfreezeAccount
    | DepositFunds
    | WithdrawFunds
    | GrantContribution
    | AdjustContribution
    | SettleAccrual
    | PlaceOrder
    | ReplaceOrder
    | CancelOrder
    | CancelAllOrders
)
