"""Candles: counting trades, closing by log time, dense intervals."""

from projections.klines import add_trade, close_due, open_candles, whole
from schemas.views import INTERVAL_SECONDS, Candle
from tests.fixtures.ledger_logs import trade_event

MONDAY = 1_700_438_400  # 2023-11-20T00:00:00Z


def _closed(candles: dict[str, Candle], second: int, interval: str) -> list[Candle]:
    return [candle for name, candle in close_due(candles, second) if name == interval]


def test_every_interval_opens_at_its_own_boundary() -> None:
    candles = open_candles(MONDAY + 3 * 86_400 + 5 * 3_600 + 47 * 60 + 13, 700)
    opened = {name: candle.open_second - MONDAY for name, candle in candles.items()}
    day = 3 * 86_400
    assert opened == {
        "1m": day + 5 * 3_600 + 47 * 60,
        "5m": day + 5 * 3_600 + 45 * 60,
        "15m": day + 5 * 3_600 + 45 * 60,
        "30m": day + 5 * 3_600 + 30 * 60,
        "1h": day + 5 * 3_600,
        "4h": day + 4 * 3_600,
        "1d": day,
        "1w": 0,
    }


def test_trades_are_counted_in_every_interval() -> None:
    candles = open_candles(MONDAY, 700)
    add_trade(candles["1m"], trade_event(second=MONDAY, price=700, quantity=3, burned=1), 10)
    add_trade(candles["1m"], trade_event(second=MONDAY + 1, price=900, quantity=2), 14)
    sale = trade_event(second=MONDAY + 2, price=600, quantity=5, taker_side="sell")
    add_trade(candles["1m"], sale, 18)
    for interval in candles:
        assert whole(candles, interval) == Candle(
            open_second=MONDAY,
            open=700,
            high=900,
            low=600,
            close=600,
            volume=10,
            quote_volume=2_100 + 1_800 + 3_000,
            trade_count=3,
            taker_buy_volume=5,
            taker_buy_quote_volume=2_100 + 1_800,
            burned=1,
            first_position=10,
            last_position=18,
        )


def test_candle_closes_at_its_end_and_not_before() -> None:
    candles = open_candles(MONDAY, 700)
    assert _closed(candles, MONDAY + 59, "1m") == []
    (closed,) = _closed(candles, MONDAY + 60, "1m")
    assert (closed.open_second, closed.closed) == (MONDAY, True)
    assert candles["1m"].open_second == MONDAY + 60
    assert not candles["1m"].closed


def test_empty_candles_carry_the_last_close_without_positions() -> None:
    candles = open_candles(MONDAY, 700)
    add_trade(candles["1m"], trade_event(second=MONDAY, price=650, quantity=3), 10)
    closed = _closed(candles, MONDAY + 240, "1m")
    assert [candle.open_second - MONDAY for candle in closed] == [0, 60, 120, 180]
    assert closed[2] == Candle(
        open_second=MONDAY + 120, open=650, high=650, low=650, close=650, closed=True
    )


def test_candle_with_trades_opens_at_its_first_trade_not_at_the_carried_close() -> None:
    candles = open_candles(MONDAY, 700)
    add_trade(candles["1m"], trade_event(second=MONDAY, price=650, quantity=3), 10)
    _closed(candles, MONDAY + 60, "1m")
    add_trade(candles["1m"], trade_event(second=MONDAY + 70, price=800, quantity=1), 20)
    minute = candles["1m"]
    assert (minute.open, minute.high, minute.low, minute.close) == (800, 800, 800, 800)


def test_larger_candle_shows_the_closed_minutes_and_the_open_one() -> None:
    candles = open_candles(MONDAY, 700)
    add_trade(candles["1m"], trade_event(second=MONDAY, price=650, quantity=3, burned=1), 10)
    _closed(candles, MONDAY + 60, "1m")
    assert whole(candles, "5m") is candles["5m"]
    add_trade(candles["1m"], trade_event(second=MONDAY + 61, price=900, quantity=2), 20)
    shown = whole(candles, "5m")
    assert (shown.open, shown.high, shown.low, shown.close) == (650, 900, 650, 900)
    assert (shown.volume, shown.trade_count, shown.burned) == (5, 2, 1)
    assert (shown.first_position, shown.last_position, shown.closed) == (10, 20, False)
    (closed,) = _closed(candles, MONDAY + 300, "5m")
    shown.closed = True
    assert closed == shown


def test_minutes_may_be_folded_alone() -> None:
    candles = open_candles(MONDAY, 700, ["1m"])
    add_trade(candles["1m"], trade_event(second=MONDAY, price=650, quantity=3), 10)
    assert [name for name, _ in close_due(candles, MONDAY + 3_600)] == ["1m"] * 60


def test_week_closes_on_monday() -> None:
    candles = open_candles(MONDAY + 6 * 86_400, 700)
    assert _closed(candles, MONDAY + 7 * 86_400 - 1, "1w") == []
    closed = _closed(candles, MONDAY + 7 * 86_400, "1w")
    assert [candle.open_second for candle in closed] == [MONDAY]


def test_all_intervals_are_whole_minutes() -> None:
    assert all(width % 60 == 0 for width in INTERVAL_SECONDS.values())
