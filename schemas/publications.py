"""Wire shapes of what views show: REST items and the `data` of snapshots and publications alike.

Amounts are decimal strings in whole units; integers that can pass 2**53 are decimal strings too;
times are Unix milliseconds. Rendered here from views, so that both transports say the same.
"""

import msgspec

from schemas.amounts import format_amount
from schemas.events import AssetBurned
from schemas.views import (
    INTERVAL_SECONDS,
    AccountView,
    BurnMinute,
    Candle,
    ContributionView,
    DepthView,
    MarketView,
    PoolView,
    TickerView,
    TradeView,
)

MS_NS = 1_000_000


class Kline(msgspec.Struct, frozen=True, kw_only=True):
    """One candle.

    close_time is its last millisecond. volume is the quantity traded, before the burn.
    """

    open_time: int
    close_time: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str
    trade_count: int
    taker_buy_volume: str
    taker_buy_quote_volume: str
    burned: str
    first_position: int
    last_position: int
    closed: bool


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    trade_id: int
    time: int
    price: str
    quantity: str
    quote_quantity: str
    taker_side: str
    burned: str
    position: int


class Burn(msgspec.Struct, frozen=True, kw_only=True):
    """One burn of the market's base asset; burned_total is the asset's, ever.

    trade_id: of the trade that it is part of; absent for a burn of the reserve.
    """

    trade_id: int | msgspec.UnsetType = msgspec.UNSET
    time: int
    burned: str
    burned_total: str
    position: int


class BurnRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One minute's burn in one market; minutes without a burn have a record too."""

    open_time: int
    close_time: int
    burned: str
    trade_count: int
    cumulative: str
    closed: bool


