"""The Faust worker of one projection: consumes a topic, hands each record to its partition's
worker.

The only module that imports Faust. Of Faust it takes group membership, fetching and life cycle,
not its acknowledgements: every assignment seeks to the offset stored with the views, and any
exception ends the process (the supervisor starts it again) because Faust would skip the record.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn, cast

import faust
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.transport.drivers import aiokafka as driver
from mode import CrashingSupervisor

from projections.partition import PartitionWorker, Record
from projections.ports import Checkpoint
from schemas.records import read_head

SESSION_SECONDS = 10
HEARTBEAT_SECONDS = 2
REQUEST_SECONDS = 30
COMMIT_SECONDS = 5
# A topic that is made anew takes its partitions away from every worker; one that looks again this
# often gets them back (after five minutes by the driver's default).
METADATA_SECONDS = 2
STOP_SECONDS = 5
POLL_RECORDS_MAX = 500
# Fetched records wait in this queue; a full one pauses fetching, which hurts with small records
# (measured at 20 events each: 430 records/s with 256, 1,300 with 1,024, 1,900 with 4,096). Records
# of 500 events are 115 KB, so this bounds the memory of a long catch-up near 240 MB.
BUFFERED_RECORDS_MAX = 2_048

log = logging.getLogger("durian")


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


class ViewSource(msgspec.Struct, frozen=True):
    """What the worker asks of whoever wires it.

    partition_worker: a new worker of a partition, with nothing remembered. stored: its checkpoint.
    """

    partition_worker: Callable[[int], PartitionWorker]
    stored: Callable[[int], Awaitable[Checkpoint]]


class SeekingConsumer(driver.Consumer):
    """Starts each partition where its views end. Source: docs/adr/0005."""

    async def perform_seek(self) -> None:
        app = cast(ProjectionApp, self.app)
        for tp in self.assignment():
            if tp.topic != app.settings.topic:
                continue
            checkpoint = await app.assign(tp.partition)
            # Another record there than the one folded last: the topics were made anew since. All
            # of them is read again, and what the views hold is passed over by its positions.
            is_same_topic = await _ends_at(
                app.settings.kafka_url, TopicPartition(tp.topic, tp.partition), checkpoint
            )
            offset = checkpoint.offset + 1 if is_same_topic else 0
            await self.seek(tp, offset)
            self._committed_offset[tp] = offset or None


async def _ends_at(kafka_url: str, tp: TopicPartition, checkpoint: Checkpoint) -> bool:
    """Whether the record at the checkpoint's offset is the one that the checkpoint is about."""
    if checkpoint.offset < 0:
        return True
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_url.removeprefix("kafka://"), group_id=None)
    await consumer.start()
    try:
        consumer.assign([tp])
        begins = await consumer.beginning_offsets([tp])
        ends = await consumer.end_offsets([tp])
        if not begins[tp] <= checkpoint.offset < ends[tp]:
            return False
        consumer.seek(tp, checkpoint.offset)
        record = await consumer.getone(tp)
        return read_head(record.headers).last == checkpoint.position
    finally:
        await consumer.stop()


class SeekingTransport(driver.Transport):
    Consumer = SeekingConsumer


class ProjectionApp(faust.App):
    """A Faust app whose partitions start at their views' checkpoints."""

    settings: WorkerSettings
    assign: Callable[[int], Awaitable[Checkpoint]]

    def _new_transport(self) -> Any:
        return SeekingTransport(self.conf.broker_consumer, self)


async def run_worker(
    settings: WorkerSettings,
    source: ViewSource,
    *,
    on_ready: Callable[[], None],
    on_progress: Callable[[int, Checkpoint], None],
    stop: asyncio.Event,
) -> None:
    """Fold until `stop` is set. A crash, whatever its cause, logs it and ends the process with 1.

    on_ready: called once the partitions are assigned. on_progress: partition and its checkpoint,
    after each record.
    """
    workers: dict[int, PartitionWorker] = {}

    async def assign(partition: int) -> Checkpoint:
        # Assigned (again): what an earlier assignment remembered may be another worker's past.
        workers[partition] = source.partition_worker(partition)
        return await source.stored(partition)

    app = _app(settings, assign)
    topic = app.topic(
        settings.topic,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
    )

    async def fold(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            record = Record(
                offset=message.offset,
                head=read_head(message.headers),
                value=message.value or b"",
            )
            checkpoint = await workers[message.partition].receive(record)
            on_progress(message.partition, checkpoint)

    app.agent(topic, name=f"{settings.projection}.fold", supervisor_strategy=CrashingSupervisor)(
        fold
    )
    await _run(app, on_ready, stop)


async def _run(app: ProjectionApp, on_ready: Callable[[], None], stop: asyncio.Event) -> None:
    stopping = asyncio.create_task(stop.wait())
    folding = asyncio.create_task(_start_and_fold(app, on_ready))
    await asyncio.wait([stopping, folding], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if folding.done():
        _leave("the worker crashed", folding.exception())
    folding.cancel()
    _, late = await asyncio.wait([asyncio.create_task(app.stop())], timeout=STOP_SECONDS)
    if late:
        _leave(f"Faust did not stop in {STOP_SECONDS} s", None)


async def _start_and_fold(app: ProjectionApp, on_ready: Callable[[], None]) -> None:
    await app.start()
    if not app.should_stop:
        on_ready()
    await app.wait_until_stopped()
    if app.crash_reason is not None:
        raise app.crash_reason


def _leave(why: str, fault: BaseException | None) -> NoReturn:
    # A crashed Faust cannot be stopped in order: its own threads may keep the process alive for
    # ever. Leaving at once loses nothing, because the checkpoint is with the views.
    log.critical("%s", why, exc_info=fault)
    logging.shutdown()
    os._exit(1)


def _app(settings: WorkerSettings, assign: Callable[[int], Awaitable[Checkpoint]]) -> ProjectionApp:
    app = ProjectionApp(
        f"durian-{settings.projection}",
        broker=settings.kafka_url,
        datadir=str(settings.data_dir),
        consumer_group_instance_id=settings.instance,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
        broker_request_timeout=REQUEST_SECONDS,
        broker_commit_interval=COMMIT_SECONDS,  # advisory: for lag displays only
        broker_max_poll_records=POLL_RECORDS_MAX,
        consumer_metadata_max_age_ms=METADATA_SECONDS * 1_000,
        stream_buffer_maxsize=BUFFERED_RECORDS_MAX,
        # Waiting for every fetched record would never end once the agent crashed; whatever is not
        # in the views yet is fetched again.
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    app.settings = settings
    app.assign = assign
    return app
