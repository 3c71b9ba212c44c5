"""Public reads of markets: GET /v1/markets, ticker, trades, klines, burns."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.candles import candle_span, window
from gateway.errors import Refusal
from gateway.requests import (
    answer,
    invalid,
    query_limit,
    query_period,
    query_text,
    resources,
)
from schemas import publications
from schemas.amounts import format_amount
from schemas.views import INTERVAL_SECONDS, BurnMinute, Candle, MarketView
from schemas.wire import BurnPage, Market, Page, WireCode

TRADES_DEFAULT = 50


async def get_markets(request: Request) -> Response:
    markets = await resources(request).catalogue.markets()
    return answer(Page(items=tuple(_market(view) for view in markets)))


async def get_ticker(request: Request) -> Response:
    market = await resources(request).catalogue.market(query_text(request, "market"))
    view, _ = await resources(request).views.ticker(market.market_id)
    if view is None:
        raise Refusal(
            WireCode.NOT_FOUND, "No trade in this market yet.", {"market": market.market_id}
        )
    return answer(publications.ticker(view, market))


async def get_trades(request: Request) -> Response:
    """The newest `limit`, oldest of them first."""
    market = await resources(request).catalogue.market(query_text(request, "market"))
    limit = query_limit(request, TRADES_DEFAULT)
    found, _ = await resources(request).views.trades(market.market_id, limit)
    return answer(Page(items=tuple(publications.trade(view, market) for view in found)))


async def get_klines(request: Request) -> Response:
    market = await resources(request).catalogue.market(query_text(request, "market"))
    interval = query_text(request, "interval")
    if interval not in INTERVAL_SECONDS:
        raise invalid(f"interval must be one of {' '.join(INTERVAL_SECONDS)}.", "interval")
    (from_ms, to_ms), limit = query_period(request), query_limit(request)
    views, candles, next_ms = resources(request).views, list[Candle](), None
    span = await candle_span(views, market.market_id, interval)
    if span is not None:
        width = INTERVAL_SECONDS[interval]
        asked = window(span, width, from_ms=from_ms, to_ms=to_ms, limit=limit)
        candles, _ = await views.candles(market.market_id, interval, asked.open_seconds)
        next_ms = asked.next_ms
    items = tuple(publications.kline(candle, market, interval) for candle in candles)
    return answer(Page(items=items, next_cursor=_cursor(next_ms)))


async def get_burns(request: Request) -> Response:
    """One record per minute since the market's first trade, also for minutes without a burn."""
    market = await resources(request).catalogue.market(query_text(request, "market"))
    (from_ms, to_ms), limit = query_period(request), query_limit(request)
    views, minutes, next_ms, total = resources(request).views, list[BurnMinute](), None, 0
    # The minutes of burns and of 1m candles begin and end together.
    span = await candle_span(views, market.market_id, "1m")
    if span is not None:
        asked = window(span, INTERVAL_SECONDS["1m"], from_ms=from_ms, to_ms=to_ms, limit=limit)
        read, _ = await views.burn_minutes(market.market_id, [*asked.open_seconds, span.newest])
        minutes = [minute for minute in read[:-1]]
        next_ms, total = asked.next_ms, read[-1].cumulative
    page = BurnPage(
        items=tuple(publications.burn_record(minute, market) for minute in minutes),
        next_cursor=_cursor(next_ms),
        cumulative=format_amount(total, market.base_scale),
    )
    return answer(page)


def _cursor(next_ms: int | None) -> str | None:
    return None if next_ms is None else str(next_ms)


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
    )


ROUTES = (
    Route("/v1/markets", get_markets, methods=["GET"]),
    Route("/v1/ticker", get_ticker, methods=["GET"]),
    Route("/v1/trades", get_trades, methods=["GET"]),
    Route("/v1/klines", get_klines, methods=["GET"]),
    Route("/v1/burns", get_burns, methods=["GET"]),
)
