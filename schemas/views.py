"""What Redis holds: databases, key names and value shapes of every view. Written by projections
only.

Values are JSON of these structs, amounts as integer minor units (only our own code reads them).
Three projections write them, each in one atomic script with its checkpoint:
market and mining fold ledger.events; accounts folds ledger.postings, one checkpoint per partition.
A projection's keys belong to a generation: each name below is stored as `market@1:<name>`, and
the key `generation:market` says which generation readers see (docs/adr/0012).
"""

from typing import Final, Literal

import msgspec

from schemas.events import CancelReason, OrderType, Side, TimeInForce

CONTRIBUTION_DB: Final = 0
MINING_DB: Final = 1
TRADING_DB: Final = 2
ADMIN_DB: Final = 3

MARKET: Final = "market"
MINING: Final = "mining"
ACCOUNTS: Final = "accounts"
HISTORY: Final = "history"
HOME_DB: Final = {MARKET: TRADING_DB, MINING: MINING_DB, ACCOUNTS: TRADING_DB}
FIRST_GENERATION: Final = "1"

INTERVAL_SECONDS: Final = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "30m": 1_800,
    "1h": 3_600,
    "4h": 14_400,
    "1d": 86_400,
    "1w": 604_800,
}
# Unix day 0 was a Thursday; weeks open on Monday, 00:00 UTC.
WEEK_OPENS_AT: Final = 345_600
TRADES_KEPT: Final = 1_000
FILLS_KEPT: Final = 100
DEPTH_LEVELS_MAX: Final = 100
FEED_KEPT: Final = 10_000

# TRADING_DB, by market
ASSETS_KEY: Final = "assets"  # hash: asset_id -> AssetView
MARKETS_KEY: Final = "markets"  # hash: market_id -> MarketView
# CONTRIBUTION_DB, by accounts
WEIGHTS_KEY: Final = "weights"  # sorted set: user_id by weight (approximate score, for ranking)
# ADMIN_DB, by accounts
MINED_KEY: Final = "leaders:mined"  # sorted set: user_id by settled minor units (approximate score)
# MINING_DB, by mining
POOL_KEY: Final = "pool"  # string: PoolView
PULSE_KEY: Final = "pulse"  # string: wire JSON of publications.Pulse, of the newest second
EMISSION_KEY: Final = "emission"  # hash: from_second -> reward_minor
MARKS_KEY: Final = "marks"  # hash: minute's first second -> index after the minute's last second


def generation_key(projection: str) -> str:
    """String in the home database, of no generation itself: which generation is live.

    Absent: FIRST_GENERATION. Only a switch (or a rollback) writes it.
    """
    return f"generation:{projection}"


def generations_key(projection: str) -> str:
    """Hash in the home database: generation -> GenerationRecord, for all but the first one."""
    return f"generations:{projection}"


def hold_key(projection: str) -> str:
    """Home database, lives for milliseconds: while it exists the live generation is not written,
    so that a rebuild can compare both at one position and switch.
    """
    return f"hold:{projection}"


def stored_key(projection: str, generation: str, name: str) -> str:
    """The key under which a generation keeps what the rest of this module calls `name`."""
    return f"{projection}@{generation}:{name}"


def checkpoint_key(projection: str, partition: int) -> str:
    """Hash in the projection's home database: position, sequence, offset (Kafka's), epoch."""
    return f"checkpoint:{projection}:{partition}"


def state_key(projection: str) -> str:
    """What the projection needs besides its views to go on folding; private to it."""
    return f"state:{projection}"


def feed_key(projection: str, partition: int) -> str:
    """Capped stream of publications in the home database: fields ch, offset, data.

    data is the wire JSON of schemas.publications, but for channel account (field user names whose)
    it is AccountPublication, which the gateway renders because it knows the assets' scales.
    """
    return f"feed:{projection}:{partition}"


def offsets_key(projection: str) -> str:
    """Hash in the home database: channel -> offset of its newest publication (1, 2, 3 … per
    channel).

    Written in the same atomic step as views and feed, so one transaction that reads a view and this
    field knows exactly which publications the view already holds. Not in it: pulse (its offset is
    PoolView.second) and account (AccountView.offset).
    """
    return f"offsets:{projection}"


