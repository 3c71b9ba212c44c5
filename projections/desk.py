"""Which partitions are this worker's at the moment, and the inbox and worker of each.

An assignment by Kafka opens inboxes at the offsets where the views end; the next one, or giving the
partitions back, closes them first. Knows neither Faust nor Kafka.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from projections.errors import EventPoisoned
from projections.inbox import Inbox, end
from projections.partition import PartitionWorker, Record
from projections.ports import Checkpoint

# Offsets at which the topic goes on behind checkpoints, by partition.
FindOffsets = Callable[[Mapping[int, Checkpoint]], Awaitable[Mapping[int, int]]]


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """kafka_url: "kafka://host:port". data_dir: Faust's own files; its parent must exist.

    instance: unique among the live workers of a projection. Kafka then knows a worker that was
    killed and came back, and returns its partitions at once instead of after SESSION_SECONDS.
    """

    projection: str
    topic: str
    kafka_url: str
    data_dir: Path
    instance: str

    @property
    def bootstrap(self) -> str:
        return self.kafka_url.removeprefix("kafka://")


class ViewSource(msgspec.Struct, frozen=True):
    """What the worker asks of whoever wires it.

    partition_worker: a new worker of a partition, with nothing remembered. stored: its checkpoint.
    """

    partition_worker: Callable[[int], PartitionWorker[Any]]
    stored: Callable[[int], Awaitable[Checkpoint]]


class Listener:
    """Told how the worker gets on, in its own loop; does nothing with it."""

    def waiting(self, what: str) -> None:
        """Nothing can be done before Kafka, or the topic, is there. what: for people."""

    def assigned(self, partitions: Sequence[int]) -> None:
        """These partitions are this worker's from now on, all others are not; may be none."""

    def progressed(self, partition: int, checkpoint: Checkpoint) -> None:
        """The views of a partition are there."""

    def lagging(self, partition: int, records: int) -> None:
        """So many records of a partition wait in Kafka; told about once in LAG_SECONDS."""

    def poisoned(self, partition: int, poisoned: EventPoisoned) -> None:
        """The partition stands still until another program is started."""


class Desk:
    """The inboxes of the partitions that are this worker's at the moment."""

    def __init__(self, source: ViewSource, listener: Listener, find: FindOffsets) -> None:
        self._find = find
        self._source = source
        self._listener = listener
        self._generation: int | None = None
        self._inboxes: dict[int, Inbox] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._assigning = asyncio.Lock()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def assign(self, partitions: Sequence[int], *, generation: int) -> dict[int, int]:
        """Offset at which each partition goes on. What was assigned before is given back first.

        generation: Kafka's number of the assignment; asked again for the same one, everything
        stays, and the offsets are those of the records that each inbox wants next.
        """
        async with self._assigning:
            if generation != self._generation:
                await self.leave()
                self._generation = generation
                stored = {number: await self._source.stored(number) for number in partitions}
                for partition, offset in (await self._find(stored)).items():
                    self._open(partition, offset)
                self._listener.assigned(partitions)
            return {partition: self._inboxes[partition].next_offset for partition in partitions}

    @property
    def has_partitions(self) -> bool:
        return bool(self._inboxes)

    async def leave(self) -> None:
        """Give all partitions back; when it returns, nothing of them is written any more."""
        inboxes, running = self._inboxes, self._running
        self._inboxes, self._running, self._generation = {}, {}, None
        await asyncio.gather(*(end(inbox, running[number]) for number, inbox in inboxes.items()))

    async def give(self, partition: int, records: Sequence[Record]) -> int | None:
        """Records as fetched; dropped if the partition is not ours any more.

        Not None: the offset to fetch again from, because what is there was left out (such as
        records fetched before a seek).
        """
        inbox = self._inboxes.get(partition)
        return None if inbox is None else await inbox.put(records)

    def tell_lags(self, high_water: Callable[[int], int]) -> None:
        """high_water: offset that the partition's next record in Kafka will get."""
        for partition, inbox in self._inboxes.items():
            self._listener.lagging(partition, max(0, high_water(partition) - inbox.next_offset))

    def _open(self, partition: int, next_offset: int) -> None:
        worker = self._source.partition_worker(partition)

        async def receive(records: Sequence[Record]) -> None:
            self._listener.progressed(partition, await worker.receive(records))

        inbox = self._inboxes[partition] = Inbox(receive, next_offset=next_offset)
        running = self._running[partition] = asyncio.create_task(inbox.run())
        running.add_done_callback(lambda done: self._ended(partition, done))

    def _ended(self, partition: int, done: "asyncio.Task[None]") -> None:
        fault = None if done.cancelled() else done.exception()
        if isinstance(fault, EventPoisoned):
            self._listener.poisoned(partition, fault)
        elif fault is not None and not self.failed.done():
            self.failed.set_exception(fault)
