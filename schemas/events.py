"""Events as currently written to the log. Older shapes live only in schemas.upcasters.

A stored payload is the JSON of one struct: `type` (the tag), `v` (schema version), `at_ns`, then
the event's own fields in this file's order. `*_minor` counts an asset's smallest unit; `*_ns` is
engine time in nanoseconds since the Unix epoch (UTC), never decreasing along the log; `*_second` is
a Unix second. `index` and `entry_*` are fixed point scaled by 2**64 (schemas.accrual). Users are
opaque ids.
"""

from typing import Literal

import msgspec

Side = Literal["buy", "sell"]
OrderType = Literal["limit", "market"]
TimeInForce = Literal["gtc", "ioc", "fok"]
SelfTradePrevention = Literal["cancel_newest", "cancel_oldest", "cancel_both"]
CancelReason = Literal["requested", "replaced", "unfilled", "self_trade", "account_frozen"]
BurnSource = Literal["trade", "reserve"]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", gc=False):
    """What every event carries."""

    v: Literal[1] = 1
    at_ns: int


class AssetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """scale: decimals of one whole unit, 0 to 18; one unit is 10**scale minor units."""

    asset_id: str
    scale: int


class EpochStarted(Event, frozen=True, kw_only=True, tag="epoch_started"):
    """A writer took the lead.

    at_ns repeats the log's last time; started_at_ns is the writer's clock.
    """

    epoch: int
    started_at_ns: int


class LedgerOpened(Event, frozen=True, kw_only=True, tag="ledger_opened"):
    """Genesis: the assets, and the mining pool and the treasury minted from issuance.

    treasury_minor: of the mined asset, for reserve burns only.
    """

    genesis_second: int
    mined_asset: str
    pool_minor: int
    treasury_minor: int
    assets: tuple[AssetSpec, ...]


class EmissionScheduled(Event, frozen=True, kw_only=True, tag="emission_scheduled"):
    """From from_second on, each second allocates reward_minor (until a later entry or an empty
    pool).
    """

    from_second: int
    reward_minor: int


class MiningAllocated(Event, frozen=True, kw_only=True, tag="mining_allocated"):
    """One second's allocation; exactly one for every second since genesis.

    reward_minor: 0 when nobody has weight or the pool is empty.
    index, carry: after this second. allocated_minor: total since genesis, this second included.
    """

    second: int
    asset_id: str
    reward_minor: int
    weight_total: int
    index: int
    carry: int
    allocated_minor: int


class AccrualSettled(Event, frozen=True, kw_only=True, tag="accrual_settled"):
    """amount_minor moved from mining:accrued to the user's available account; entry restarts."""

    user_id: str
    asset_id: str
    amount_minor: int
    entry_index: int
    entry_fraction: int


class ContributionGranted(Event, frozen=True, kw_only=True, tag="contribution_granted"):
    """weight_after: the user's total weight from now on.

    expires_second: first second without it.
    """

    user_id: str
    grant_id: str
    source: str
    weight: int
    expires_second: int | None
    weight_after: int
    entry_index: int
    entry_fraction: int


class ContributionAdjusted(Event, frozen=True, kw_only=True, tag="contribution_adjusted"):
    """A grant has another weight or expiry from now on; weight 0 means that it was revoked."""

    user_id: str
    grant_id: str
    weight_before: int
    weight: int
    expires_second: int | None
    weight_after: int
    entry_index: int
    entry_fraction: int


class ContributionExpired(Event, frozen=True, kw_only=True, tag="contribution_expired"):
    user_id: str
    grant_id: str
    weight: int
    weight_after: int
    entry_index: int
    entry_fraction: int


class AccountOpened(Event, frozen=True, kw_only=True, tag="account_opened"):
    user_id: str


class AccountFrozen(Event, frozen=True, kw_only=True, tag="account_frozen"):
    """The user can neither order nor withdraw nor settle; mining goes on, deposits are booked."""

    user_id: str
    reason: str


class AccountUnfrozen(Event, frozen=True, kw_only=True, tag="account_unfrozen"):
    user_id: str


class FundsDeposited(Event, frozen=True, kw_only=True, tag="funds_deposited"):
    """reference: the outside party's id of the payment; booked at most once per ledger."""

    user_id: str
    asset_id: str
    amount_minor: int
    reference: str


class FundsWithdrawn(Event, frozen=True, kw_only=True, tag="funds_withdrawn"):
    """reference: as for deposits; booked at most once per ledger."""

    user_id: str
    asset_id: str
    amount_minor: int
    reference: str


