"""Candles of one market, every interval at once. Closed by log time, dense from the first
trade's candle.

A trade is counted in the open minute only. A larger candle is kept without that minute and
merged with it whenever it is shown, so an hour, day or week is the merge of its minutes by
construction. A candle with trades opens at its first trade's price; one without carries the last
close, volume zero.
"""

from collections.abc import Iterable, Iterator

import msgspec

from schemas.events import TradeExecuted
from schemas.views import INTERVAL_SECONDS, Candle, open_second

INTERVALS = tuple(INTERVAL_SECONDS)
MINUTE = "1m"
MINUTE_SECONDS = INTERVAL_SECONDS[MINUTE]


def open_candles(
    second: int, price: int, intervals: Iterable[str] = INTERVALS
) -> dict[str, Candle]:
    """The empty candles that a market's first trade falls into; 1m must be among the intervals."""
    return {interval: _empty(open_second(second, interval), price) for interval in intervals}


def add_trade(minute: Candle, event: TradeExecuted, position: int) -> None:
    """Count one trade in the open minute, in place."""
    price, quantity, quote = event.price_minor, event.quantity_minor, event.quote_minor
    if minute.trade_count == 0:
        minute.open = minute.high = minute.low = price
        minute.first_position = position
    elif price > minute.high:
        minute.high = price
    elif price < minute.low:
        minute.low = price
    minute.close = price
    minute.volume += quantity
    minute.quote_volume += quote
    minute.trade_count += 1
    if event.taker_side == "buy":
        minute.taker_buy_volume += quantity
        minute.taker_buy_quote_volume += quote
    minute.burned += event.burned_minor
    minute.last_position = position


def whole(candles: dict[str, Candle], interval: str) -> Candle:
    """The open candle of an interval as it is shown: the open minute's trades included."""
    candle, minute = candles[interval], candles[MINUTE]
    if interval == MINUTE or minute.trade_count == 0:
        return candle
    shown = msgspec.structs.replace(candle)
    _absorb(shown, minute)
    return shown


def close_due(candles: dict[str, Candle], second: int) -> Iterator[tuple[str, Candle]]:
    """Close every candle that ends at or before `second` and open the next; yields the closed ones.

    Minute by minute, each before the larger ones that end with it. Empty candles in between are
    closed too, so nothing is skipped.
    """
    minute = candles[MINUTE]
    larger = [name for name in candles if name != MINUTE]
    while (ends := minute.open_second + MINUTE_SECONDS) <= second:
        minute.closed = True
        yield MINUTE, minute
        for interval in larger:
            candle = candles[interval]
            if minute.trade_count:
                _absorb(candle, minute)
            if candle.open_second + INTERVAL_SECONDS[interval] == ends:
                candle.closed = True
                yield interval, candle
                candles[interval] = _empty(ends, candle.close)
        minute = candles[MINUTE] = _empty(ends, minute.close)


def _absorb(candle: Candle, minute: Candle) -> None:
    if candle.trade_count == 0:
        candle.open, candle.high, candle.low = minute.open, minute.high, minute.low
        candle.first_position = minute.first_position
    else:
        candle.high = max(candle.high, minute.high)
        candle.low = min(candle.low, minute.low)
    candle.close = minute.close
    candle.volume += minute.volume
    candle.quote_volume += minute.quote_volume
    candle.trade_count += minute.trade_count
    candle.taker_buy_volume += minute.taker_buy_volume
    candle.taker_buy_quote_volume += minute.taker_buy_quote_volume
    candle.burned += minute.burned
    candle.last_position = minute.last_position


def _empty(second: int, price: int) -> Candle:
    return Candle(open_second=second, open=price, high=price, low=price, close=price)
