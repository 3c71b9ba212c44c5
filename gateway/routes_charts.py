"""Candles for TradingView's charts: a UDF data feed under /v1/udf.

Source: https://www.tradingview.com/charting-library-docs/latest/connecting_data/UDF
"""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from starlette.responses import Response

from gateway.access import PUBLIC
from gateway.candles import candle_span, window
from gateway.endpoint import Call, Endpoint, NoBody, Parameters
from schemas.amounts import format_amount
from schemas.rejections import RejectionCode
from schemas.views import INTERVAL_SECONDS, Candle, MarketView
from schemas.wire_charts import (
    ChartBars,
    ChartConfiguration,
    ChartMatch,
    ChartSymbol,
    Resolution,
)
from schemas.wire_values import MarketId

BARS_MAX: Final = 2_000
TEXT: Final = "text/plain"
_INTERVALS: Final = {
    "1": "1m",
    "5": "5m",
    "15": "15m",
    "30": "30m",
    "60": "1h",
    "240": "4h",
    "1D": "1d",
    "D": "1d",
    "1W": "1w",
    "W": "1w",
}
# A chart that is scrolled far to the left asks for times before 1970.
UnixSecond = Annotated[int, msgspec.Meta(ge=-(1 << 40), le=1 << 40, description="Unix seconds.")]
Words = Annotated[str, msgspec.Meta(max_length=64)]


class SymbolParameters(Parameters, frozen=True, kw_only=True):
    symbol: MarketId


class SearchParameters(Parameters, frozen=True, kw_only=True):
    """query: part of a market's name. type, exchange: there is one of each."""

    query: Words = ""
    type: Words = ""
    exchange: Words = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 30


class HistoryParameters(Parameters, frozen=True, kw_only=True):
    """from: the first time wanted. to: not itself included. countback: so many bars before `to`,
    whatever `from` says.
    """

    symbol: MarketId
    resolution: Resolution
    from_second: UnixSecond = msgspec.field(name="from")
    to: UnixSecond
    countback: Annotated[int, msgspec.Meta(ge=0, le=1 << 31)] | None = None


async def get_chart_configuration(call: Call[Parameters, NoBody]) -> ChartConfiguration:
    """What the feed can do."""
    return ChartConfiguration()


async def get_chart_time(call: Call[Parameters, NoBody]) -> Response:
    """Unix seconds, as text."""
    return Response(str(call.resources.now_second()), media_type=TEXT)


async def get_chart_symbol(call: Call[SymbolParameters, NoBody]) -> ChartSymbol:
    """A market, as a chart has to know it."""
    market = await call.resources.catalogue.market(call.parameters.symbol)
    minmov, scale = market.tick_minor, market.quote_scale
    while scale and minmov % 10 == 0:
        minmov, scale = minmov // 10, scale - 1
    return ChartSymbol(
        name=market.market_id,
        ticker=market.market_id,
        description=_described(market),
        minmov=minmov,
        pricescale=10**scale,
        volume_precision=market.base_scale,
    )


async def search_charts(call: Call[SearchParameters, NoBody]) -> Response:
    """Markets whose name holds the words."""
    asked = call.parameters
    words = asked.query.upper()
    found = [
        ChartMatch(
            symbol=market.market_id,
            full_name=market.market_id,
            description=_described(market),
            ticker=market.market_id,
        )
        for market in await call.resources.catalogue.markets()
        if words in market.market_id.upper()
    ]
    encoded = msgspec.json.encode(found[: asked.limit])
    return Response(encoded, media_type="application/json")


async def get_chart_bars(call: Call[HistoryParameters, NoBody]) -> ChartBars:
    """Bars of a period; the newest of them if they are more than 2,000."""
    asked, views = call.parameters, call.resources.views
    market = await call.resources.catalogue.market(asked.symbol)
    interval = _INTERVALS[asked.resolution]
    width = INTERVAL_SECONDS[interval]
    span = await candle_span(views, market.market_id, interval)
    if span is None:
        return ChartBars(s="no_data")
    count = asked.countback or max(1, -(-(asked.to - asked.from_second) // width))
    part = window(span, width, from_ms=None, to_ms=asked.to * 1_000, limit=min(count, BARS_MAX))
    opened = part.open_seconds
    wanted = opened if asked.countback else [at for at in opened if at >= asked.from_second]
    candles, _ = await views.candles(market.market_id, interval, wanted)
    if candles:
        return _bars(candles, market)
    is_later = asked.to > span.first and len(opened) > 0
    return ChartBars(s="no_data", next_time=opened[-1] if is_later else None)


def _bars(candles: Sequence[Candle], market: MarketView) -> ChartBars:
    def prices(minor: Sequence[int]) -> tuple[msgspec.Raw, ...]:
        return tuple(_number(price, market.quote_scale) for price in minor)

    return ChartBars(
        s="ok",
        t=tuple(candle.open_second for candle in candles),
        o=prices([candle.open for candle in candles]),
        h=prices([candle.high for candle in candles]),
        l=prices([candle.low for candle in candles]),
        c=prices([candle.close for candle in candles]),
        v=tuple(_number(candle.volume, market.base_scale) for candle in candles),
    )


def _number(minor: int, scale: int) -> msgspec.Raw:
    return msgspec.Raw(format_amount(minor, scale).encode())


def _described(market: MarketView) -> str:
    return f"{market.base_asset} in {market.quote_asset}"


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/v1/udf/config",
        handle=get_chart_configuration,
        summary="What the chart feed can do",
        access=PUBLIC,
        answer=ChartConfiguration,
    ),
    Endpoint(
        method="GET",
        path="/v1/udf/time",
        handle=get_chart_time,
        summary="The time, for charts",
        access=PUBLIC,
        media_type=TEXT,
    ),
    Endpoint(
        method="GET",
        path="/v1/udf/symbols",
        handle=get_chart_symbol,
        summary="A market, for charts",
        access=PUBLIC,
        parameters=SymbolParameters,
        answer=ChartSymbol,
        refuses=(RejectionCode.UNKNOWN_MARKET,),
    ),
    Endpoint(
        method="GET",
        path="/v1/udf/search",
        handle=search_charts,
        summary="Markets by name, for charts",
        access=PUBLIC,
        parameters=SearchParameters,
        answer=tuple[ChartMatch, ...],
    ),
    Endpoint(
        method="GET",
        path="/v1/udf/history",
        handle=get_chart_bars,
        summary="Bars, for charts",
        access=PUBLIC,
        parameters=HistoryParameters,
        answer=ChartBars,
        refuses=(RejectionCode.UNKNOWN_MARKET,),
    ),
)
