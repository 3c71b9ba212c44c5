"""What the emission schedule pays: arithmetic that the ledger and a forecast do alike.

A schedule is (first second, reward in minor units) in order of seconds; each holds until the next.
"""

from collections.abc import Iterator, Sequence

Schedule = Sequence[tuple[int, int]]


def paid_minor(schedule: Schedule, *, first: int, seconds: int, remaining_minor: int) -> int:
    """What `seconds` seconds from `first` on pay out of a pool that has remaining_minor left."""
    stop, total = first + seconds, 0
    for begins, ends, reward in _stretches(schedule, first):
        if begins < stop:
            total += reward * ((stop if ends is None else min(ends, stop)) - begins)
    return min(total, remaining_minor)


def ends_second(schedule: Schedule, *, first: int, remaining_minor: int) -> int | None:
    """The first second, not before `first`, that finds the pool empty; None if none ever does."""
    if remaining_minor == 0:
        return first
    for begins, ends, reward in _stretches(schedule, first):
        if reward == 0:
            continue
        needed = -(-remaining_minor // reward)
        if ends is None or begins + needed <= ends:
            return begins + needed
        remaining_minor -= reward * (ends - begins)
    return None


def _stretches(schedule: Schedule, first: int) -> Iterator[tuple[int, int | None, int]]:
    # (first second, first of the next stretch or None, reward), from `first` on.
    reward = 0
    for begins, later_reward in schedule:
        if begins > first:
            yield first, begins, reward
            first = begins
        reward = later_reward
    yield first, None, reward
