"""One partition's worker: which records may be folded, and what a refused commit means.

Correct whatever redelivers: each record says which positions it covers, so what the views hold
already is dropped, what follows is folded, a hole raises. It holds even when two relays wrote, or
the topics were made anew. Kafka's own committed offsets are never trusted. Knows neither Faust nor
Redis.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from projections.errors import EventPoisoned, RecordsMissing, ViewsRolledBack
from projections.folders import FOLD_FAULTS, Folder
from projections.ports import Checkpoint, Held, Moved, Overtaken, Refused, ViewStore
from schemas.records import RecordHead

# Until a rebuild that is about to switch lets go: it needs some milliseconds, and a worker that
# comes again late only adds to the lag.
HOLD_PAUSE_SECONDS = 0.003
# A batch keeps Redis to itself while it is applied (2,000 of orders and trades: 14 ms), and larger
# ones are hardly cheaper by the event.
BATCH_LINES_MAX = 2_000
BATCH_RECORDS_MAX = 256

BatchT = TypeVar("BatchT")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One Kafka record as received. offset: Kafka's."""

    offset: int
    head: RecordHead
    value: bytes


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """One batch that is in the views. events: lines of its records that were folded.

    at_ns: engine time of its last event, 0 if none was folded. seconds: the store's.
    """

    checkpoint: Checkpoint
    records: int
    events: int
    at_ns: int
    seconds: float


class Observer:
    """Told what a worker did; does nothing with it. Metrics do."""

    def committed(self, partition: int, committed: Committed) -> None:
        """A batch is in the views."""

    def refused(self, partition: int, refused: Refused) -> None:
        """The store took no batch; the worker knows how to go on."""


class PartitionWorker(Generic[BatchT]):
    """Folds a partition's records into a store, as many at a time as wait, in one atomic step.

    new_epoch: names a new line of views when the store holds none.
    """

    def __init__(
        self,
        *,
        partition: int,
        folder: Folder[BatchT],
        store: ViewStore[BatchT],
        new_epoch: Callable[[], str],
        observer: Observer | None = None,
    ) -> None:
        self._partition = partition
        self._folder = folder
        self._store = store
        self._new_epoch = new_epoch
        self._observer = observer or Observer()
        # None: what this worker remembers may not be what the store holds.
        self._checkpoint: Checkpoint | None = None
        self._poisoned: EventPoisoned | None = None

    async def receive(self, records: Sequence[Record]) -> Checkpoint:
        """Fold records in their order, dropping what the views hold; returns the views' checkpoint.

        Raises RecordsMissing at a hole, EventPoisoned at an event that cannot be folded, both when
        all that comes before is in the views; ViewsRolledBack when the store is behind what was
        written.
        """
        while True:
            checkpoint = self._checkpoint
            if checkpoint is None:
                checkpoint = await self._store.checkpoint(self._partition)
                await self._folder.load(self._store.reader(checkpoint.generation))
                self._checkpoint = checkpoint
            batch = self._next(records, checkpoint)
            if not batch:
                if self._poisoned is not None:
                    raise self._poisoned
                return checkpoint
            # Until the commit is known to be done.
            self._checkpoint = None
            try:
                self._checkpoint = await self._fold(batch, checkpoint)
            except EventPoisoned as poisoned:
                # Folded in part, perhaps: again from the views, and up to the event before it.
                self._poisoned = poisoned

    def _next(self, records: Sequence[Record], checkpoint: Checkpoint) -> list[Record]:
        """Those to fold next, in one batch; empty if the views hold all that can be folded."""
        until = self._until
        batch: list[Record] = []
        reached, lines = checkpoint.position, 0
        for record in records:
            head = record.head
            last = head.last if until is None else min(until, head.last)
            if last <= reached:
                continue
            if head.first > reached + 1:
                if batch:
                    break
                raise RecordsMissing(
                    partition=self._partition, expected=reached + 1, found=head.first
                )
            lines += record.value.count(b"\n") + 1
            if batch and (lines > BATCH_LINES_MAX or len(batch) >= BATCH_RECORDS_MAX):
                break
            batch.append(record)
            reached = last
        return batch

    @property
    def _until(self) -> int | None:
        return None if self._poisoned is None else self._poisoned.position - 1

    async def _fold(self, records: list[Record], checkpoint: Checkpoint) -> Checkpoint | None:
        """The new checkpoint; None when the store refused: reload and look again."""
        until, events, after = self._until, 0, checkpoint.position
        position, sequence, offset = after, checkpoint.sequence, checkpoint.offset
        for record in records:
            head = record.head
            events += await self._folder.fold_record(
                head, record.value, after=position, until=until
            )
            if until is None or head.last <= until:
                position, sequence, offset = head.last, head.sequence, record.offset
            else:
                position = until
        reached = Checkpoint(
            position=position,
            sequence=sequence,
            offset=offset,
            epoch=checkpoint.epoch or self._new_epoch(),
            generation=checkpoint.generation,
        )
        batch = self._drain(after)
        started = time.perf_counter()
        if not await self._commit(batch, expected=checkpoint, reached=reached):
            return None
        committed = Committed(
            checkpoint=reached,
            records=len(records),
            events=events,
            at_ns=self._folder.at_ns if events else 0,
            seconds=time.perf_counter() - started,
        )
        self._observer.committed(self._partition, committed)
        return reached

    def _drain(self, after: int) -> BatchT:
        try:
            return self._folder.drain()
        except FOLD_FAULTS as exc:
            # Which of the batch's events is to blame, nobody knows any more.
            reason = f"{type(exc).__name__}: {exc}"
            raise EventPoisoned(position=after + 1, reason=reason) from exc

    async def _commit(self, batch: BatchT, *, expected: Checkpoint, reached: Checkpoint) -> bool:
        """Whether it was applied; if not, another worker or a switch was first."""
        while True:
            refused = await self._store.commit(
                self._partition, batch, expected=expected, reached=reached
            )
            if refused is None:
                return True
            self._observer.refused(self._partition, refused)
            match refused:
                case Held():
                    await asyncio.sleep(HOLD_PAUSE_SECONDS)
                case Moved():
                    return False
                case Overtaken(found):
                    self._check_overtaken(expected, found)
                    return False

    def _check_overtaken(self, expected: Checkpoint, found: Checkpoint) -> None:
        same_line = found.epoch == expected.epoch or not expected.epoch
        if not same_line or found.position <= expected.position:
            raise ViewsRolledBack(
                partition=self._partition, expected=expected.position, found=found.position
            )
