"""Public reads of markets: rules, tickers, depth, trades, candles and burns."""

from typing import Annotated, Final, Literal

import msgspec

from gateway.access import PUBLIC
from gateway.candles import candle_span, window
from gateway.endpoint import ITEMS_MAX, Call, Endpoint, NoBody, Reading, TimeMs
from gateway.errors import Refusal
from gateway.market_trades import trades_before
from gateway.reading import caught_up
from gateway.requests import invalid
from schemas import publications
from schemas.amounts import format_amount
from schemas.publications import BurnRecord, Kline, Ticker, Trade
from schemas.rejections import RejectionCode
from schemas.views import DEPTH_LEVELS_MAX, INTERVAL_SECONDS, MARKET, BurnMinute, Candle, MarketView
from schemas.wire import BurnPage, Market, Page, WireCode
from schemas.wire_trading import BurnTotal, MarketDepth
from schemas.wire_values import AssetId, MarketId

FOREVER_SECOND: Final = 1 << 42
Interval = Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w"]
TradesLimit = Annotated[int, msgspec.Meta(ge=1, le=ITEMS_MAX, description="How many at most.")]
Levels = Annotated[
    int, msgspec.Meta(ge=1, le=DEPTH_LEVELS_MAX, description="How many levels of each side.")
]
TradeCursor = Annotated[
    int, msgspec.Meta(ge=1, le=(1 << 53) - 1, description="A page's next_cursor.")
]


class OneMarket(Reading, frozen=True, kw_only=True):
    market: MarketId


class DepthParameters(Reading, frozen=True, kw_only=True):
    market: MarketId
    levels: Levels = 20


class TradesParameters(Reading, frozen=True, kw_only=True):
    market: MarketId
    limit: TradesLimit = 50
    cursor: TradeCursor | None = None


class Period(Reading, frozen=True, kw_only=True):
    """from: the first open time wanted, the newest `limit` without it. to: not itself included.

    cursor: where the page before ended, instead of from.
    """

    from_ms: TimeMs | None = msgspec.field(default=None, name="from")
    to: TimeMs | None = None
    cursor: TimeMs | None = None
    limit: TradesLimit = 500

    @property
    def begins_ms(self) -> int | None:
        return self.from_ms if self.cursor is None else self.cursor


class KlineParameters(Period, frozen=True, kw_only=True):
    market: MarketId
    interval: Interval


class BurnParameters(Period, frozen=True, kw_only=True):
    """market: its trades' burns. asset: the burns of the reserve of this asset. One of the two."""

    market: MarketId | None = None
    asset: AssetId | None = None


class BurnTotalParameters(Reading, frozen=True, kw_only=True):
    asset: AssetId


async def get_markets(call: Call[Reading, NoBody]) -> Page[Market]:
    """Every market with its rules, by id."""
    await caught_up(call, MARKET)
    markets = await call.resources.catalogue.markets()
    return Page(items=tuple(_market(view) for view in markets))


async def get_market(call: Call[OneMarket, NoBody]) -> Market:
    """One market with its rules."""
    await caught_up(call, MARKET)
    return _market(await call.resources.catalogue.market(call.parameters.market))


async def get_ticker(call: Call[OneMarket, NoBody]) -> Ticker:
    """The last 24 hours of a market; there is nothing to say before its first trade (not_found)."""
    await caught_up(call, MARKET)
    market = await call.resources.catalogue.market(call.parameters.market)
    view, _ = await call.resources.views.ticker(market.market_id)
    if view is None:
        raise Refusal(
            WireCode.NOT_FOUND, "No trade in this market yet.", {"market": market.market_id}
        )
    return publications.ticker(view, market)


async def get_tickers(call: Call[Reading, NoBody]) -> Page[Ticker]:
    """The last 24 hours of every market that had a trade, by market."""
    await caught_up(call, MARKET)
    markets = {view.market_id: view for view in await call.resources.catalogue.markets()}
    found = await call.resources.views.tickers(list(markets)) if markets else []
    return Page(items=tuple(publications.ticker(view, markets[view.market_id]) for view in found))


