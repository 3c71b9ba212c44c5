"""Kafka by aiokafka: topics, the idempotent publisher, and what the topics hold at their ends."""

from collections.abc import Awaitable, Sequence
from types import TracebackType

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from schemas.records import (
    EVENTS_TOPIC,
    POSTINGS_PARTITIONS,
    POSTINGS_TOPIC,
    RecordHead,
    read_head,
)

REQUEST_BYTES_MAX = 4 << 20
# The log in PostgreSQL is the archive; Kafka keeps everything all the same, so that views can be
# rebuilt from it, and deletes nothing by itself.
TOPIC_SETTINGS = {"retention.ms": "-1", "max.message.bytes": str(REQUEST_BYTES_MAX)}


async def create_topics(bootstrap: str) -> list[str]:
    """Create the ledger's topics where they are missing; return the names created."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    created = []
    try:
        for name, partitions in ((EVENTS_TOPIC, 1), (POSTINGS_TOPIC, POSTINGS_PARTITIONS)):
            topic = NewTopic(name, partitions, 1, topic_configs=TOPIC_SETTINGS)
            response = await admin.create_topics([topic])
            topic_errors: list[tuple[str, int, str]] = response.topic_errors  # type: ignore[attr-defined]  # generated per version
            for _, code, *_ in topic_errors:
                error = for_code(code)
                if code and error is not TopicAlreadyExistsError:
                    raise error(name)
                if not code:
                    created.append(name)
    finally:
        await admin.close()
    return created


class KafkaPublisher:
    """engine.relay.Publisher on an idempotent producer; an async context manager."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            enable_idempotence=True,
            acks="all",
            max_request_size=REQUEST_BYTES_MAX,
            max_batch_size=1 << 20,
        )

    async def __aenter__(self) -> "KafkaPublisher":
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._producer.stop()

    async def last(self, topic: str) -> list[RecordHead | None]:
        """Head of the last record of every partition, None where there is none."""
        partitions = sorted(await self._producer.partitions_for(topic))
        return await last_heads(self._bootstrap, topic, partitions)

    async def send(
        self, topic: str, partition: int, head: RecordHead, value: bytes
    ) -> Awaitable[object]:
        """Enqueue one record; await the result for the broker's acknowledgement."""
        acknowledged: Awaitable[object] = await self._producer.send(
            topic, value, partition=partition, headers=head.headers()
        )
        return acknowledged


async def last_heads(
    bootstrap: str, topic: str, partitions: Sequence[int]
) -> list[RecordHead | None]:
    """Head of the last record of the given partitions of a topic."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        max_partition_fetch_bytes=REQUEST_BYTES_MAX,
    )
    await consumer.start()
    try:
        assigned = [TopicPartition(topic, partition) for partition in partitions]
        consumer.assign(assigned)
        ends = await consumer.end_offsets(assigned)
        heads: list[RecordHead | None] = []
        for partition in assigned:
            if ends[partition] == 0:
                heads.append(None)
                continue
            consumer.seek(partition, ends[partition] - 1)
            record = await consumer.getone(partition)
            heads.append(read_head(record.headers))
        return heads
    finally:
        await consumer.stop()
