"""The 24-hour window against a plain merge of its minutes."""

import random

from projections.ticker import WINDOW_MINUTES, TickerWindow
from schemas.views import Candle, TickerView

START = 1_700_438_400


def _minute(number: int, chance: random.Random) -> Candle:
    prices = [chance.randint(1, 1_000) for _ in range(chance.choice((0, 0, 1, 2, 3)))]
    carried = 500
    return Candle(
        open_second=START + 60 * number,
        open=prices[0] if prices else carried,
        high=max(prices, default=carried),
        low=min(prices, default=carried),
        close=prices[-1] if prices else carried,
        volume=sum(prices),
        quote_volume=2 * sum(prices),
        trade_count=len(prices),
        burned=len(prices),
    )


def _merged(minutes: list[Candle]) -> TickerView:
    traded = [minute for minute in minutes if minute.trade_count] or minutes[-1:]
    return TickerView(
        market_id="M",
        last_price=minutes[-1].close,
        open_price=traded[0].open,
        high_price=max(minute.high for minute in traded),
        low_price=min(minute.low for minute in traded),
        volume=sum(minute.volume for minute in minutes),
        quote_volume=sum(minute.quote_volume for minute in minutes),
        trade_count=sum(minute.trade_count for minute in minutes),
        burned=sum(minute.burned for minute in minutes),
        burned_total=9,
        at_ns=8,
    )


def test_view_equals_the_merge_of_the_last_1440_minutes() -> None:
    chance = random.Random(7)
    minutes = [_minute(number, chance) for number in range(WINDOW_MINUTES * 2)]
    window = TickerWindow()
    for number, opened in enumerate(minutes):
        if number:
            window.add(minutes[number - 1])
        window.slide(opened.open_second)
        if number % 97 == 0 or number > len(minutes) - 5:
            expected = _merged(minutes[max(0, number - WINDOW_MINUTES + 1) : number + 1])
            assert window.view("M", opened, burned_total=9, last_trade_ns=8) == expected, number


def test_window_built_from_stored_minutes_goes_on_alike() -> None:
    chance = random.Random(8)
    minutes = [_minute(number, chance) for number in range(300)]
    grown = TickerWindow()
    for minute in minutes[:-1]:
        grown.add(minute)
    built = TickerWindow(minutes[:-1])
    views = [
        window.view("M", minutes[-1], burned_total=0, last_trade_ns=0) for window in (grown, built)
    ]
    assert views[0] == views[1]


def test_without_a_trade_in_the_window_every_price_is_the_last() -> None:
    window = TickerWindow()
    old = Candle(open_second=START, open=1, high=9, low=1, close=5, trade_count=2, volume=4)
    window.add(old)
    later = START + 60 * WINDOW_MINUTES
    assert window.slide(later)
    opened = Candle(open_second=later, open=5, high=5, low=5, close=5)
    view = window.view("M", opened, burned_total=0, last_trade_ns=0)
    assert (view.open_price, view.high_price, view.low_price, view.volume) == (5, 5, 5, 0)


def test_slide_says_whether_a_traded_minute_was_dropped() -> None:
    window = TickerWindow([Candle(open_second=START, open=1, high=1, low=1, close=1)])
    assert not window.slide(START + 60 * WINDOW_MINUTES)
