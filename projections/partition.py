"""One partition's worker: which record may be folded, and what a refused commit means.

Correct whatever redelivers: each record says which positions it covers, so what the views hold
already is dropped, what follows is folded, a hole raises. It holds even when two relays wrote, or
the topics were made anew. Kafka's own committed offsets are never trusted. Knows neither Faust nor
Redis.
"""

from collections.abc import Callable

import msgspec

from projections.errors import RecordsMissing, ViewsRolledBack
from projections.folders import Folder
from projections.ports import Checkpoint, ViewStore
from schemas.records import RecordHead


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One Kafka record as received. offset: Kafka's."""

    offset: int
    head: RecordHead
    value: bytes


class PartitionWorker:
    """Folds a partition's records into a store, each in one atomic step.

    new_epoch: names a new line of views when the store holds none.
    """

    def __init__(
        self,
        *,
        partition: int,
        folder: Folder,
        store: ViewStore,
        new_epoch: Callable[[], str],
    ) -> None:
        self._partition = partition
        self._folder = folder
        self._store = store
        self._new_epoch = new_epoch
        # None: what this worker remembers may not be what the store holds.
        self._checkpoint: Checkpoint | None = None

    async def receive(self, record: Record) -> Checkpoint:
        """Fold a record, or drop it if the views hold it already; returns the views' checkpoint.

        Raises RecordsMissing at a hole, ViewsRolledBack when the store is behind what was written.
        """
        while True:
            checkpoint = self._checkpoint
            if checkpoint is None:
                checkpoint = await self._store.checkpoint(self._partition)
                await self._folder.load(self._store)
            if record.head.last <= checkpoint.position:
                self._checkpoint = checkpoint
                return checkpoint
            self._check_follows(record.head, checkpoint)
            self._checkpoint = None
            reached = await self._fold(record, checkpoint)
            if reached is not None:
                self._checkpoint = reached
                return reached

    async def _fold(self, record: Record, checkpoint: Checkpoint) -> Checkpoint | None:
        """The new checkpoint; None when another worker was first: reload and look again."""
        batch = await self._folder.fold(
            record.head, record.value, after=checkpoint.position, reader=self._store
        )
        reached = Checkpoint(
            position=record.head.last,
            sequence=record.head.sequence,
            offset=record.offset,
            epoch=checkpoint.epoch or self._new_epoch(),
        )
        found = await self._store.commit(
            self._partition, batch, expected=checkpoint, reached=reached
        )
        if found is None:
            return reached
        same_line = found.epoch == checkpoint.epoch or not checkpoint.epoch
        if not same_line or found.position <= checkpoint.position:
            raise ViewsRolledBack(
                partition=self._partition, expected=checkpoint.position, found=found.position
            )
        return None

    def _check_follows(self, head: RecordHead, checkpoint: Checkpoint) -> None:
        if head.first > checkpoint.position + 1:
            raise RecordsMissing(
                partition=self._partition, expected=checkpoint.position + 1, found=head.first
            )
