"""Folding the log into generations beside the live ones: several partitions from the same pages.

Knows neither where events come from nor where views are kept. Each partition goes on where its own
checkpoint is, so a rebuild that was killed goes on, and partitions may be far apart.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from domain.effects import effects_of
from projections.errors import RebuildRefused
from projections.folders import EffectFolder, Folder
from projections.ports import Checkpoint, ViewStore
from schemas.effects import UserEffect, partition_of
from schemas.events import LedgerEvent
from schemas.records import POSTINGS_PARTITIONS

PAGE_EVENTS = 2_000
# The store applies a batch in one step in which it answers nobody else, so batches are kept small.
COMMIT_EVENTS = 8_000

Positioned = tuple[int, LedgerEvent]


class EventSource(Protocol):
    """The log, wherever it is read from."""

    async def page(self, after: int, limit: int) -> Sequence[Positioned]:
        """The next events after a position, dense, none if there are none yet. Quick while each
        page follows the one before.
        """
        ...


class Part:
    """One partition of one projection on its way. position: of the last event folded."""

    def __init__(
        self,
        *,
        projection: str,
        partition: int,
        folder: Folder[Any],
        store: ViewStore[Any],
        new_epoch: Callable[[], str],
    ) -> None:
        self.projection = projection
        self.partition = partition
        self.position = 0
        self._folder = folder
        self._store = store
        self._new_epoch = new_epoch
        self._checkpoint = Checkpoint()
        self._storing: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Go on after what is stored."""
        self._checkpoint = await self._store.checkpoint(self.partition)
        self.position = self._checkpoint.position
        await self._folder.load(self._store.reader(self._checkpoint.generation))

    @property
    def takes_effects(self) -> bool:
        """Whether it folds effects rather than events, so that those are worked out once."""
        return isinstance(self._folder, EffectFolder)

    async def fold(self, events: Sequence[Positioned]) -> None:
        """Fold those that follow `position`. Raises EventPoisoned."""
        await self._folder.fold_events(events)
        self.position = events[-1][0]

    async def fold_effects(self, effects: Sequence[UserEffect], last: int) -> None:
        """Fold this partition's effects of the events up to position `last`."""
        assert isinstance(self._folder, EffectFolder)
        await self._folder.fold_effects([one for one in effects if one.position > self.position])
        self.position = last

    async def commit(self) -> None:
        """Begin to store what was folded, with its position, when the batch before it is stored.

        Folding may go on meanwhile. Raises what settle() raises.
        """
        await self.settle()
        if self.position == self._checkpoint.position:
            return
        reached = msgspec.structs.replace(
            self._checkpoint,
            position=self.position,
            epoch=self._checkpoint.epoch or self._new_epoch(),
        )
        self._storing = asyncio.create_task(self._store_batch(self._folder.drain(), reached))

    async def settle(self) -> None:
        """Wait until all that was given to commit() is stored.

        Raises RebuildRefused if somebody else writes this generation.
        """
        storing, self._storing = self._storing, None
        if storing is not None:
            await storing

    async def _store_batch(self, batch: Any, reached: Checkpoint) -> None:
        refused = await self._store.commit(
            self.partition, batch, expected=self._checkpoint, reached=reached
        )
        if refused is not None:
            raise RebuildRefused(
                f"{self.projection}, partition {self.partition}: generation "
                f"{reached.generation} was changed or deleted by somebody else: {refused}"
            )
        self._checkpoint = reached


async def advance(
    parts: Sequence[Part],
    source: EventSource,
    targets: Sequence[int],
    *,
    on_progress: Callable[[], None] = lambda: None,
) -> None:
    """Fold every part up to its target position and store it; one that is there already stays.

    Folding goes on while a batch is being stored, which is the store's work more than ours.
    targets: by part. Raises EventPoisoned (what comes before it is stored as far as it was
    committed), RebuildRefused if the source ends before a target.
    """
    try:
        await _advance(parts, source, targets, on_progress)
    finally:
        # Also after a fault: nothing may be written any more once this is over.
        settled = await asyncio.gather(*(part.settle() for part in parts), return_exceptions=True)
    for fault in settled:
        if fault is not None:
            raise fault
    on_progress()


async def _advance(
    parts: Sequence[Part],
    source: EventSource,
    targets: Sequence[int],
    on_progress: Callable[[], None],
) -> None:
    stored = min((part.position for part in parts), default=0)
    while behind := [
        (part, target)
        for part, target in zip(parts, targets, strict=True)
        if part.position < target
    ]:
        at = min(part.position for part, _ in behind)
        page = await source.page(at, min(PAGE_EVENTS, max(target for _, target in behind) - at))
        if not page:
            raise RebuildRefused(f"the log has nothing after position {at} yet")
        await _fold_page(behind, page)
        if page[-1][0] - stored >= COMMIT_EVENTS:
            for part, _ in behind:
                await part.commit()
            stored = page[-1][0]
            on_progress()
    for part in parts:
        await part.commit()


async def _fold_page(behind: Sequence[tuple[Part, int]], page: Sequence[Positioned]) -> None:
    first, last = page[0][0], page[-1][0]
    effects: dict[int, list[UserEffect]] | None = None
    for part, target in behind:
        until = min(last, target)
        if part.position >= until:
            continue
        if part.takes_effects and until == last:
            if effects is None:
                effects = _effects_by_partition(page)
            await part.fold_effects(effects[part.partition], last)
        else:
            await part.fold(page[part.position + 1 - first : until + 1 - first])


def _effects_by_partition(page: Sequence[Positioned]) -> dict[int, list[UserEffect]]:
    found: dict[int, list[UserEffect]] = {number: [] for number in range(POSTINGS_PARTITIONS)}
    for position, event in page:
        for effect in effects_of(position, event):
            found[partition_of(effect.user_id, POSTINGS_PARTITIONS)].append(effect)
    return found
