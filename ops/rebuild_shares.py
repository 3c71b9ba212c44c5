"""A rebuild's folding, shared out over processes: who folds what, progress, and the first failure.

A process that was killed leaves its partitions at their last checkpoint, where the next run goes
on. One whose parent is gone ends at its next word about its progress.
"""

import asyncio
import contextlib
import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final

import msgspec
import uvloop

from engine.errors import EngineError, KafkaUnavailable, StoreUnavailable
from ops.config import Config
from ops.demo.progress import Tasks
from ops.event_sources import SourceName, open_source
from ops.view_access import new_token, open_generations, quiet_folder
from projections.errors import ProjectionError, RebuildRefused, ViewsUnavailable
from projections.generations import GenerationStore
from projections.rebuild import Part, advance
from schemas.views import ACCOUNTS, MARKET, MINING

POLL_SECONDS = 0.05
# About how much longer an event takes in one projection than in another; only for sharing out.
WEIGHTS: Final = {MARKET: 10, MINING: 3, ACCOUNTS: 4}
OTHER_WEIGHT = 20
# Fewer events than this are folded here: a process takes longer to start.
ALONE_EVENTS = 20_000
# Live workers, the engine and readers go first where cores are few.
NICENESS = 5
_FAULTS: dict[str, type[Exception]] = {
    "StoreUnavailable": StoreUnavailable,
    "KafkaUnavailable": KafkaUnavailable,
    "ViewsUnavailable": ViewsUnavailable,
}


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One partition's work: events after position start, up to target."""

    projection: str
    partition: int
    generation: str
    start: int
    target: int

    @property
    def events(self) -> int:
        return max(0, self.target - self.start)

    @property
    def cost(self) -> int:
        return self.events * WEIGHTS.get(self.projection, OTHER_WEIGHT)


def share_out(pieces: Sequence[Piece], workers: int) -> list[list[Piece]]:
    """Pieces by process, about equally long; none without work."""
    shares: list[list[Piece]] = [[] for _ in range(max(1, workers))]
    loads = [0] * len(shares)
    for piece in sorted(pieces, key=lambda piece: -piece.cost):
        if piece.events:
            least = loads.index(min(loads))
            shares[least].append(piece)
            loads[least] += piece.cost
    return [share for share in shares if share]


async def fold_in_processes(
    config: Config, pieces: Sequence[Piece], source: SourceName, workers: int, tasks: Tasks
) -> None:
    """Fold every piece up to its target. Raises what stopped the first process that failed."""
    progress = _Progress(pieces, tasks)
    if workers <= 1 or sum(piece.events for piece in pieces) < ALONE_EVENTS:
        await _fold(config, [piece for piece in pieces if piece.events], source, progress.tell)
        return
    context = multiprocessing.get_context("spawn")
    running: dict[SpawnProcess, Connection] = {}
    try:
        for share in share_out(pieces, workers):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=fold_share, args=(config, share, source, theirs), daemon=True
            )
            process.start()
            theirs.close()
            running[process] = ours
        while running:
            for process, pipe in list(running.items()):
                if _listen(process, pipe, progress):
                    del running[process]
            await asyncio.sleep(POLL_SECONDS)
    finally:
        for process in running:
            process.kill()
            process.join()


def fold_share(
    config: Config, share: Sequence[Piece], source: SourceName, pipe: Connection
) -> None:
    """What one process does. It sends (projection, partition, position), at last how it ended."""

    def tell(projection: str, partition: int, position: int) -> None:
        pipe.send((projection, partition, position))

    os.nice(NICENESS)
    with contextlib.suppress(BrokenPipeError):  # nobody waits for us any more
        try:
            uvloop.run(_fold(config, share, source, tell))
        except (ProjectionError, EngineError) as exc:
            pipe.send((type(exc).__name__, str(exc)))
        else:
            pipe.send(("", ""))


def _listen(process: SpawnProcess, pipe: Connection, progress: "_Progress") -> bool:
    """Whether the process is through. Raises what it ended with."""
    try:
        while pipe.poll():
            told: tuple[Any, ...] = pipe.recv()
            if len(told) == 3:
                progress.tell(*told)
                continue
            process.join()
            if told[0]:
                raise _FAULTS.get(told[0], RebuildRefused)(told[1])
            return True
    except EOFError:
        process.join()
        raise RebuildRefused(
            f"a process of the rebuild ended with exit code {process.exitcode}; run it again to"
            " go on"
        ) from None
    return False


async def _fold(
    config: Config,
    share: Sequence[Piece],
    source_name: SourceName,
    tell: Callable[[str, int, int], None],
) -> None:
    if not share:
        return
    async with contextlib.AsyncExitStack() as opened:
        stores: dict[str, GenerationStore] = {}
        parts = []
        for piece in share:
            if piece.projection not in stores:
                stores[piece.projection] = open_generations(config, piece.projection)
                opened.push_async_callback(stores[piece.projection].close)
            part = Part(
                projection=piece.projection,
                partition=piece.partition,
                folder=quiet_folder(piece.projection, piece.partition),
                store=stores[piece.projection].store(piece.generation),
                new_epoch=new_token,
            )
            await part.load()
            parts.append(part)

        def told() -> None:
            for part in parts:
                tell(part.projection, part.partition, part.position)

        source = await opened.enter_async_context(open_source(config, source_name))
        await advance(parts, source, [piece.target for piece in share], on_progress=told)


class _Progress:
    """One bar for each projection: the events of all its partitions."""

    def __init__(self, pieces: Sequence[Piece], tasks: Tasks) -> None:
        self._starts = {(piece.projection, piece.partition): piece.start for piece in pieces}
        self._done = dict.fromkeys(self._starts, 0)
        self._bars = {}
        for name in dict.fromkeys(piece.projection for piece in pieces):
            total = sum(piece.events for piece in pieces if piece.projection == name)
            if total:
                self._bars[name] = tasks.task(name, total)

    def tell(self, projection: str, partition: int, position: int) -> None:
        place = projection, partition
        self._done[place] = max(0, position - self._starts[place])
        done = sum(count for (name, _), count in self._done.items() if name == projection)
        if projection in self._bars:
            self._bars[projection](done)
