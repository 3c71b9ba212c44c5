"""Candles of one market, every interval at once. Closed by log time, dense from the first
trade's candle.

A candle with trades opens at its first trade's price; one without carries the last close, volume
zero. So an hour, day or week equals the merge of its minutes that have trades.
"""

from collections.abc import Iterator

from schemas.events import TradeExecuted
from schemas.views import INTERVAL_SECONDS, Candle, open_second

INTERVALS = tuple(INTERVAL_SECONDS)


def open_candles(second: int, price: int) -> dict[str, Candle]:
    """The empty candles that a market's first trade falls into, by interval."""
    return {interval: _empty(open_second(second, interval), price) for interval in INTERVAL_SECONDS}


def add_trade(candles: dict[str, Candle], event: TradeExecuted, position: int) -> None:
    """Count one trade in the open candle of every interval, in place."""
    price, quantity, quote = event.price_minor, event.quantity_minor, event.quote_minor
    taker_buys = event.taker_side == "buy"
    for candle in candles.values():
        if candle.trade_count == 0:
            candle.open = candle.high = candle.low = price
            candle.first_position = position
        elif price > candle.high:
            candle.high = price
        elif price < candle.low:
            candle.low = price
        candle.close = price
        candle.volume += quantity
        candle.quote_volume += quote
        candle.trade_count += 1
        if taker_buys:
            candle.taker_buy_volume += quantity
            candle.taker_buy_quote_volume += quote
        candle.burned += event.burned_minor
        candle.last_position = position


def close_due(candles: dict[str, Candle], second: int) -> Iterator[tuple[str, Candle]]:
    """Close every candle that ends at or before `second` and open the next; yields the closed ones.

    Oldest first within an interval. Empty candles in between are closed too, so nothing is skipped.
    """
    for interval, width in INTERVAL_SECONDS.items():
        candle = candles[interval]
        while candle.open_second + width <= second:
            candle.closed = True
            yield interval, candle
            candle = candles[interval] = _empty(candle.open_second + width, candle.close)


def _empty(second: int, price: int) -> Candle:
    return Candle(open_second=second, open=price, high=price, low=price, close=price)
