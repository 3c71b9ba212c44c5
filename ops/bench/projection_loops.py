"""What a Faust worker is held against: plain consume loops in a process of their own.

`python -m ops.bench.projection_loops` reads one Loop as JSON from stdin, consumes a partition from
its beginning to the log's last position, and prints Consumed as JSON. Same folds, same Redis.
"""

import importlib
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from projections.batch import Batch
from projections.folders import folder
from projections.partition import PartitionWorker, Record
from projections.redis_views import RedisViews
from schemas.codecs import decode_event
from schemas.records import read_head

POLL_RECORDS_MAX = 500
POLL_MS = 1_000
FETCH_BYTES_MAX = 4 << 20
# librdkafka's default of 100,000 queued messages; a smaller one stalls it for a second at a time.
QUEUED_MESSAGES_MIN = 100_000


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """driver: who consumes. projection: whose folds and views; "" decodes and forgets.

    last: position at which the loop ends.
    """

    driver: Literal["aiokafka", "librdkafka"]
    topic: str
    bootstrap: str
    redis_url: str
    last: int
    projection: str = ""


class Consumed(msgspec.Struct, frozen=True, kw_only=True):
    """From the first fetched records on; cpu_seconds: of the whole process in that time."""

    events: int
    seconds: float
    cpu_seconds: float


async def consume(loop: Loop) -> Consumed:
    """Run a loop in this process."""
    pages = _aiokafka(loop) if loop.driver == "aiokafka" else _librdkafka(loop)
    store = RedisViews(loop.projection, loop.redis_url) if loop.projection else None
    worker = _worker(loop.projection, store) if store else None
    began = cpu_began = 0.0
    first = reached = 0
    try:
        async for page in pages:
            if not began:
                began, cpu_began, first = (
                    time.perf_counter(),
                    time.process_time(),
                    page[0].head.first,
                )
            if worker is not None:
                await worker.receive(page)
            else:
                for record in page:
                    for line in record.value.splitlines():
                        decode_event(line)
            reached = page[-1].head.last
            if reached >= loop.last:
                break
    finally:
        await pages.aclose()
        if store is not None:
            await store.close()
    return Consumed(
        events=reached - first + 1,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - cpu_began,
    )


def _worker(projection: str, store: RedisViews) -> PartitionWorker[Batch]:
    return PartitionWorker(
        partition=0, folder=folder(projection), store=store, new_epoch=lambda: "bench"
    )


async def _aiokafka(loop: Loop) -> AsyncGenerator[Sequence[Record], None]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=loop.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES_MAX,
    )
    await consumer.start()
    try:
        partition = TopicPartition(loop.topic, 0)
        consumer.assign([partition])
        while True:
            found = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS_MAX)
            if found:
                yield [
                    Record(offset=one.offset, head=read_head(one.headers), value=one.value or b"")
                    for one in found[partition]
                ]
    finally:
        await consumer.stop()


async def _librdkafka(loop: Loop) -> AsyncGenerator[Sequence[Record], None]:
    library: Any = importlib.import_module("confluent_kafka")
    consumer = library.Consumer(
        {
            "bootstrap.servers": loop.bootstrap,
            "group.id": "bench",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "queued.min.messages": QUEUED_MESSAGES_MIN,
        }
    )
    try:
        consumer.assign([library.TopicPartition(loop.topic, 0, 0)])
        while True:
            found = consumer.consume(POLL_RECORDS_MAX, POLL_MS / 1_000)
            if found:
                yield [
                    Record(
                        offset=one.offset(), head=read_head(one.headers()), value=one.value() or b""
                    )
                    for one in found
                ]
    finally:
        consumer.close()


def main() -> None:
    loop = msgspec.json.decode(sys.stdin.buffer.read(), type=Loop)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(consume(loop))))


if __name__ == "__main__":
    main()
