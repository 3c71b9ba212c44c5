"""Reading functions over the log: accrued at any second, allocation of any second, minute records.

Everything a user ever accrued is the sum, over stretches of constant weight, of weight x index
growth; its whole minor units at two seconds differ by exactly what the seconds between allocated to
the user. An auditor, the server and the phone compute the same integers from the same events.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from domain.mining import SECOND_NS
from schemas.accrual import INDEX_BITS
from schemas.events import (
    ContributionAdjusted,
    ContributionExpired,
    ContributionGranted,
)

MINUTE_SECONDS = 60
WeightChange = ContributionGranted | ContributionAdjusted | ContributionExpired


class Stretch(NamedTuple):
    """A user's constant weight from at_ns on, when the index stood at `entry_index`, until the next
    stretch begins.
    """

    at_ns: int
    entry_index: int
    weight: int


class MiningRecord(NamedTuple):
    """What one minute allocated to one user. weight: left by all events before the next minute."""

    minute_second: int
    amount_minor: int
    weight: int


def stretches_of(changes: Iterable[WeightChange]) -> tuple[Stretch, ...]:
    """A user's weight history, oldest first; changes: that user's, in the log's order."""
    return tuple(
        Stretch(change.at_ns, change.entry_index, change.weight_after) for change in changes
    )


def accrued_ever_minor(stretches: Sequence[Stretch], index: int) -> int:
    """Whole minor units accrued since genesis, settled or not, when the index stands at `index`."""
    scaled = 0
    for number, stretch in enumerate(stretches):
        if stretch.entry_index >= index:
            break
        ends = stretches[number + 1].entry_index if number + 1 < len(stretches) else index
        scaled += stretch.weight * (min(ends, index) - stretch.entry_index)
    return scaled >> INDEX_BITS


def allocation_minor(stretches: Sequence[Stretch], *, index_before: int, index_after: int) -> int:
    """What the seconds between two indices allocated to the user; index_before <= index_after."""
    return accrued_ever_minor(stretches, index_after) - accrued_ever_minor(stretches, index_before)


def mining_records(
    stretches: Sequence[Stretch], marks: Mapping[int, int], *, from_second: int, to_second: int
) -> list[MiningRecord]:
    """One record per minute of [from_second, to_second), oldest first.

    marks: minute's first second -> index after the minute's last second; the minute before the
    first one asked for must be there, unless it is the ledger's first. Minutes without a mark are
    left out.
    """
    records = []
    first = from_second // MINUTE_SECONDS * MINUTE_SECONDS
    for minute in range(first, to_second, MINUTE_SECONDS):
        index_after = marks.get(minute)
        if index_after is None:
            continue
        index_before = marks.get(minute - MINUTE_SECONDS, 0)
        amount = allocation_minor(stretches, index_before=index_before, index_after=index_after)
        weight = _weight_before(stretches, (minute + MINUTE_SECONDS) * SECOND_NS)
        records.append(MiningRecord(minute, amount, weight))
    return records


def _weight_before(stretches: Sequence[Stretch], end_ns: int) -> int:
    # By time, not by index: the index stands still while nobody has weight.
    weight = 0
    for stretch in stretches:
        if stretch.at_ns >= end_ns:
            break
        weight = stretch.weight
    return weight