class BurnPublication(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`data` of channel burns.M: {"trade": Burn} for each trade's burn, {"reserve": Burn} for each
    of the base asset's reserve, {"minute": BurnRecord} when one closes.
    """

    trade: Burn | None = None
    reserve: Burn | None = None
    minute: BurnRecord | None = None


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """The best levels of each side as [price, quantity], best first."""

    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]


class DepthChange(msgspec.Struct, frozen=True, kw_only=True):
    """`data` of channel depth.M: the levels that changed, as [price, quantity]; a quantity of "0"
    takes the level out.

    previous: the offset (a position) of the publication or snapshot that this one follows.
    """

    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]
    previous: int


class Ticker(msgspec.Struct, frozen=True, kw_only=True):
    market: str
    last: str
    open: str
    high: str
    low: str
    change: str
    volume: str
    quote_volume: str
    trade_count: int
    burned: str
    burned_total: str
    time: int


class Pulse(msgspec.Struct, frozen=True, kw_only=True):
    """Once a second. index is scaled by 2**64; a phone shows
    (weight * (index - entry_index) + entry_fraction) >> 64 minor units accrued.
    prices: last price by market; markets without a trade are absent.
    """

    second: int
    index: str
    reward: str
    weight_total: str
    prices: dict[str, str]


class MiningPool(msgspec.Struct, frozen=True, kw_only=True):
    asset: str
    scale: int
    pool: str
    allocated: str
    remaining: str
    reward_per_second: str
    weight_total: str
    index: str
    carry: str
    second: int
    genesis_second: int
    position: int


class AssetBalance(msgspec.Struct, frozen=True, kw_only=True):
    asset: str
    scale: int
    available: str
    held: str
    total: str


class Mining(msgspec.Struct, frozen=True, kw_only=True):
    """A user's place in the pool; settled is what was paid out to balances so far."""

    weight: str
    entry_index: str
    entry_fraction: str
    settled: str


class BalanceNow(msgspec.Struct, frozen=True, kw_only=True):
    """`data` of channel balance: what a user has of the mined asset as of `second`.

    amount: available, held and accrued. accrued: of it, what mining has not paid out yet.
    values: the amount at the last price, rounded down, by market in which the asset is the base.
    """

    second: int
    asset: str
    amount: str
    accrued: str
    values: dict[str, str]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Snapshot and publication of channel account: always the whole account."""

    user_id: str
    balances: tuple[AssetBalance, ...]
    mining: Mining
    position: int


def kline(candle: Candle, market: MarketView, interval: str) -> Kline:
    base, quote = market.base_scale, market.quote_scale
    return Kline(
        open_time=candle.open_second * 1_000,
        close_time=(candle.open_second + INTERVAL_SECONDS[interval]) * 1_000 - 1,
        open=format_amount(candle.open, quote),
        high=format_amount(candle.high, quote),
        low=format_amount(candle.low, quote),
        close=format_amount(candle.close, quote),
        volume=format_amount(candle.volume, base),
        quote_volume=format_amount(candle.quote_volume, quote),
        trade_count=candle.trade_count,
        taker_buy_volume=format_amount(candle.taker_buy_volume, base),
        taker_buy_quote_volume=format_amount(candle.taker_buy_quote_volume, quote),
        burned=format_amount(candle.burned, base),
        first_position=candle.first_position,
        last_position=candle.last_position,
        closed=candle.closed,
    )


def trade(view: TradeView, market: MarketView) -> Trade:
    return Trade(
        trade_id=view.trade_id,
        time=view.at_ns // MS_NS,
        price=format_amount(view.price, market.quote_scale),
        quantity=format_amount(view.quantity, market.base_scale),
        quote_quantity=format_amount(view.quote, market.quote_scale),
        taker_side=view.taker_side,
        burned=format_amount(view.burned, market.base_scale),
        position=view.position,
    )


def depth(view: DepthView, market: MarketView) -> Depth:
    return Depth(
        bids=_levels([(level.price, level.quantity) for level in view.bids], market),
        asks=_levels([(level.price, level.quantity) for level in view.asks], market),
    )


def depth_change(
    bids: list[tuple[int, int]], asks: list[tuple[int, int]], market: MarketView, *, previous: int
) -> DepthChange:
    """bids, asks: (price, quantity) in minor units; a quantity of 0 takes the level out."""
    return DepthChange(bids=_levels(bids, market), asks=_levels(asks, market), previous=previous)


def _levels(levels: list[tuple[int, int]], market: MarketView) -> tuple[tuple[str, str], ...]:
    base, quote = market.base_scale, market.quote_scale
    return tuple(
        [
            (format_amount(price, quote), format_amount(quantity, base) if quantity else "0")
            for price, quantity in levels
        ]
    )


def burn(event: AssetBurned, position: int, scale: int) -> Burn:
    """scale: of the burned asset."""
    return Burn(
        trade_id=msgspec.UNSET if event.trade_id is None else event.trade_id,
        time=event.at_ns // MS_NS,
        burned=format_amount(event.amount_minor, scale),
        burned_total=format_amount(event.burned_total_minor, scale),
        position=position,
    )


def burn_record(minute: BurnMinute, market: MarketView) -> BurnRecord:
    return burned_minute(minute, market.base_scale)


def burned_minute(minute: BurnMinute, scale: int) -> BurnRecord:
    """scale: of the burned asset."""
    return BurnRecord(
        open_time=minute.open_second * 1_000,
        close_time=(minute.open_second + 60) * 1_000 - 1,
        burned=format_amount(minute.burned, scale),
        trade_count=minute.trade_count,
        cumulative=format_amount(minute.cumulative, scale),
        closed=minute.closed,
    )


def ticker(view: TickerView, market: MarketView) -> Ticker:
    base, quote = market.base_scale, market.quote_scale
    return Ticker(
        market=view.market_id,
        last=format_amount(view.last_price, quote),
        open=format_amount(view.open_price, quote),
        high=format_amount(view.high_price, quote),
        low=format_amount(view.low_price, quote),
        change=format_amount(view.last_price - view.open_price, quote),
        volume=format_amount(view.volume, base),
        quote_volume=format_amount(view.quote_volume, quote),
        trade_count=view.trade_count,
        burned=format_amount(view.burned, base),
        burned_total=format_amount(view.burned_total, base),
        time=view.at_ns // MS_NS,
    )


def mining_pool(view: PoolView) -> MiningPool:
    return MiningPool(
        asset=view.asset_id,
        scale=view.scale,
        pool=format_amount(view.pool_minor, view.scale),
        allocated=format_amount(view.allocated_minor, view.scale),
        remaining=format_amount(view.pool_minor - view.allocated_minor, view.scale),
        reward_per_second=format_amount(view.reward_minor, view.scale),
        weight_total=str(view.weight_total),
        index=str(view.index),
        carry=str(view.carry),
        second=view.second,
        genesis_second=view.genesis_second,
        position=view.position,
    )


def account(
    view: AccountView,
    contribution: ContributionView,
    scales: dict[str, int],
    mined_scale: int,
) -> Account:
    """scales: of every asset, by id. mined_scale: of the asset that mining pays in."""
    return Account(
        user_id=view.user_id,
        balances=tuple(
            AssetBalance(
                asset=asset_id,
                scale=scales[asset_id],
                available=format_amount(balance.available, scales[asset_id]),
                held=format_amount(balance.held, scales[asset_id]),
                total=format_amount(balance.available + balance.held, scales[asset_id]),
            )
            for asset_id, balance in sorted(view.balances.items())
        ),
        mining=Mining(
            weight=str(contribution.weight),
            entry_index=str(contribution.entry_index),
            entry_fraction=str(contribution.entry_fraction),
            settled=format_amount(contribution.settled_minor, mined_scale),
        ),
        position=max(view.position, contribution.position),
    )
