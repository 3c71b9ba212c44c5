"""Engine time. The only file that reads the machine's clocks; engine time never goes back.

While it runs, the wall clock's small corrections are followed and its leaps are not: an hour too
much would be mined at once and could not be taken back. A restart takes the new time.
"""

import time
from collections.abc import Callable

from engine.errors import ClockIsWall

SECOND_NS = 1_000_000_000
STEP_NS_MAX = 2 * SECOND_NS


def _since_boot_ns() -> int:
    # Counts while the machine sleeps; where there is none, a sleep looks like a leap.
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class WallClock:
    """The machine's clock, held still while it steps back.

    leap_ns: how far the machine's clock is from this one; 0 unless a leap is being ignored.
    """

    def __init__(
        self, wall: Callable[[], int] = time.time_ns, steady: Callable[[], int] = _since_boot_ns
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._offset_ns = wall() - steady()
        self._last_ns = 0
        self.leap_ns = 0

    def now_ns(self) -> int:
        steady_ns = self._steady()
        offset_ns = self._wall() - steady_ns
        leap_ns = offset_ns - self._offset_ns
        if -STEP_NS_MAX <= leap_ns <= STEP_NS_MAX:
            self._offset_ns = offset_ns
            leap_ns = 0
        self.leap_ns = leap_ns
        now_ns = steady_ns + self._offset_ns
        if now_ns > self._last_ns:
            self._last_ns = now_ns
        return self._last_ns

    def seconds_to_next_tick(self) -> float | None:
        """Until the next whole second begins."""
        return (SECOND_NS - self.now_ns() % SECOND_NS) / SECOND_NS

    def advance_to(self, to_ns: int) -> None:
        raise ClockIsWall("this engine runs on the wall clock; start it with the virtual one")


class VirtualClock:
    """Stands still until it is advanced: warp, simulation, tests."""

    leap_ns = 0

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def seconds_to_next_tick(self) -> float | None:
        """Never: only advance_to moves it."""
        return None

    def advance_to(self, to_ns: int) -> None:
        """Earlier times than now change nothing, so that a repeated advance is harmless."""
        self._now_ns = max(self._now_ns, to_ns)
