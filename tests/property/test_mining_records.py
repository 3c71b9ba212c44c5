"""Mining records by the minute are what was allocated second by second."""

from hypothesis import given
from hypothesis import strategies as st

from projections.history.memory import fresh_history
from projections.history.mining_records import mining_records
from schemas.deep_history import MINUTE_SECONDS, WeightChange
from tests.fixtures.ledger_logs import positioned
from tests.fixtures.mining_logs import MINERS, MiningLog


@given(seed=st.integers(0, 1 << 32), seconds=st.integers(60, 400), first=st.integers(0, 6))
def test_minutes_add_up_to_the_allocations_of_their_seconds(
    seed: int, seconds: int, first: int
) -> None:
    mined = MiningLog(seed, seconds=seconds)
    rows = fresh_history(positioned(mined.log))
    first = min(first, len(rows.marks))
    before, marks = (rows.marks[first - 1] if first else None), rows.marks[first:]
    for user_id in MINERS:
        changes = [change for change in rows.weights if change.user_id == user_id]
        records = mining_records(before, marks, newest_of_each_minute(changes))
        assert records == mining_records(before, marks, changes)
        assert [record.open_second for record in records] == [mark.open_second for mark in marks]
        seconds_of = mined.allocated[user_id]
        for record in records:
            minute = range(record.open_second, record.open_second + MINUTE_SECONDS)
            accrued = sum(seconds_of.get(second, 0) for second in minute)
            until = sum(amount for at, amount in seconds_of.items() if at < minute.stop)
            assert (record.accrued_minor, record.cumulative_minor) == (accrued, until)
        if not first:
            paid = sum(row.settled_minor for row in records)
            assert paid <= sum(record.accrued_minor for record in records)


def newest_of_each_minute(changes: list[WeightChange]) -> list[WeightChange]:
    """What a reader fetches: the last change of each minute."""
    return list({change.from_second // MINUTE_SECONDS: change for change in changes}.values())


def test_every_minute_since_genesis_has_a_record_also_of_strangers() -> None:
    rows = fresh_history(positioned(MiningLog(3, seconds=200).log))
    records = mining_records(None, rows.marks, [])
    assert len(records) == len(rows.marks) == 3
    assert {(one.weight, one.accrued_minor, one.cumulative_minor) for one in records} == {(0, 0, 0)}