def kline_key(market_id: str, interval: str) -> str:
    """TRADING_DB hash: open second -> Candle. Dense from the first trade's candle on."""
    return f"kline:{market_id}:{interval}"


def burns_key(market_id: str) -> str:
    """TRADING_DB hash: minute's first second -> BurnMinute.

    Dense from the market's first minute.
    """
    return f"burns:{market_id}"


def trades_key(market_id: str) -> str:
    """TRADING_DB list of TradeView, newest first, TRADES_KEPT at most."""
    return f"trades:{market_id}"


def ticker_key(market_id: str) -> str:
    """TRADING_DB string: TickerView."""
    return f"ticker:{market_id}"


def depth_key(market_id: str) -> str:
    """TRADING_DB string: DepthView."""
    return f"depth:{market_id}"


def book_key(market_id: str) -> str:
    """TRADING_DB hash: order_id -> BookOrder of each resting order; private to the projection."""
    return f"book:{market_id}"


def burned_key(asset_id: str) -> str:
    """TRADING_DB string: BurnedView, from the asset's first burn on."""
    return f"burned:{asset_id}"


def reserve_burns_key(asset_id: str) -> str:
    """TRADING_DB hash: minute's first second -> BurnMinute of the reserve's burns; its trade_count
    is 0.

    Dense from the minute of the first reserve burn on.
    """
    return f"reserve_burns:{asset_id}"


def holding_key(asset_id: str) -> str:
    """ADMIN_DB sorted set: user_id by available + held minor units (approximate score)."""
    return f"leaders:holding:{asset_id}"


def orders_key(user_id: str) -> str:
    """TRADING_DB hash: order_id -> OrderView of each open order."""
    return f"orders:{user_id}"


def fills_key(user_id: str) -> str:
    """TRADING_DB list of FillView, newest first, FILLS_KEPT at most."""
    return f"fills:{user_id}"


def account_key(user_id: str) -> str:
    """TRADING_DB string: AccountView."""
    return f"account:{user_id}"


def contribution_key(user_id: str) -> str:
    """CONTRIBUTION_DB string: ContributionView."""
    return f"contribution:{user_id}"


def open_second(second: int, interval: str) -> int:
    """First second of the candle that `second` falls into (UTC; weeks open on Monday)."""
    width = INTERVAL_SECONDS[interval]
    shift = WEEK_OPENS_AT if interval == "1w" else 0
    return (second - shift) // width * width + shift


class AssetView(msgspec.Struct, frozen=True, kw_only=True):
    scale: int


class MarketView(msgspec.Struct, frozen=True, kw_only=True):
    """Scales are repeated here so that a reader needs one key to render amounts of the market.

    The rules as in MarketRules. is_halted: no new orders, for halt_reason.
    """

    market_id: str
    base_asset: str
    quote_asset: str
    base_scale: int
    quote_scale: int
    tick_minor: int
    lot_minor: int
    burn_bps: int
    maker_fee_bps: int = 0
    taker_fee_bps: int = 0
    band_bps: int | None = None
    min_notional_minor: int = 0
    open_orders_max: int = 0
    is_halted: bool = False
    halt_reason: str | None = None


class Candle(msgspec.Struct, array_like=True, kw_only=True):
    """One interval of one market. Prices in quote minor units per whole base unit.

    first_position, last_position: of its trades; 0 while it has none. closed by log time.
    """

    open_second: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    quote_volume: int = 0
    trade_count: int = 0
    taker_buy_volume: int = 0
    taker_buy_quote_volume: int = 0
    burned: int = 0
    first_position: int = 0
    last_position: int = 0
    closed: bool = False


class BurnMinute(msgspec.Struct, array_like=True, kw_only=True):
    """burned, trade_count: of the minute. cumulative: of the market, this minute included."""

    open_second: int
    burned: int = 0
    trade_count: int = 0
    cumulative: int
    last_position: int = 0
    closed: bool = False