class MarketRules(msgspec.Struct, frozen=True, kw_only=True):
    """What may change while a market is open. Basis points are of 10,000.

    burn_bps: of each trade's quantity, rounded down. maker_fee_bps, taker_fee_bps: of what the side
    receives, rounded up. band_bps: limit prices lie this near to the last trade's price; None: any.
    min_notional_minor: smallest order in quote. open_orders_max: resting orders per user.
    """

    burn_bps: int = 0
    maker_fee_bps: int = 0
    taker_fee_bps: int = 0
    band_bps: int | None = None
    min_notional_minor: int = 0
    open_orders_max: int = 200


class MarketOpened(Event, frozen=True, kw_only=True, tag="market_opened"):
    """tick_minor: price step, in quote minor units per whole base unit.

    lot_minor: quantity step, base.
    """

    market_id: str
    base_asset: str
    quote_asset: str
    tick_minor: int
    lot_minor: int
    rules: MarketRules


class MarketConfigured(Event, frozen=True, kw_only=True, tag="market_configured"):
    """The market's rules from now on; open orders stay as they are."""

    market_id: str
    rules: MarketRules


class MarketHalted(Event, frozen=True, kw_only=True, tag="market_halted"):
    """No new orders; cancelling and shrinking them stays possible."""

    market_id: str
    reason: str


class MarketResumed(Event, frozen=True, kw_only=True, tag="market_resumed"):
    market_id: str


class ReserveBurnConfigured(Event, frozen=True, kw_only=True, tag="reserve_burn_configured"):
    """Each minute from now on burns amount_minor of the treasury until it is empty; 0 stops it."""

    amount_minor: int


class OrderPlaced(Event, frozen=True, kw_only=True, tag="order_placed"):
    """held_minor of held_asset moved from available to held.

    price_minor: None for market orders. quantity_minor: asked for; of an order by
    quote_budget_minor it is what the budget buys or sells.
    """

    order_id: int
    client_order_id: str
    user_id: str
    market_id: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    post_only: bool
    self_trade_prevention: SelfTradePrevention
    price_minor: int | None
    quantity_minor: int
    quote_budget_minor: int | None
    held_asset: str
    held_minor: int


class OrderReduced(Event, frozen=True, kw_only=True, tag="order_reduced"):
    """A resting order shrank in its place: leaves_minor is what it still wants."""

    order_id: int
    user_id: str
    market_id: str
    leaves_minor: int
    released_asset: str
    released_minor: int


class OrderCancelled(Event, frozen=True, kw_only=True, tag="order_cancelled"):
    """leaves_minor: base quantity that did not trade. released_minor went back to available."""

    order_id: int
    user_id: str
    market_id: str
    reason: CancelReason
    leaves_minor: int
    released_asset: str
    released_minor: int


class TradeExecuted(Event, frozen=True, kw_only=True, tag="trade_executed"):
    """Resting maker order met by a taker order at the maker's price.

    quote_minor: price x quantity, exact. burned_minor: the part of quantity_minor that the buyer
    does not receive; booked by the asset_burned event that follows (absent when it is 0).
    buyer_fee_minor: base, out of what the buyer receives. seller_fee_minor: quote, out of what the
    seller receives. refund_minor: quote held by the buyer above this trade's price, released.
    """

    trade_id: int
    market_id: str
    base_asset: str
    quote_asset: str
    price_minor: int
    quantity_minor: int
    quote_minor: int
    burned_minor: int
    buyer_fee_minor: int
    seller_fee_minor: int
    refund_minor: int
    taker_side: Side
    buyer_id: str
    seller_id: str
    maker_order_id: int
    taker_order_id: int
    maker_leaves_minor: int
    taker_leaves_minor: int


class AssetBurned(Event, frozen=True, kw_only=True, tag="asset_burned"):
    """amount_minor left circulation; burned_total_minor: of this asset, ever.

    source trade: out of the seller's held account, named by user_id, market_id and trade_id.
    source reserve: out of the treasury, and those three are None.
    """

    asset_id: str
    source: BurnSource
    user_id: str | None = None
    market_id: str | None = None
    trade_id: int | None = None
    amount_minor: int
    burned_total_minor: int


LedgerEvent = (
    EpochStarted
    | LedgerOpened
    | EmissionScheduled
    | MiningAllocated
    | AccrualSettled
    | ContributionGranted
    | ContributionAdjusted
    | ContributionExpired
    | AccountOpened
    | AccountFrozen
    | AccountUnfrozen
    | FundsDeposited
    | FundsWithdrawn
    | MarketOpened
    | MarketConfigured
    | MarketHalted
    | MarketResumed
    | ReserveBurnConfigured
    | OrderPlaced
    | OrderReduced
    | OrderCancelled
    | TradeExecuted
    | AssetBurned
)
EVENT_TYPES: tuple[type[Event], ...] = LedgerEvent.__args__
