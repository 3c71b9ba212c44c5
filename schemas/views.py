"""What Redis holds: databases, key names and value shapes of every view. Written by projections
only.

Values are JSON of these structs, amounts as integer minor units (only our own code reads them).
Three projections write them, each in one atomic script with its checkpoint:
market and mining fold ledger.events; accounts folds ledger.postings, one checkpoint per partition.
"""

from typing import Final

import msgspec

CONTRIBUTION_DB: Final = 0
MINING_DB: Final = 1
TRADING_DB: Final = 2

MARKET: Final = "market"
MINING: Final = "mining"
ACCOUNTS: Final = "accounts"
HOME_DB: Final = {MARKET: TRADING_DB, MINING: MINING_DB, ACCOUNTS: TRADING_DB}

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
FEED_KEPT: Final = 10_000

# TRADING_DB, by market
ASSETS_KEY: Final = "assets"  # hash: asset_id -> AssetView
MARKETS_KEY: Final = "markets"  # hash: market_id -> MarketView
# TRADING_DB, by accounts: account:<user_id> -> AccountView
# CONTRIBUTION_DB, by accounts
WEIGHTS_KEY: Final = "weights"  # sorted set: user_id by weight (approximate score, for ranking)
# MINING_DB, by mining
POOL_KEY: Final = "pool"  # string: PoolView
EMISSION_KEY: Final = "emission"  # hash: from_second -> reward_minor
MARKS_KEY: Final = "marks"  # hash: minute's first second -> index after the minute's last second


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
    """Scales are repeated here so that a reader needs one key to render amounts of the market."""

    market_id: str
    base_asset: str
    quote_asset: str
    base_scale: int
    quote_scale: int
    tick_minor: int
    lot_minor: int
    burn_bps: int


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
    published, so published offsets rise but may skip numbers.
    """

    user_id: str
    balances: dict[str, BalanceView]
    offset: int = 0
    position: int = 0


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
    """`data` of channel account in the feed of projection accounts."""

    account: AccountView
    contribution: ContributionView