class TradeView(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    trade_id: int
    at_ns: int
    price: int
    quantity: int
    quote: int
    taker_side: str
    burned: int
    position: int


class DepthLevel(msgspec.Struct, frozen=True, array_like=True):
    """quantity: what the orders resting at this price still want, in base. orders: how many."""

    price: int
    quantity: int
    orders: int


class DepthView(msgspec.Struct, frozen=True, kw_only=True):
    """Each side's DEPTH_LEVELS_MAX best levels, best first.

    position: of the last event that changed the book, at any level. An order that is still taking
    is not in it, so bids and asks never cross.
    """

    market_id: str
    bids: tuple[DepthLevel, ...]
    asks: tuple[DepthLevel, ...]
    position: int


class BookOrder(msgspec.Struct, array_like=True):
    """A resting order; leaves: what it still wants, in base."""

    side: Side
    price: int
    leaves: int


class BurnedView(msgspec.Struct, kw_only=True):
    """What was ever burned of an asset: total = by_trades + by_reserve. position: of its last
    burn.
    """

    asset_id: str
    total: int = 0
    by_trades: int = 0
    by_reserve: int = 0
    position: int = 0


class TickerView(msgspec.Struct, frozen=True, kw_only=True):
    """The last 24 hours to the minute: the open minute and the 1,439 before it."""

    market_id: str
    last_price: int
    open_price: int
    high_price: int
    low_price: int
    volume: int
    quote_volume: int
    trade_count: int
    burned: int
    burned_total: int
    at_ns: int


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """The mining pool after `second`."""

    asset_id: str
    scale: int
    genesis_second: int
    pool_minor: int
    allocated_minor: int
    second: int
    reward_minor: int
    weight_total: int
    index: int
    carry: int
    position: int


class BalanceView(msgspec.Struct, array_like=True, kw_only=True):
    available: int = 0
    held: int = 0


class AccountView(msgspec.Struct, kw_only=True):
    """balances: by asset_id. position: of the last event that touched the account or its
    contribution.

    offset: of channel account; counts the user's effects. Only the newest state of a batch is
    published, so published offsets rise but may skip numbers. frozen: why, None if it is not.
    """

    user_id: str
    balances: dict[str, BalanceView]
    offset: int = 0
    position: int = 0
    frozen: str | None = None


class OrderView(msgspec.Struct, array_like=True, kw_only=True):
    """One order of a user. quantity = filled + leaves, so it falls when the order is reduced.

    price: None for market orders. filled_quote: paid or received for `filled`, before fees.
    at_ns: of its placement. position: of the last event that changed it.
    closed: None while it is open (always, in orders:<user_id>), then "filled" or why it ended.
    """

    order_id: int
    client_order_id: str
    market_id: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    post_only: bool
    price: int | None
    quantity: int
    leaves: int
    filled: int = 0
    filled_quote: int = 0
    at_ns: int
    position: int
    closed: Literal["filled"] | CancelReason | None = None


class FillView(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One trade of a user, from the user's side. burned: of the trade's quantity.

    fee: taken from what the side receives: base for a buy, quote for a sale. role: in this trade.
    """

    trade_id: int
    order_id: int
    market_id: str
    side: Side
    price: int
    quantity: int
    quote: int
    fee: int
    burned: int
    role: Literal["maker", "taker"]
    at_ns: int
    position: int


class GrantView(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    weight: int
    expires_second: int | None


class ContributionView(msgspec.Struct, kw_only=True):
    """grants: those in force, by grant_id. settled_minor: paid out so far."""

    user_id: str
    weight: int = 0
    entry_index: int = 0
    entry_fraction: int = 0
    settled_minor: int = 0
    grants: dict[str, GrantView] = {}
    position: int = 0


class AccountPublication(msgspec.Struct, frozen=True, kw_only=True):
    """`data` of channel account in the feed of projection accounts.

    orders: those that changed since the publication before, the closed ones with why; in the order
    of their ids. fills: the new ones, oldest first.
    """

    account: AccountView
    contribution: ContributionView
    orders: tuple[OrderView, ...] = ()
    fills: tuple[FillView, ...] = ()