async def get_depth(call: Call[DepthParameters, NoBody]) -> MarketDepth:
    """The order book's best levels."""
    await caught_up(call, MARKET)
    asked = call.parameters
    market = await call.resources.catalogue.market(asked.market)
    view, _ = await call.resources.views.depth(market.market_id)
    if view is None:
        return MarketDepth(market=market.market_id, bids=(), asks=(), position=0)
    view = msgspec.structs.replace(
        view, bids=view.bids[: asked.levels], asks=view.asks[: asked.levels]
    )
    levels = publications.depth(view, market)
    return MarketDepth(
        market=market.market_id, bids=levels.bids, asks=levels.asks, position=view.position
    )


async def get_trades(call: Call[TradesParameters, NoBody]) -> Page[Trade]:
    """The newest `limit`, oldest of them first; next_cursor leads to those before."""
    await caught_up(call, MARKET)
    asked = call.parameters
    market = await call.resources.catalogue.market(asked.market)
    found, before = await trades_before(call.resources, market.market_id, asked.cursor, asked.limit)
    items = tuple(publications.trade(view, market) for view in found)
    return Page(items=items, next_cursor=_cursor(before))


async def get_klines(call: Call[KlineParameters, NoBody]) -> Page[Kline]:
    """Candles, oldest first: one for every interval since the market's first trade."""
    await caught_up(call, MARKET)
    asked = call.parameters
    market = await call.resources.catalogue.market(asked.market)
    views, candles, next_ms = call.resources.views, list[Candle](), None
    span = await candle_span(views, market.market_id, asked.interval)
    if span is not None:
        width = INTERVAL_SECONDS[asked.interval]
        part = window(span, width, from_ms=asked.begins_ms, to_ms=asked.to, limit=asked.limit)
        candles, _ = await views.candles(market.market_id, asked.interval, part.open_seconds)
        next_ms = part.next_ms
    items = tuple(publications.kline(candle, market, asked.interval) for candle in candles)
    return Page(items=items, next_cursor=_cursor(next_ms))


async def get_burns(call: Call[BurnParameters, NoBody]) -> BurnPage:
    """One record per minute, oldest first: of a market since its first trade, of a reserve since
    its first burn, also for minutes without a burn. The reserve's are of minutes that are over.
    """
    await caught_up(call, MARKET)
    asked = call.parameters
    if (asked.market is None) == (asked.asset is None):
        raise invalid("Give market or asset, one of them.", "market")
    if asked.asset is not None:
        return await _reserve_burns(call, asked.asset)
    assert asked.market is not None
    market = await call.resources.catalogue.market(asked.market)
    views, minutes, next_ms, total = call.resources.views, list[BurnMinute](), None, 0
    # The minutes of burns and of 1m candles begin and end together.
    span = await candle_span(views, market.market_id, "1m")
    if span is not None:
        width = INTERVAL_SECONDS["1m"]
        part = window(span, width, from_ms=asked.begins_ms, to_ms=asked.to, limit=asked.limit)
        read, _ = await views.burn_minutes(market.market_id, [*part.open_seconds, span.newest])
        minutes = [minute for minute in read[:-1]]
        next_ms, total = part.next_ms, read[-1].cumulative
    return _burn_page(minutes, next_ms, total, market.base_scale)


async def get_burn_total(call: Call[BurnTotalParameters, NoBody]) -> BurnTotal:
    """What was ever burned of an asset."""
    await caught_up(call, MARKET)
    scale = await call.resources.catalogue.scale(call.parameters.asset)
    view = await call.resources.views.burned(call.parameters.asset)
    return BurnTotal(
        asset=view.asset_id,
        total=format_amount(view.total, scale),
        by_trades=format_amount(view.by_trades, scale),
        by_reserve=format_amount(view.by_reserve, scale),
        position=view.position,
    )


async def _reserve_burns(call: Call[BurnParameters, NoBody], asset_id: str) -> BurnPage:
    asked, history = call.parameters, call.resources.history
    scale = await call.resources.catalogue.scale(asset_id)
    if history is None:
        raise Refusal(WireCode.HISTORY_UNAVAILABLE, "No deep history is configured here.")
    begins, ends = asked.begins_ms, FOREVER_SECOND if asked.to is None else _second(asked.to)
    rows = await history.reserve_burns(
        asset_id,
        from_second=None if begins is None else _second(begins),
        to_second=ends,
        limit=asked.limit + 1,
    )
    total = (await call.resources.views.burned(asset_id)).by_reserve
    is_more = begins is not None and len(rows) > asked.limit
    # Without `from` the one too many is the oldest.
    shown = rows[: asked.limit] if begins is not None else rows[-asked.limit :]
    minutes = [
        BurnMinute(
            open_second=row.open_second,
            burned=row.burned_minor,
            trade_count=row.trade_count,
            cumulative=row.cumulative_minor,
            closed=True,
        )
        for row in shown
    ]
    next_ms = rows[-1].open_second * 1_000 if is_more else None
    return _burn_page(minutes, next_ms, total, scale)


