"""Reading a topic of Kafka by aiokafka, record by record: what it ends with, and all of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from engine.errors import KafkaUnavailable
from engine.relay import PartitionEnds, TopicRecord

ANSWER_SECONDS = 10.0
REQUEST_SECONDS = 5
FETCH_BYTES_MAX = 4 << 20


@contextlib.asynccontextmanager
async def kafka_faults(doing: str, seconds: float) -> AsyncIterator[None]:
    """Whatever the driver raises inside, and being late, becomes KafkaUnavailable."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise KafkaUnavailable(f"Kafka: {doing}: no answer in {seconds:.0f} s") from exc
    except (KafkaError, OSError) as exc:
        raise KafkaUnavailable(f"Kafka: {doing}: {exc!r}") from exc


class TopicReader:
    """One consumer of all partitions of a topic, without a group; an async context manager.

    Entering it raises KafkaUnavailable, also if there is no such topic.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self._bootstrap = bootstrap
        self._consumer: AIOKafkaConsumer | None = None
        self._partitions: list[TopicPartition] = []

    async def __aenter__(self) -> "TopicReader":
        self._consumer = consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=REQUEST_SECONDS * 1_000,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )
        try:
            async with kafka_faults(f"reading {self.topic}", ANSWER_SECONDS):
                await consumer.start()
                await self._assign(consumer)
        except (KafkaUnavailable, asyncio.CancelledError):
            await consumer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    @property
    def partition_count(self) -> int:
        return len(self._partitions)

    async def next_offsets(self) -> list[int]:
        """Per partition the offset that the next record written will get."""
        consumer = self._assigned()
        async with kafka_faults(f"reading {self.topic}", ANSWER_SECONDS):
            ends = await consumer.end_offsets(self._partitions)
        return [ends[partition] for partition in self._partitions]

    async def ends(self) -> list[PartitionEnds]:
        """The first and the last record of every partition. Moves what read() returns next."""
        consumer, ends = self._assigned(), []
        async with kafka_faults(f"reading {self.topic}", ANSWER_SECONDS):
            begins = await consumer.beginning_offsets(self._partitions)
            nexts = await consumer.end_offsets(self._partitions)
            for number, partition in enumerate(self._partitions):
                begin, end = begins[partition], nexts[partition]
                held = []
                for offset in (begin, end - 1) if begin < end else ():
                    consumer.seek(partition, offset)
                    held.append(await self._one(number))
                ends.append(PartitionEnds(end, *(held or (None, None))))
        return ends

    async def rewind(self) -> None:
        """Let read() return the first record of every partition next."""
        consumer = self._assigned()
        async with kafka_faults(f"reading {self.topic}", ANSWER_SECONDS):
            begins = await consumer.beginning_offsets(self._partitions)
        for partition, offset in begins.items():
            consumer.seek(partition, offset)

    async def read(self, partition: int, seconds: float) -> TopicRecord | None:
        """The next record of a partition; None if none was there for so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                return await self._one(partition)
        except TimeoutError:
            return None
        except KafkaError as exc:
            raise KafkaUnavailable(f"Kafka: reading {self.topic}: {exc!r}") from exc

    async def _one(self, partition: int) -> TopicRecord:
        record = await self._assigned().getone(self._partitions[partition])
        return TopicRecord(record.offset, tuple(record.headers), record.value or b"")

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        numbers = await consumer._client._wait_on_metadata(self.topic)
        self._partitions = [TopicPartition(self.topic, number) for number in sorted(numbers)]
        consumer.assign(self._partitions)

    def _assigned(self) -> AIOKafkaConsumer:
        assert self._consumer is not None, "used outside its block"
        return self._consumer
