"""Allocations by the second are what the domain allocated, and the minutes' records are their sums;
forecasts of what a schedule pays are what the domain then pays.
"""

from hypothesis import given
from hypothesis import strategies as st

from domain.mining import Mining, allocate, evolve_allocated
from gateway.routes_mining_records import Allocated, by_second
from projections.history.fold import HistoryBatch
from projections.history.memory import fresh_history
from projections.history.mining_records import mining_records
from schemas import accrual, emission
from schemas.amounts import parse_amount
from schemas.deep_history import MINUTE_SECONDS, WeightChange
from schemas.events import MiningAllocated
from tests.fixtures.ledger_logs import positioned
from tests.fixtures.mining_logs import MINERS, MiningLog

SCALE = 8
rewards = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 50)), max_size=5, unique_by=lambda step: step[0]
).map(sorted)


def newest_of_each_second(changes: list[WeightChange]) -> list[WeightChange]:
    """What a reader fetches: the last change of each second."""
    return list({change.from_second: change for change in changes}.values())


def seconds_of(mined: MiningLog) -> list[Allocated]:
    return [
        Allocated(position, event)
        for position, event in positioned(mined.log)
        if isinstance(event, MiningAllocated)
    ]


@given(seed=st.integers(0, 1 << 32), seconds=st.integers(60, 300), data=st.data())
def test_seconds_of_any_period_are_what_was_allocated(
    seed: int, seconds: int, data: st.DataObject
) -> None:
    mined = MiningLog(seed, seconds=seconds)
    rows = fresh_history(positioned(mined.log))
    whole = seconds_of(mined)
    first = data.draw(st.integers(0, len(whole) - 1))
    last = data.draw(st.integers(first, len(whole) - 1))
    index = whole[first - 1].index if first else 0
    for user_id in MINERS:
        changes = [change for change in rows.weights if change.user_id == user_id]
        shown = list(
            by_second(whole[first : last + 1], newest_of_each_second(changes), index, SCALE)
        )
        assert [one.second for one in shown] == [
            one.event.second for one in whole[first : last + 1]
        ]
        expected = mined.allocated[user_id]
        for one in shown:
            assert parse_amount(one.amount, SCALE) == expected.get(one.second, 0)
            until = sum(amount for at, amount in expected.items() if at <= one.second)
            assert parse_amount(one.cumulative, SCALE) == until


@given(seed=st.integers(0, 1 << 32), seconds=st.integers(120, 300))
def test_a_minutes_record_is_the_sum_of_its_seconds(seed: int, seconds: int) -> None:
    mined = MiningLog(seed, seconds=seconds)
    rows = fresh_history(positioned(mined.log))
    for user_id in MINERS:
        check_minutes(mined, rows, user_id)


def check_minutes(mined: MiningLog, rows: HistoryBatch, user_id: str) -> None:
    changes = [change for change in rows.weights if change.user_id == user_id]
    shown = list(by_second(seconds_of(mined), newest_of_each_second(changes), 0, SCALE))
    for record in mining_records(None, rows.marks, changes):
        minute = range(record.open_second, record.open_second + MINUTE_SECONDS)
        of_it = [one for one in shown if one.second in minute]
        assert sum(parse_amount(one.amount, SCALE) for one in of_it) == record.accrued_minor
        assert parse_amount(of_it[-1].cumulative, SCALE) == record.cumulative_minor
        assert int(of_it[-1].weight) == record.weight


@given(
    steps=rewards,
    pool=st.integers(0, 2_000),
    weights=st.tuples(st.integers(1, 1_000), st.integers(0, 1_000)),
    carry=st.integers(0, 1 << 70),
    seconds=st.integers(1, 90),
)
def test_a_forecast_is_what_the_domain_then_pays(
    steps: list[tuple[int, int]],
    pool: int,
    weights: tuple[int, int],
    carry: int,
    seconds: int,
) -> None:
    mining = Mining("DUR", pool, genesis_second=0)
    mining.starts, mining.rewards = [at for at, _ in steps], [reward for _, reward in steps]
    mining.weight_total, mining.carry = sum(weights), carry
    paid = emission.paid_minor(steps, first=0, seconds=seconds, remaining_minor=pool)
    index = 0
    if paid:
        index, _ = accrual.advance(
            index=0, carry=carry, reward_minor=paid, weight_total=mining.weight_total
        )
    ends = emission.ends_second(steps, first=0, remaining_minor=pool)
    for second in range(seconds):
        assert (mining.allocated_minor == pool) == (ends is not None and ends <= second)
        evolve_allocated(mining, allocate(mining, second))
    assert (mining.allocated_minor, mining.index) == (paid, index)
