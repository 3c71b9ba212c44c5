"""Where a real topic goes on after a checkpoint, and whether a topic is there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from urllib.parse import urlsplit

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from projections.errors import KafkaAway, RecordsMissing
from projections.ports import Checkpoint
from projections.seeking import offsets_after
from projections.topic_watch import LOOK_SECONDS, wait_for_topic, watch_topic
from schemas.records import RecordHead

pytestmark = pytest.mark.services

TOPIC = "test.offsets"
FULL_TOPIC = "test.offsets.full"
DEADLINE_S = 30.0
Span = tuple[int, int] | None
"""First and last position of a record; None: somebody else's record."""


@pytest.fixture
def bootstrap(projection_kafka: str) -> Iterator[str]:
    """A broker without the topic."""
    address = urlsplit(projection_kafka).netloc
    yield address
    asyncio.run(_delete(address))


async def _with_admin(
    bootstrap: str, use: Callable[[AIOKafkaAdminClient], Awaitable[object]]
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await use(admin)
    finally:
        await admin.close()


async def _create(bootstrap: str, name: str = TOPIC) -> None:
    topic = NewTopic(name, num_partitions=1, replication_factor=1)
    await _with_admin(bootstrap, lambda admin: admin.create_topics([topic]))


async def _delete(bootstrap: str, name: str = TOPIC) -> None:
    async def delete(admin: AIOKafkaAdminClient) -> None:
        if name in await admin.list_topics():
            await admin.delete_topics([name])

    await _with_admin(bootstrap, delete)
    with pytest.raises(KafkaAway):
        await _watch(bootstrap, name)


async def _watch(bootstrap: str, name: str = TOPIC, *, has_partitions: bool = True) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await watch_topic(
            bootstrap,
            name,
            group=f"group of {name}",
            has_partitions=lambda: has_partitions,
            on_away=print,
        )


async def _fill(bootstrap: str, spans: Sequence[Span], name: str = TOPIC) -> None:
    """A topic with these records, from offset 0."""
    await _create(bootstrap, name)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for number, span in enumerate(spans, 1):
            headers = (
                RecordHead(first=span[0], last=span[1], sequence=number).headers() if span else []
            )
            await producer.send(name, b"x" * 100, partition=0, headers=headers)
        await producer.flush()
    finally:
        await producer.stop()


def _tens(count: int) -> list[Span]:
    return [(10 * n + 1, 10 * n + 10) for n in range(count)]


def _at(position: int, offset: int = -1) -> Checkpoint:
    return Checkpoint(position=position, offset=offset, epoch="e")


async def _offset(bootstrap: str, checkpoint: Checkpoint) -> int:
    return (await offsets_after(bootstrap, TOPIC, {0: checkpoint}))[0]


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        (_at(0), 0),
        (_at(70, 6), 7),
        (_at(5, -1), 0),  # in the middle of a record
        (_at(10, -1), 1),
        (_at(345, 33), 34),  # stopped in the middle of the record after the last whole one
        (_at(345), 34),  # built from PostgreSQL: no offset
        (_at(345, 3), 34),  # the offset of another topic's time
        (_at(345, 999), 34),
        (_at(1_000, 99), 100),
        (_at(1_000), 100),
        (_at(5_000, 2), 100),  # the topic is behind the views
    ],
)
def test_offset_follows_from_the_position(
    full_topic: str, checkpoint: Checkpoint, expected: int
) -> None:
    found = asyncio.run(offsets_after(full_topic, FULL_TOPIC, {0: checkpoint}))
    assert found == {0: expected}


@pytest.fixture(scope="module")
def full_topic(projection_kafka: str) -> Iterator[str]:
    """A topic of 100 records of 10 positions each."""
    address = urlsplit(projection_kafka).netloc
    asyncio.run(_fill(address, _tens(100), FULL_TOPIC))
    yield address
    asyncio.run(_delete(address, FULL_TOPIC))


def _found(bootstrap: str, spans: Sequence[Span], checkpoint: Checkpoint) -> int:
    async def find() -> int:
        await _fill(bootstrap, spans)
        return await _offset(bootstrap, checkpoint)

    return asyncio.run(find())


def test_empty_topic_goes_on_at_its_begin(bootstrap: str) -> None:
    assert _found(bootstrap, [], _at(50, 4)) == 0


def test_records_of_somebody_else_are_passed_over(bootstrap: str) -> None:
    spans = [None, (1, 10), None, None, (11, 20), None, (21, 30), None]
    assert _found(bootstrap, spans, _at(20)) == 6


def test_watermark_records_of_a_quiet_partition_are_found(bootstrap: str) -> None:
    assert _found(bootstrap, [(1, 1_000), (1_001, 5_000), (5_001, 5_002)], _at(4_000)) == 1


def test_records_sent_again_make_it_read_from_a_place_before(bootstrap: str) -> None:
    spans = [*_tens(9), *_tens(9), *_tens(10)[9:]]
    offset = _found(bootstrap, spans, _at(50))
    covered = spans[offset]
    assert covered is not None
    assert covered[0] <= 51


def test_topic_that_begins_later_is_refused(bootstrap: str) -> None:
    async def find() -> int:
        await _fill(bootstrap, _tens(10))
        gone = {TopicPartition(TOPIC, 0): RecordsToDelete(before_offset=5)}
        await _with_admin(bootstrap, lambda admin: admin.delete_records(gone))
        assert await _offset(bootstrap, _at(50, 4)) == 5
        return await _offset(bootstrap, _at(49, 3))

    with pytest.raises(RecordsMissing, match=r"position 50 is missing, got 51.*--rebuild-topic"):
        asyncio.run(find())


def test_kafka_that_is_not_there_is_away() -> None:
    with pytest.raises(KafkaAway):
        asyncio.run(_offset("127.0.0.1:1", _at(0)))


def test_topic_is_waited_for_and_watched(bootstrap: str) -> None:
    reasons: list[str] = []
    heard = asyncio.Event()

    def hear(reason: str) -> None:
        reasons.append(reason)
        heard.set()

    async def watch() -> None:
        async with asyncio.timeout(DEADLINE_S):
            waiting = asyncio.create_task(wait_for_topic(bootstrap, TOPIC, on_wait=hear))
            await heard.wait()
            await _create(bootstrap)
            await waiting
            watching = asyncio.create_task(_watch(bootstrap))
            await _delete(bootstrap)
            with pytest.raises(KafkaAway, match="was deleted"):
                await watching

    asyncio.run(watch())
    assert reasons == [f"there is no topic {TOPIC}"]


def test_topic_that_its_group_does_not_know_of_is_away(bootstrap: str, full_topic: str) -> None:
    async def watch() -> None:
        await _create(bootstrap)
        async with _member(bootstrap, TOPIC), asyncio.timeout(DEADLINE_S):
            watching = asyncio.create_task(_watch(bootstrap, has_partitions=False))
            done, _ = await asyncio.wait([watching], timeout=3 * LOOK_SECONDS)
            assert not done, "others have the partitions"
            watching.cancel()
        async with _member(bootstrap, FULL_TOPIC):
            with pytest.raises(KafkaAway, match="overlooks"):
                await _watch(bootstrap, has_partitions=False)

    asyncio.run(watch())


@contextlib.asynccontextmanager
async def _member(bootstrap: str, topic: str) -> AsyncIterator[None]:
    """A member of the group of TOPIC, which has asked for another one perhaps."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=f"group of {TOPIC}")
    try:
        await consumer.start()
        yield
    finally:
        await consumer.stop()
