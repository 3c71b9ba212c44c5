"""Reading functions: who accrued what by when, from weight changes and the index alone."""

import pytest

from domain.reading import (
    MiningRecord,
    Stretch,
    accrued_ever_minor,
    allocation_minor,
    mining_records,
    stretches_of,
)
from schemas.accrual import INDEX_BITS
from schemas.events import ContributionAdjusted, ContributionExpired, ContributionGranted
from tests.unit.domain.scenario import of_kind
from tests.unit.domain.story import STORY_GENESIS, story

ONE = 1 << INDEX_BITS
SECOND = 10**9
# Weight 2 from index 10 on, 3 from 20, none from 30.
HISTORY = (
    Stretch(60 * SECOND, 10 * ONE, 2),
    Stretch(70 * SECOND, 20 * ONE, 3),
    Stretch(180 * SECOND, 30 * ONE, 0),
)


@pytest.mark.parametrize(
    ("index", "accrued"),
    [(0, 0), (10, 0), (11, 2), (20, 20), (21, 23), (30, 50), (31, 50), (10**6, 50)],
)
def test_what_accrued_is_weight_times_growth_of_the_index(index: int, accrued: int) -> None:
    assert accrued_ever_minor(HISTORY, index * ONE) == accrued


def test_less_than_a_unit_does_not_show_until_it_is_one() -> None:
    half = (Stretch(0, 0, 1),)
    assert accrued_ever_minor(half, ONE - 1) == 0
    assert accrued_ever_minor(half, ONE) == 1
    assert allocation_minor(half, index_before=ONE // 2, index_after=ONE) == 1
    assert allocation_minor(half, index_before=0, index_after=ONE // 2) == 0


def test_fractions_of_stretches_add_up() -> None:
    thirds = (Stretch(0, 0, 1), Stretch(1, ONE // 3, 2), Stretch(2, 2 * ONE // 3, 1))
    # One third + two thirds + one third.
    assert accrued_ever_minor(thirds, ONE + 1) == 1


def test_nobody_without_weight_accrues() -> None:
    assert accrued_ever_minor((), 10 * ONE) == 0
    assert mining_records((), {0: ONE}, from_second=0, to_second=60) == [MiningRecord(0, 0, 0)]


MARKS = {0: 10 * ONE, 60: 25 * ONE, 120: 30 * ONE, 180: 30 * ONE}


@pytest.mark.parametrize(
    ("from_second", "to_second", "minutes"),
    [
        (0, 240, [0, 60, 120, 180]),
        (0, 10**6, [0, 60, 120, 180]),
        (60, 180, [60, 120]),
        # A minute that begins before `from` belongs to it; one that begins at `to` does not.
        (61, 180, [60, 120]),
        (119, 121, [60, 120]),
        (120, 120, []),
    ],
)
def test_records_cover_the_minutes_asked_for(
    from_second: int, to_second: int, minutes: list[int]
) -> None:
    amounts = {0: (0, 0), 60: (35, 3), 120: (15, 3), 180: (0, 0)}
    found = mining_records(HISTORY, MARKS, from_second=from_second, to_second=to_second)
    assert found == [MiningRecord(minute, *amounts[minute]) for minute in minutes]


def test_a_records_weight_is_that_of_its_time_even_while_the_index_stands_still() -> None:
    # The first miner comes in the second minute; until then the index does not move.
    found = mining_records(
        (Stretch(61 * SECOND, 0, 5),), {0: 0, 60: ONE}, from_second=0, to_second=120
    )
    assert [(record.minute_second, record.weight) for record in found] == [(0, 0), (60, 5)]


def test_a_grant_that_expires_with_the_minute_still_counts_in_it() -> None:
    ends = (Stretch(0, 0, 5), Stretch(60 * SECOND, ONE, 0))
    (record,) = mining_records(ends, {0: ONE}, from_second=0, to_second=60)
    assert record == MiningRecord(0, 5, 5)


def test_stretches_are_the_weights_that_events_left() -> None:
    log = story().log
    changes = [
        event
        for event in log
        if isinstance(event, ContributionGranted | ContributionAdjusted | ContributionExpired)
    ]
    stretches = stretches_of(changes)
    assert [stretch.weight for stretch in stretches] == [3, 5, 2, 5]
    assert [stretch.at_ns // SECOND - STORY_GENESIS for stretch in stretches] == [0, 0, 3, 3]
    (expired,) = of_kind(log, ContributionExpired)
    assert stretches[2].entry_index == expired.entry_index
