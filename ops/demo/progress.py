"""Progress of long work: bars with rate and time left on a terminal, a line per tenth elsewhere."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

TENTHS = 10


class Tasks(Protocol):
    def task(self, name: str, total: int) -> Callable[[int], None]:
        """A new bar; the returned function is told how much is done so far."""
        ...


class BarTasks:
    """On a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def task(self, name: str, total: int) -> Callable[[int], None]:
        bar = self._progress.add_task(name, total=total)
        return lambda done: self._progress.update(bar, completed=done)


class LineTasks:
    """In a log."""

    def task(self, name: str, total: int) -> Callable[[int], None]:
        shown = 0

        def tell(done: int) -> None:
            nonlocal shown
            tenth = done * TENTHS // max(total, 1)
            if tenth > shown:
                shown = tenth
                print(f"{name}: {done:,} of {total:,}", file=sys.stderr, flush=True)

        return tell


@contextlib.contextmanager
def open_progress() -> Iterator[Tasks]:
    """Bars if standard error is a terminal, lines otherwise."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield LineTasks()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:>7}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield BarTasks(progress)