def _second(ms: int) -> int:
    return -(-ms // 1_000)


def _burn_page(minutes: list[BurnMinute], next_ms: int | None, total: int, scale: int) -> BurnPage:
    items: tuple[BurnRecord, ...] = tuple(
        publications.burned_minute(minute, scale) for minute in minutes
    )
    return BurnPage(
        items=items, next_cursor=_cursor(next_ms), cumulative=format_amount(total, scale)
    )


def _cursor(next_one: int | None) -> str | None:
    return None if next_one is None else str(next_one)


def _market(view: MarketView) -> Market:
    return Market(
        market=view.market_id,
        base_asset=view.base_asset,
        quote_asset=view.quote_asset,
        base_scale=view.base_scale,
        quote_scale=view.quote_scale,
        tick_size=format_amount(view.tick_minor, view.quote_scale),
        lot_size=format_amount(view.lot_minor, view.base_scale),
        burn_bps=view.burn_bps,
        maker_fee_bps=view.maker_fee_bps,
        taker_fee_bps=view.taker_fee_bps,
        band_bps=view.band_bps,
        min_notional=format_amount(view.min_notional_minor, view.quote_scale),
        open_orders_max=view.open_orders_max,
        is_halted=view.is_halted,
        halt_reason=view.halt_reason,
    )


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/v1/markets",
        handle=get_markets,
        summary="Markets and their rules",
        access=PUBLIC,
        parameters=Reading,
        answer=Page[Market],
    ),
    Endpoint(
        method="GET",
        path="/v1/markets/{market}",
        handle=get_market,
        summary="One market and its rules",
        access=PUBLIC,
        parameters=OneMarket,
        answer=Market,
        refuses=(RejectionCode.UNKNOWN_MARKET,),
    ),
    Endpoint(
        method="GET",
        path="/v1/ticker",
        handle=get_ticker,
        summary="The last 24 hours of a market",
        access=PUBLIC,
        parameters=OneMarket,
        answer=Ticker,
        refuses=(RejectionCode.UNKNOWN_MARKET, WireCode.NOT_FOUND),
    ),
    Endpoint(
        method="GET",
        path="/v1/tickers",
        handle=get_tickers,
        summary="The last 24 hours of all markets",
        access=PUBLIC,
        parameters=Reading,
        answer=Page[Ticker],
    ),
    Endpoint(
        method="GET",
        path="/v1/depth",
        handle=get_depth,
        summary="The order book",
        access=PUBLIC,
        parameters=DepthParameters,
        answer=MarketDepth,
        refuses=(RejectionCode.UNKNOWN_MARKET,),
    ),
    Endpoint(
        method="GET",
        path="/v1/trades",
        handle=get_trades,
        summary="Trades of a market",
        access=PUBLIC,
        parameters=TradesParameters,
        answer=Page[Trade],
        refuses=(RejectionCode.UNKNOWN_MARKET,),
    ),
    Endpoint(
        method="GET",
        path="/v1/klines",
        handle=get_klines,
        summary="Candles of a market",
        access=PUBLIC,
        parameters=KlineParameters,
        answer=Page[Kline],
        refuses=(RejectionCode.UNKNOWN_MARKET,),
    ),
    Endpoint(
        method="GET",
        path="/v1/burns",
        handle=get_burns,
        summary="Burns by the minute",
        access=PUBLIC,
        parameters=BurnParameters,
        answer=BurnPage,
        refuses=(RejectionCode.UNKNOWN_MARKET, RejectionCode.UNKNOWN_ASSET),
    ),
    Endpoint(
        method="GET",
        path="/v1/burns/total",
        handle=get_burn_total,
        summary="What was ever burned of an asset",
        access=PUBLIC,
        parameters=BurnTotalParameters,
        answer=BurnTotal,
        refuses=(RejectionCode.UNKNOWN_ASSET,),
    ),
)
