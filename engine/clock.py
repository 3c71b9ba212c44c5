"""Engine time. The only file that reads the wall clock; both clocks never go back."""

import time

from engine.errors import ClockIsWall

SECOND_NS = 1_000_000_000


class WallClock:
    """The machine's clock, held still while it steps back."""

    def __init__(self) -> None:
        self._last_ns = 0

    def now_ns(self) -> int:
        self._last_ns = max(self._last_ns, time.time_ns())
        return self._last_ns

    def seconds_to_next_tick(self) -> float | None:
        """Until the next whole second begins."""
        return (SECOND_NS - time.time_ns() % SECOND_NS) / SECOND_NS

    def advance_to(self, to_ns: int) -> None:
        raise ClockIsWall("this engine runs on the wall clock; start it with the virtual one")


class VirtualClock:
    """Stands still until it is advanced: warp, simulation, tests."""

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
