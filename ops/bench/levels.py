"""`durian bench levels`: which structure keeps a book side's price levels sorted.

Ours is what domain.book does, a plain list and bisect; the reference is sortedcontainers, which is
no dependency of ours: whoever has it installed gets the comparison.
"""

import importlib
import importlib.util
import random
from bisect import bisect_left, insort
from typing import Any

from ops.bench.report import Report, row
from ops.bench.turns import Timed, elapsed, take_turns
from ops.demo.progress import Tasks

LEVELS = (10, 1_000, 100_000)
CHANGES = 2_000
SEED = 7
MICRO = 1_000_000
# An exponent that puts most changes among the best prices, as in a real book.
NEARNESS = 6
PLACES = {"anywhere": 1, "near the best": NEARNESS}

NOTES = (
    f"One figure is a level added, the best read and the level removed again; median of rounds of "
    f"{CHANGES:,} changes, CPU microseconds.",
    "Near the best: the distance from it is a uniform number to the power of "
    f"{NEARNESS}, so half of the changes hit the nearest 2 % of the levels.",
)


def run_levels(seconds: float, tasks: Tasks) -> Report:
    """A row for each number of levels and each place where they change."""
    cases = [(levels, place) for levels in LEVELS for place in PLACES]
    has_reference = importlib.util.find_spec("sortedcontainers") is not None
    rows = []
    for levels, place in cases:
        added = _added(levels, PLACES[place])
        contestants: dict[str, Timed] = {"list": _list(levels, added)}
        if has_reference:
            contestants["sorted"] = _sorted_list(levels, added)
        progress = tasks.task(f"{levels:,} levels, {place}", 100)
        figures = take_turns(contestants, seconds=seconds / len(cases), progress=progress)
        rows.append(
            row(
                f"us to change a price level {place}, levels: {levels:,}",
                figures["list"],
                reference=figures.get("sorted"),
                reference_name="sortedcontainers.SortedList" if has_reference else None,
            )
        )
    return Report(name="levels", rows=tuple(rows), notes=NOTES)


def _added(levels: int, exponent: int) -> list[int]:
    # Levels are even numbers, the last is the best; what comes and goes lies between them.
    draw = random.Random(SEED)
    return [2 * (levels - 1 - int(levels * draw.random() ** exponent)) + 1 for _ in range(CHANGES)]


def _list(levels: int, added: list[int]) -> Timed:
    ranks = list(range(0, 2 * levels, 2))

    def change() -> int:
        best = 0
        for rank in added:
            insort(ranks, rank)
            best = ranks[-1]
            del ranks[bisect_left(ranks, rank)]
        return best

    return lambda: MICRO * elapsed(change) / len(added)


def _sorted_list(levels: int, added: list[int]) -> Timed:
    library: Any = importlib.import_module("sortedcontainers")
    ranks = library.SortedList(range(0, 2 * levels, 2))

    def change() -> int:
        best = 0
        for rank in added:
            ranks.add(rank)
            best = ranks[-1]
            ranks.remove(rank)
        return best

    return lambda: MICRO * elapsed(change) / len(added)
