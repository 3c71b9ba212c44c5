"""Rebuilding views beside the live ones: fold in parallel processes, then compare and switch.

A projection's partitions are shared out over processes; each reads and decodes the log once for all
of its share. What comes after is done here, one projection at a time, so that the moment in which
live views are held is short.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal

import msgspec

from engine.postgres.operations import OperationsRecord
from engine.postgres.tail import PostgresTail
from ops.config import Config, require
from ops.demo.progress import Tasks
from ops.errors import ServerUnavailable
from ops.event_sources import SourceName, open_source
from ops.rebuild_shares import Piece, fold_in_processes
from ops.view_access import (
    actor,
    new_token,
    open_generations,
    partition_count,
    quiet_folder,
)
from projections.errors import ProjectionError, RebuildRefused
from projections.generations import Comparison, Generation, GenerationStore
from projections.rebuild import EventSource, Part, advance

Switch = Literal["never", "if_equal", "always"]
Outcome = Literal["switched", "equal", "different", "nothing_to_compare"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. workers: processes. is_rollback: to the previous generation, nothing is built.

    generation: of the one projection named, instead of one that is made for this.
    """

    names: tuple[str, ...]
    source: SourceName = "log"
    switch: Switch = "if_equal"
    workers: int = 1
    is_rollback: bool = False
    generation: str = ""

    @property
    def operation(self) -> str:
        if self.is_rollback:
            return "rollback"
        if self.generation:
            return "diff"
        return "verify" if self.switch == "never" else "rebuild"


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """One projection's result. events: folded in this run. seconds: of folding and of the rest."""

    projection: str
    generation: str
    replaced: str
    outcome: Outcome
    events: int
    fold_seconds: float
    compare_seconds: float
    comparison: Comparison

    @property
    def is_wrong(self) -> bool:
        return self.outcome == "different" and not self.comparison.switched


class Building:
    """One projection on its way: the store, which generation, and what it is to reach."""

    def __init__(self, name: str, store: GenerationStore, generation: str) -> None:
        self.name = name
        self.store = store
        self.generation = generation
        self.live = ""
        self.starts: tuple[int, ...] = ()
        self.targets: tuple[int, ...] = ()

    async def aim(self, log_end: Callable[[], Awaitable[int]]) -> None:
        """Up to where the live views are; up to the log's end if there are none.

        Raises RebuildRefused if the live views hold more than the log.
        """
        found = {one.name: one for one in await self.store.generations()}
        live = next(one for one in found.values() if one.state == "live")
        self.live = live.name
        self.starts = positions_of(found[self.generation])
        self.targets = positions_of(live)
        # Asked after the views: they go on, and may hold what is not an instant old.
        head = await log_end()
        if max(self.targets) > head:
            raise RebuildRefused(
                f"{self.name}: the live views are at position {max(self.targets)}, but the log ends"
                f" at {head}: they are another ledger's, or the log was set back"
            )
        if not any(self.targets):
            self.targets = (head,) * len(self.targets)

    def pieces(self) -> list[Piece]:
        return [
            Piece(
                projection=self.name,
                partition=partition,
                generation=self.generation,
                start=start,
                target=target,
            )
            for partition, (start, target) in enumerate(zip(self.starts, self.targets, strict=True))
        ]


async def rebuild(config: Config, plan: Plan, tasks: Tasks) -> AsyncIterator[Rebuilt]:
    """Do it; a result for each projection, as soon as it is known, and recorded with the log.

    Raises RebuildUnderWay, RebuildRefused, EventPoisoned, StoreUnavailable, ViewsUnavailable. What
    was folded until then is kept, and the next rebuild goes on with it.
    """
    record = await asyncio.to_thread(_open_record, config)
    async with contextlib.AsyncExitStack() as opened:
        builds = [await _begin(config, plan, name, opened) for name in plan.names]
        began = time.monotonic()
        try:
            for build in builds:
                await build.aim(partial(log_head, config))
            pieces = [piece for build in builds for piece in build.pieces()]
            await fold_in_processes(config, pieces, plan.source, plan.workers, tasks)
            folded_s = time.monotonic() - began
            source = await opened.enter_async_context(open_source(config, plan.source))
            for build in builds:
                result = await _finish(build, plan, source, folded_s)
                await asyncio.to_thread(_note, record, plan, result)
                yield result
        except ProjectionError as exc:
            names = ",".join(plan.names)
            await asyncio.to_thread(_note_failure, record, plan.operation, names, str(exc))
            raise


