"""The specification's MiningRecord, one per user and minute, computed from index marks and the
user's weight changes.

What a user accrued ever is exact at every mark, so a minute's part is a difference of two integers
and the minutes of any period add up. Equals the sum of the per-second allocations.
"""

from collections.abc import Sequence

from schemas import accrual
from schemas.deep_history import MINUTE_SECONDS, IndexMark, MiningRecord, WeightChange

_NEVER = WeightChange(0, 0, "", 0, 0, 0, 0)


def mining_records(
    before: IndexMark | None, marks: Sequence[IndexMark], changes: Sequence[WeightChange]
) -> list[MiningRecord]:
    """One record for each mark, oldest first.

    before: the mark of the minute before the first one; None if that is the ledger's first minute.
    changes: of one user, oldest first; of each minute at least the last one, and the last one
    before `before`'s minute ended.
    """
    records = []
    at, state, cumulative, settled = 0, _NEVER, 0, 0
    for mark in (before, *marks):
        if mark is None:
            continue
        ends = mark.open_second + MINUTE_SECONDS
        while at < len(changes) and changes[at].from_second < ends:
            state = changes[at]
            at += 1
        accrued = state.settled_minor + accrual.accrued_minor(
            weight=state.weight,
            index=mark.index,
            entry_index=state.entry_index,
            entry_fraction=state.entry_fraction,
        )
        record = MiningRecord(
            open_second=mark.open_second,
            weight=state.weight,
            accrued_minor=accrued - cumulative,
            settled_minor=state.settled_minor - settled,
            cumulative_minor=accrued,
        )
        cumulative, settled = accrued, state.settled_minor
        if mark is not before:
            records.append(record)
    return records
