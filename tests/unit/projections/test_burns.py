"""Burn minutes: one for every minute, cumulative over the market's life."""

from projections.burns import add_reserve_burn, add_trade, close_due, open_minute
from schemas.events import AssetBurned
from schemas.views import BurnMinute
from tests.fixtures.ledger_logs import trade_event

MINUTE = 1_700_438_400


def test_trades_without_a_burn_are_counted_too() -> None:
    minute = open_minute(MINUTE + 31)
    add_trade(minute, trade_event(second=MINUTE + 31, price=1, quantity=5, burned=2), 7)
    add_trade(minute, trade_event(second=MINUTE + 32, price=1, quantity=5), 9)
    expected = BurnMinute(
        open_second=MINUTE, burned=2, trade_count=2, cumulative=2, last_position=9
    )
    assert minute == expected


def test_minutes_without_trades_have_a_record_with_the_cumulative_total() -> None:
    minute = open_minute(MINUTE)
    add_trade(minute, trade_event(second=MINUTE, price=1, quantity=5, burned=2), 7)
    rolled = list(close_due(minute, MINUTE + 150))
    assert [(m.open_second - MINUTE, m.burned, m.cumulative, m.closed) for m in rolled] == [
        (0, 2, 2, True),
        (60, 0, 2, True),
        (120, 0, 2, False),
    ]


def test_reserve_burns_are_no_trades() -> None:
    minute = open_minute(MINUTE, 5)
    burned = AssetBurned(
        at_ns=0, asset_id="DUR", source="reserve", amount_minor=3, burned_total_minor=9
    )
    add_reserve_burn(minute, burned, 7)
    assert minute == BurnMinute(
        open_second=MINUTE, burned=3, trade_count=0, cumulative=8, last_position=7
    )


def test_minute_stays_open_until_its_end() -> None:
    minute = open_minute(MINUTE)
    assert list(close_due(minute, MINUTE + 59)) == [minute]
    assert not minute.closed
