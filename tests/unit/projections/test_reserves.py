"""Burns of one asset: totals by source, minutes of the reserve's burns."""

import msgspec
import pytest

from projections import reserves
from projections.batch import Batch
from projections.reserves import AssetState
from schemas import views
from schemas.events import AssetBurned
from schemas.views import BurnedView, BurnMinute

MINUTE = 1_700_438_400
MINUTES = (views.TRADING_DB, "reserve_burns:DUR")


def _state() -> AssetState:
    return AssetState(burned=BurnedView(asset_id="DUR"))


def _burned(amount: int, total: int, *, second: int | None = None) -> AssetBurned:
    """second: of a burn of the reserve."""
    if second is None:
        return AssetBurned(
            at_ns=0, asset_id="DUR", source="trade", user_id="u", market_id="m", trade_id=1,
            amount_minor=amount, burned_total_minor=total,
        )  # fmt: skip
    return AssetBurned(
        at_ns=second * 10**9, asset_id="DUR", source="reserve", amount_minor=amount,
        burned_total_minor=total,
    )  # fmt: skip


def test_totals_are_told_by_source() -> None:
    state = _state()
    reserves.add_burn(state, _burned(5, 5), 10)
    assert state.minute is None
    reserves.add_burn(state, _burned(7, 12, second=MINUTE), 14)
    assert state.burned == BurnedView(
        asset_id="DUR", total=12, by_trades=5, by_reserve=7, position=14
    )
    batch = Batch()
    reserves.write(state, batch)
    (content,) = batch.strings.values()
    assert msgspec.json.decode(content, type=BurnedView) == state.burned


def test_a_total_that_does_not_follow_stops_the_fold() -> None:
    with pytest.raises(AssertionError):
        reserves.add_burn(_state(), _burned(5, 6), 10)


def test_minutes_are_dense_from_the_first_reserve_burn_on() -> None:
    state, batch = _state(), Batch()
    reserves.roll(state, MINUTE, batch)
    reserves.add_burn(state, _burned(7, 7, second=MINUTE), 14)
    reserves.roll(state, MINUTE + 59, batch)
    reserves.roll(state, MINUTE + 120, batch)
    reserves.add_burn(state, _burned(4, 11, second=MINUTE + 120), 20)
    reserves.write(state, batch)
    rows = {
        int(second) - MINUTE: msgspec.json.decode(row or b"", type=BurnMinute)
        for second, row in batch.fields[MINUTES].items()
    }
    assert rows == {
        0: BurnMinute(open_second=MINUTE, burned=7, cumulative=7, last_position=14, closed=True),
        60: BurnMinute(open_second=MINUTE + 60, cumulative=7, closed=True),
        120: BurnMinute(open_second=MINUTE + 120, burned=4, cumulative=11, last_position=20),
    }
