"""Writing to Kafka by aiokafka: the topics themselves, and the idempotent publisher.

Every fault of the driver leaves here as KafkaUnavailable, within ANSWER_SECONDS. After it the
producer is given up, its unsent records with it: what Kafka holds is read again, never remembered.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from engine.errors import KafkaUnavailable
from engine.kafka_reader import TopicReader, kafka_faults
from engine.relay import Outgoing, PartitionEnds
from schemas.records import EVENTS_TOPIC, POSTINGS_PARTITIONS, POSTINGS_TOPIC

PARTITIONS = {EVENTS_TOPIC: 1, POSTINGS_TOPIC: POSTINGS_PARTITIONS}
REQUEST_BYTES_MAX = 4 << 20
REQUEST_SECONDS = 5
# Long enough for another broker to take over a partition; short blips are the producer's own
# affair, which it settles without a record too many.
ANSWER_SECONDS = 10.0
POLL_SECONDS = 0.05
# The log in PostgreSQL is the archive; Kafka keeps everything all the same, so that views can be
# rebuilt from it, and deletes nothing by itself.
TOPIC_SETTINGS = {"retention.ms": "-1", "max.message.bytes": str(REQUEST_BYTES_MAX)}


async def create_topics(bootstrap: str, names: Iterable[str] = tuple(PARTITIONS)) -> list[str]:
    """Create the named topics where they are missing; return the names created.

    Raises KafkaUnavailable.
    """
    async with kafka_faults("creating topics", ANSWER_SECONDS), _admin(bootstrap) as admin:
        return [name for name in names if await _create(admin, name)]


async def remake_topics(bootstrap: str, names: Sequence[str]) -> None:
    """Delete the named topics, if they are there, and create them. Raises KafkaUnavailable.

    Cut short, it leaves topics missing: create_topics makes them. Deleting all records instead
    would spare readers a new assignment, but a broker that is killed soon after forgets it.
    """
    async with kafka_faults("making topics anew", 3 * ANSWER_SECONDS), _admin(bootstrap) as admin:
        response = await admin.delete_topics(list(names))
        for name, code in response.topic_error_codes:  # type: ignore[attr-defined]  # generated per version
            if code and for_code(code) is not UnknownTopicOrPartitionError:
                raise for_code(code)(name)
        missing = set(names)
        while missing:
            # Brokers may learn of the deletion a moment later than the one that was asked.
            await asyncio.sleep(POLL_SECONDS)
            missing -= {name for name in missing if await _create(admin, name)}


@contextlib.asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_SECONDS * 1_000
    )
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, name: str) -> bool:
    topic = NewTopic(name, PARTITIONS[name], 1, topic_configs=TOPIC_SETTINGS)
    response = await admin.create_topics([topic])
    ((_, code, *_),) = response.topic_errors  # type: ignore[attr-defined]  # generated per version
    error = for_code(code)
    if code and error is not TopicAlreadyExistsError:
        raise error(name)
    return not code


class KafkaPublisher:
    """engine.relay.Publisher on an idempotent producer; an async context manager.

    Entering it creates missing topics; raises KafkaUnavailable.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> "KafkaPublisher":
        await create_topics(self._bootstrap)
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._give_up()

    async def ends(self, topic: str) -> list[PartitionEnds]:
        """What every partition begins and ends with. Raises KafkaUnavailable."""
        await create_topics(self._bootstrap, (topic,))
        async with TopicReader(self._bootstrap, topic) as reader:
            return await reader.ends()

    async def publish(self, topic: str, records: Iterable[Outgoing]) -> list[int]:
        """Send records and return, once all replicas have them, the offsets they were given.

        Raises KafkaUnavailable: any of them may be in Kafka or not.
        """
        producer, sent = self._producer, []
        if producer is None:
            raise KafkaUnavailable("the producer was given up")
        try:
            async with kafka_faults("publishing", ANSWER_SECONDS):
                for partition, head, value in records:
                    acknowledged = await producer.send(
                        topic, value, partition=partition, headers=head.headers()
                    )
                    sent.append(acknowledged)
                # All are waited for, so that no failure is left behind unseen.
                await asyncio.gather(*sent, return_exceptions=True)
                return [acknowledged.result().offset for acknowledged in sent]
        except (KafkaUnavailable, asyncio.CancelledError):
            for acknowledged in sent:
                acknowledged.cancel()
            await self._give_up()
            raise

    async def remake(self, topic: str) -> None:
        """Delete a topic and create it empty. Raises KafkaUnavailable."""
        # The producer numbers what it sends per partition: a new topic gets a new producer.
        await self._give_up()
        await remake_topics(self._bootstrap, (topic,))
        await self._start()

    async def _start(self) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            enable_idempotence=True,
            acks="all",
            request_timeout_ms=REQUEST_SECONDS * 1_000,
            max_request_size=REQUEST_BYTES_MAX,
            max_batch_size=1 << 20,
        )
        try:
            async with kafka_faults("starting the producer", ANSWER_SECONDS):
                await self._producer.start()
        except (KafkaUnavailable, asyncio.CancelledError):
            await self._give_up()
            raise

    async def _give_up(self) -> None:
        # stop() would first send what is waiting, for as long as Kafka is away. So the task that
        # sends is ended before; it catches a cancellation once per request it waits for.
        producer, self._producer = self._producer, None
        if producer is None:
            return
        sender = producer._sender.sender_task
        while sender is not None and not sender.done():
            sender.cancel()
            await asyncio.wait({sender}, timeout=POLL_SECONDS)
        producer._message_accumulator.fail_all(KafkaError("given up"))
        with contextlib.suppress(KafkaError, OSError):
            await producer.stop()
