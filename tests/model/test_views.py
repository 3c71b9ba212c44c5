"""Every view equals its naive recomputation from the log: at the end, and wherever one looks.

The logs come from the naive ledger, so a whole chain without domain code stands beside the folds.
The seeds are fixed, so a failure repeats.
"""

from collections.abc import Callable, Collection
from random import Random

import msgspec
import pytest

from projections.fresh import FreshFold
from projections.history.copying import TABLES
from projections.history.memory import fresh_history
from projections.history.mining_records import mining_records
from schemas import views
from tests.fixtures.ledger_logs import random_log
from tests.model import naive_views_market
from tests.model.naive_state import Event
from tests.model.naive_views import Log, Row, decoded, differences
from tests.model.naive_views_all import RECOMPUTE
from tests.model.naive_views_history import history_rows
from tests.model.naive_views_history import mining_records as naive_mining_records
from tests.model.view_logs import as_events, as_json, crowded_course, random_course

PROJECTIONS = tuple(RECOMPUTE)
QUICK_SEEDS = (1, 2, 3, 4)
QUICK_COMMANDS = 1_500
LONG_SEEDS = range(100, 110)
LONG_COMMANDS = 3_000
LOOKS = 12
QUIET_TYPES = {"mining_allocated", "epoch_started"}


def found_differences(projection: str, log: list[Event], looks: Collection[int]) -> list[str]:
    """looks: positions at which the views are drained and compared."""
    fold = FreshFold(projection)
    found: list[str] = []
    for position, event in enumerate(as_events(log), 1):
        fold.fold(position, event)
        if position in looks:
            stored = decoded(fold.finish().views)
            expected = RECOMPUTE[projection](Log(log[:position]))
            found += [f"at {position}: {line}" for line in differences(expected, stored)]
    return found


def some_positions(seed: object, log: list[Event], count: int = LOOKS) -> set[int]:
    """By chance, most of them at or amid commands, and always the last."""
    random = Random(f"looks {seed}")
    busy = [at for at, event in enumerate(log, 1) if event["type"] not in QUIET_TYPES]
    anywhere = [random.randint(1, len(log)) for _ in range(count // 3)]
    return {len(log), *anywhere, *(random.choice(busy) for _ in range(count - count // 3))}


@pytest.mark.parametrize("seed", QUICK_SEEDS)
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_views_equal_the_naive_recomputation_on_random_courses(projection: str, seed: int) -> None:
    log = random_course(seed, QUICK_COMMANDS)
    assert found_differences(projection, log, some_positions(seed, log)) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG_SEEDS)
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_views_equal_the_naive_recomputation_for_long(projection: str, seed: int) -> None:
    log = random_course(seed, LONG_COMMANDS)
    assert found_differences(projection, log, some_positions(seed, log, 3 * LOOKS)) == []


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_deep_history_equals_the_naive_recomputation(seed: int) -> None:
    log = random_course(seed, QUICK_COMMANDS)
    for length in some_positions(seed, log, count=3):
        batch = fresh_history(enumerate(as_events(log[:length]), 1))
        expected = history_rows(Log(log[:length]))
        for name, table in TABLES.items():
            found = [msgspec.to_builtins(row) for row in table.rows(batch)]
            assert sorted(found, key=str) == sorted(map(_in_order(found), expected[name]), key=str)


def _in_order(found: list[Row]) -> Callable[[Row], Row]:
    """The same row with its fields in the order of those found, so that both sort alike."""
    return lambda row: {field: row[field] for field in found[0]} if found else row


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_mining_records_are_the_sums_of_their_seconds(seed: int) -> None:
    log = random_course(seed, QUICK_COMMANDS)
    rows = fresh_history(enumerate(as_events(log), 1))
    for user_id in sorted({change.user_id for change in rows.weights}):
        changes = [change for change in rows.weights if change.user_id == user_id]
        found = [msgspec.to_builtins(row) for row in mining_records(None, rows.marks, changes)]
        assert found == naive_mining_records(Log(log), user_id), user_id


@pytest.mark.parametrize("projection", [views.MARKET, views.ACCOUNTS])
def test_lists_and_depth_end_where_they_say(projection: str) -> None:
    """More levels than depth shows, more trades than tape and fills keep."""
    log = crowded_course(1)
    recomputed = RECOMPUTE[projection](Log(log))
    if projection == views.MARKET:
        depth = recomputed[views.TRADING_DB, views.depth_key("DUR-CNY")]
        assert (len(depth["bids"]), len(depth["asks"])) == (100, 100)
        assert len(recomputed[views.TRADING_DB, views.trades_key("DUR-CNY")]) == 1_000
    if projection == views.ACCOUNTS:
        assert len(recomputed[views.TRADING_DB, views.fills_key("ann")]) == 100
    assert found_differences(projection, log, some_positions(1, log, count=4)) == []


def test_market_equals_the_naive_recomputation_over_more_than_a_day() -> None:
    """The ticker's window slides past minutes with trades; hour and day candles close."""
    log = as_json(random_log(5, seconds=90_000, trades=2_500))
    random = Random(5)
    after_a_day = [random.randint(len(log) - 2_500, len(log)) for _ in range(4)]
    assert found_differences(views.MARKET, log, {*after_a_day, len(log)}) == []


def test_each_kind_of_difference_is_seen() -> None:
    place = (views.TRADING_DB, "k")
    assert differences({place: {"a": [1]}}, {place: {"a": [2]}}) != []
    assert differences({place: {"a": 1}}, {place: {"a": 1, "b": 1}}) != []
    assert differences({place: {"a": 1}}, {}) != []
    assert differences({}, {place: [1]}) != []
    assert differences({place: None}, {place: {}}) == []


def test_calendar_of_the_recomputation() -> None:
    """2027-01-17 was a Sunday."""
    last = naive_views_market.opening(1_800_230_399, "1w")
    assert last.isoformat() == "2027-01-11T00:00:00+00:00"
    assert (
        naive_views_market.opening(1_800_230_399, "4h").isoformat() == "2027-01-17T20:00:00+00:00"
    )
    assert (
        naive_views_market.opening(1_800_230_400, "1w").isoformat() == "2027-01-18T00:00:00+00:00"
    )
