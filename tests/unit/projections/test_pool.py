"""The projection `mining`: pool, marks, pulse; and that a wrong index stops it."""

import msgspec
import pytest

from projections.fresh import FreshFold
from projections.pool import PoolFold
from schemas import views
from schemas.events import MiningAllocated
from schemas.publications import Pulse
from schemas.views import PoolView
from tests.fixtures.ledger_logs import LogBuilder, positioned

DB = views.MINING_DB
GENESIS = 1_700_438_400


def _mined(seconds: int) -> LogBuilder:
    builder = LogBuilder(genesis_second=GENESIS)
    builder.pass_seconds(1)
    builder.open_users("maker", "taker")
    builder.pass_seconds(seconds - 1)
    return builder


def _pool(builder: LogBuilder) -> PoolView:
    stored = FreshFold(views.MINING).fold_all(positioned(builder.log))
    content = stored.views[DB, views.POOL_KEY]
    assert isinstance(content, bytes)
    return msgspec.json.decode(content, type=PoolView)


def test_pool_equals_the_ledgers_own_state() -> None:
    builder = _mined(200)
    pool, mining = _pool(builder), builder.state.mining
    assert mining is not None
    assert (pool.index, pool.carry, pool.allocated_minor, pool.second, pool.weight_total) == (
        mining.index,
        mining.carry,
        mining.allocated_minor,
        mining.last_second,
        mining.weight_total,
    )
    assert pool.position == len(builder.log)


def test_pool_is_there_before_the_first_second() -> None:
    pool = _pool(LogBuilder(genesis_second=GENESIS))
    assert (pool.second, pool.allocated_minor) == (GENESIS - 1, 0)


def test_each_full_minute_has_the_index_after_its_last_second() -> None:
    builder = _mined(150)
    stored = FreshFold(views.MINING).fold_all(positioned(builder.log))
    index_at = {e.second: e.index for e in builder.log if isinstance(e, MiningAllocated)}
    assert stored.views[DB, views.MARKS_KEY] == {
        str(GENESIS): str(index_at[GENESIS + 59]).encode(),
        str(GENESIS + 60): str(index_at[GENESIS + 119]).encode(),
    }


def test_only_the_newest_second_of_a_batch_is_pulsed() -> None:
    builder = _mined(10)
    builder.trade(price=10_000, quantity=1_000)
    builder.pass_seconds(1)
    fold = PoolFold()
    for position, event in positioned(builder.log):
        fold.fold(position, event)
    (pulse,) = [entry for entry in fold.drain().publications if entry.channel == "pulse"]
    assert pulse.offset == builder.second
    shown = msgspec.json.decode(pulse.data, type=Pulse)
    assert shown.prices == {"DUR-CNY": "1.00000000"}
    assert shown.reward == "1.00000000"
    assert fold.drain().publications == []


def _pulse(builder: LogBuilder) -> Pulse | None:
    stored = FreshFold(views.MINING).fold_all(positioned(builder.log))
    content = stored.views.get((DB, views.PULSE_KEY))
    return msgspec.json.decode(content, type=Pulse) if content else None  # type: ignore[arg-type]


def test_pulse_is_a_view_of_the_newest_second_with_the_prices_so_far() -> None:
    assert _pulse(LogBuilder(genesis_second=GENESIS)) is None
    builder = _mined(10)
    builder.trade(price=10_000, quantity=1_000)
    pulse = _pulse(builder)
    assert pulse is not None
    assert (pulse.second, pulse.prices) == (builder.second, {"DUR-CNY": "1.00000000"})


def test_quiet_fold_shows_a_pulse_and_publishes_none() -> None:
    builder = _mined(70)
    fold = PoolFold(quiet=True)
    for position, event in positioned(builder.log):
        fold.fold(position, event)
    batch = fold.drain()
    assert batch.publications == []
    assert (DB, views.PULSE_KEY) in batch.strings
    assert batch.fields[DB, views.offsets_key(views.MINING)] == {"mining": b"2"}


def test_marks_cover_minutes_in_which_nothing_is_allocated() -> None:
    builder = LogBuilder(genesis_second=GENESIS + 30)
    builder.pass_seconds(100)
    builder.open_users("maker")
    builder.pass_seconds(60)
    stored = FreshFold(views.MINING).fold_all(positioned(builder.log)).views[DB, views.MARKS_KEY]
    assert isinstance(stored, dict)
    # The first minute is half a minute long; nobody had weight before the third.
    assert [int(second) - GENESIS for second in stored] == [0, 60, 120]
    assert [stored[str(GENESIS + minute)] for minute in (0, 60)] == [b"0", b"0"]
    assert stored[str(GENESIS + 120)] != b"0"


def test_pool_is_published_once_a_minute() -> None:
    builder = _mined(150)
    stored = FreshFold(views.MINING).fold_all(positioned(builder.log))
    mining = [entry.offset for entry in stored.feeds[0] if entry.channel == "mining"]
    assert mining == [1, 2, 3]


@pytest.mark.parametrize("field", ["index", "carry", "second", "allocated_minor"])
def test_second_that_does_not_follow_stops_the_fold(field: str) -> None:
    builder = _mined(5)
    last = builder.log[-1]
    wrong = msgspec.structs.replace(last, **{field: getattr(last, field) + 1})
    with pytest.raises(AssertionError):
        FreshFold(views.MINING).fold_all(positioned([*builder.log[:-1], wrong]))
