"""Requests the ledger accepts. Unknown fields are an error, so typing mistakes surface.

Amounts are integer minor units; the gateway has already turned decimal strings into them.
"""

import msgspec

from schemas.events import AssetSpec, OrderType, Side, TimeInForce


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
    assets: tuple[AssetSpec, ...]
    emission: tuple[EmissionEntry, ...]


class OpenMarket(Command, frozen=True, kw_only=True, tag="open_market"):
    market_id: str
    base_asset: str
    quote_asset: str
    tick_minor: int
    lot_minor: int
    burn_bps: int


class OpenAccount(Command, frozen=True, kw_only=True, tag="open_account"):
    user_id: str


class DepositFunds(Command, frozen=True, kw_only=True, tag="deposit_funds"):
    """Opens the account if the user has none yet."""

    user_id: str
    asset_id: str
    amount_minor: int
    reference: str


class GrantContribution(Command, frozen=True, kw_only=True, tag="grant_contribution"):
    """Opens the account if the user has none yet.

    expires_second: first second without the weight.
    """

    user_id: str
    grant_id: str
    source: str
    weight: int
    expires_second: int | None = None


class SettleAccrual(Command, frozen=True, kw_only=True, tag="settle_accrual"):
    user_id: str


class PlaceOrder(Command, frozen=True, kw_only=True, tag="place_order"):
    """price_minor: quote minor units per whole base unit; None for market orders.

    quantity_minor: base minor units.
    """

    user_id: str
    client_order_id: str
    market_id: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce = "gtc"
    price_minor: int | None = None
    quantity_minor: int


class CancelOrder(Command, frozen=True, kw_only=True, tag="cancel_order"):
    user_id: str
    order_id: int


LedgerCommand = (
    OpenLedger
    | OpenMarket
    | OpenAccount
    | DepositFunds
    | GrantContribution
    | SettleAccrual
    | PlaceOrder
    | CancelOrder
)
