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
CancelReason = Literal["requested", "unfilled"]


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
    """Genesis: the assets, and the whole mining pool minted from issuance."""

    genesis_second: int
    mined_asset: str
    pool_minor: int
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


class ContributionExpired(Event, frozen=True, kw_only=True, tag="contribution_expired"):
    user_id: str
    grant_id: str
    weight: int
    weight_after: int
    entry_index: int
    entry_fraction: int


class AccountOpened(Event, frozen=True, kw_only=True, tag="account_opened"):
    user_id: str


class FundsDeposited(Event, frozen=True, kw_only=True, tag="funds_deposited"):
    """reference: the outside party's id of the payment; booked at most once per ledger."""

    user_id: str
    asset_id: str
    amount_minor: int
    reference: str


class MarketOpened(Event, frozen=True, kw_only=True, tag="market_opened"):
    """tick_minor: price step, in quote minor units per whole base unit.

    lot_minor: quantity step, base.
    """

    market_id: str
    base_asset: str
    quote_asset: str
    tick_minor: int
    lot_minor: int
    burn_bps: int


class OrderPlaced(Event, frozen=True, kw_only=True, tag="order_placed"):
    """held_minor of held_asset moved from available to held; price_minor is None for market
    orders.
    """

    order_id: int
    client_order_id: str
    user_id: str
    market_id: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    price_minor: int | None
    quantity_minor: int
    held_asset: str
    held_minor: int


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
    refund_minor: quote held by the buyer above this trade's price, released to available.
    """

    trade_id: int
    market_id: str
    base_asset: str
    quote_asset: str
    price_minor: int
    quantity_minor: int
    quote_minor: int
    burned_minor: int
    refund_minor: int
    taker_side: Side
    buyer_id: str
    seller_id: str
    maker_order_id: int
    taker_order_id: int
    maker_leaves_minor: int
    taker_leaves_minor: int


class AssetBurned(Event, frozen=True, kw_only=True, tag="asset_burned"):
    """amount_minor left the seller's held account for burn; burned_total_minor: of this asset,
    ever.
    """

    asset_id: str
    user_id: str
    market_id: str
    trade_id: int
    amount_minor: int
    burned_total_minor: int


LedgerEvent = (
    EpochStarted
    | LedgerOpened
    | EmissionScheduled
    | MiningAllocated
    | AccrualSettled
    | ContributionGranted
    | ContributionExpired
    | AccountOpened
    | FundsDeposited
    | MarketOpened
    | OrderPlaced
    | OrderCancelled
    | TradeExecuted
    | AssetBurned
)
EVENT_TYPES: tuple[type[Event], ...] = LedgerEvent.__args__