async def drop_generation(config: Config, projection: str, generation: str) -> int:
    """Delete a generation that is not live, and record that; how many keys or rows it had."""
    record = await asyncio.to_thread(_open_record, config)
    store = open_generations(config, projection)
    try:
        known = [one.name for one in await store.generations()]
        if generation not in known:
            raise RebuildRefused(
                f"{projection} has no generation {generation}; there are {', '.join(known)}"
            )
        count = await store.drop(generation)
    finally:
        await store.close()
    detail = {"generation": generation, "entries": count}
    await asyncio.to_thread(
        lambda: record.add(
            actor=actor(), operation="drop", projection=projection, outcome="dropped", detail=detail
        )
    )
    return count


async def log_head(config: Config) -> int:
    """The log's last position."""
    async with PostgresTail(require(config, "postgres_url")) as tail:
        return (await tail.head()).position


def positions_of(generation: Generation) -> tuple[int, ...]:
    return tuple(checkpoint.position for checkpoint in generation.checkpoints)


async def _begin(
    config: Config, plan: Plan, name: str, opened: contextlib.AsyncExitStack
) -> Building:
    store = open_generations(config, name)
    opened.push_async_callback(store.close)
    if plan.generation:
        return Building(name, store, plan.generation)
    if not plan.is_rollback:
        return Building(name, store, await store.begin(plan.source))
    previous = [one for one in await store.generations() if one.state == "previous"]
    if not previous:
        raise RebuildRefused(f"{name}: there is no previous generation to go back to")
    newest = max(previous, key=lambda one: (one.record.switched_at, int(one.name)))
    return Building(name, store, newest.name)


async def _finish(build: Building, plan: Plan, source: EventSource, folded_s: float) -> Rebuilt:
    began = time.monotonic()
    parts = [
        Part(
            projection=build.name,
            partition=partition,
            folder=quiet_folder(build.name, partition),
            store=build.store.store(build.generation),
            new_epoch=new_token,
        )
        for partition in range(partition_count(build.name))
    ]
    for part in parts:
        await part.load()

    async def catch_up(positions: Sequence[int]) -> None:
        await advance(parts, source, positions)

    made = await build.store.compare(build.generation, catch_up, switch=plan.switch)
    outcome: Outcome = "equal"
    if not made.is_compared:
        outcome = "nothing_to_compare"
    elif made.differing:
        outcome = "different"
    elif made.switched:
        outcome = "switched"
    if plan.switch == "never" and not made.differing and not plan.generation:
        await build.store.drop(build.generation)
    return Rebuilt(
        projection=build.name,
        generation=build.generation,
        replaced=build.live,
        outcome=outcome,
        events=sum(part.position for part in parts) - sum(build.starts),
        fold_seconds=round(folded_s, 3),
        compare_seconds=round(time.monotonic() - began, 3),
        comparison=made,
    )


def _open_record(config: Config) -> OperationsRecord:
    record = OperationsRecord(require(config, "postgres_url"))
    if not record.may_add():
        raise ServerUnavailable(
            "the role of DURIAN_POSTGRES_URL may not write the log's operations record:"
            " use durian_log_writer or the owner"
        )
    return record


def _note(record: OperationsRecord, plan: Plan, result: Rebuilt) -> None:
    made = result.comparison
    detail: dict[str, Any] = {
        "generation": result.generation,
        "replaced": result.replaced if made.switched else None,
        "source": plan.source,
        "positions": list(made.positions),
        "new_digest": made.new_digest,
        "old_digest": made.old_digest or None,
        "entries": made.entries,
        "differing": made.differing,
        "events": result.events,
        "seconds": round(result.fold_seconds + result.compare_seconds, 3),
        "held_ms": round(made.held_ms, 1),
        "switched": made.switched,
    }
    record.add(
        actor=actor(),
        operation=plan.operation,
        projection=result.projection,
        outcome=result.outcome,
        detail=detail,
    )


def _note_failure(record: OperationsRecord, operation: str, names: str, why: str) -> None:
    record.add(
        actor=actor(), operation=operation, projection=names, outcome="failed", detail={"why": why}
    )
