"""Rounds of what is compared, in turns, so that a busy moment of the machine hits all alike."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping

Timed = Callable[[], float]
"""Does one round's work and returns its figure: a rate, or a time."""

ROUNDS_MIN = 3


def take_turns(
    contestants: Mapping[str, Timed], *, seconds: float, progress: Callable[[int], None]
) -> dict[str, float]:
    """The median figure of each; every round runs all of them once, at least ROUNDS_MIN rounds.

    progress: is told how many percent of `seconds` have passed.
    """
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    began = time.perf_counter()
    rounds, passed = 0, 0.0
    while rounds < ROUNDS_MIN or passed < seconds:
        for name, timed in contestants.items():
            gc.collect()
            figures[name].append(timed())
        rounds += 1
        passed = time.perf_counter() - began
        progress(min(int(100 * passed / seconds), 100))
    progress(100)
    return {name: statistics.median(found) for name, found in figures.items()}


def elapsed(work: Callable[[], object]) -> float:
    """Seconds of CPU that one call takes: what others do on a shared machine does not count."""
    began = time.process_time()
    work()
    return time.process_time() - began
