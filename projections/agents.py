"""The Faust worker of one projection: consumes a topic, hands records to their partitions' workers.

The only module that imports Faust. Of Faust it takes group membership, fetching and life cycle, not
its acknowledgements nor its streams: every assignment seeks to where the views end, and any
exception ends the process (the supervisor starts it again) because Faust would skip the record.
Only an event that cannot be folded leaves the process alive, with its partition stopped.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, cast

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import CrashingSupervisor

from projections.desk import Desk, Listener, ViewSource, WorkerSettings
from projections.errors import KafkaAway
from projections.partition import Record
from projections.seeking import offsets_after
from projections.topic_watch import wait_for_topic, watch_topic
from schemas.records import RecordError, read_head

SESSION_SECONDS = 10
HEARTBEAT_SECONDS = 2
REQUEST_SECONDS = 30
# A topic that is made anew takes its partitions away from every worker; one that looks again this
# often gets them back (after five minutes by the driver's default).
METADATA_SECONDS = 2
STOP_SECONDS = 5
LAG_SECONDS = 1.0
FETCH_SECONDS = 1.0
POLL_RECORDS_MAX = 500

log = logging.getLogger("durian")


class GroupThread(driver.AIOKafkaConsumerThread):
    """Leaves the group when stopped in order, so that others take over at once.

    A worker that is killed does not, and finds its partitions again when it comes back; the driver
    never says goodbye for a worker that can come back.
    """

    async def on_thread_stop(self) -> None:
        coordinator = self._consumer._coordinator if self._consumer is not None else None
        if coordinator is not None:
            coordinator._group_instance_id = None
        await super().on_thread_stop()

    async def check(self) -> None:
        """Raises what made the driver give up joining the group; Faust would wait for ever."""
        await self.call_thread(self._check)

    async def _check(self) -> None:
        coordinator = self._consumer._coordinator if self._consumer is not None else None
        if coordinator is not None:
            coordinator.check_errors()


class SeekingConsumer(driver.Consumer):
    """Starts each partition where its views end. Source: docs/adr/0005."""

    def _new_consumer_thread(self) -> GroupThread:
        return GroupThread(self, loop=self.loop, beacon=self.beacon)

    async def check(self) -> None:
        """Raises what keeps this worker out of its group for good."""
        await cast(GroupThread, self._thread).check()

    async def perform_seek(self) -> None:
        app = cast(ProjectionApp, self.app)
        assigned = [tp for tp in self.assignment() if tp.topic == app.settings.topic]
        offsets = await app.desk.assign(
            [tp.partition for tp in assigned], generation=app.consumer_generation_id
        )
        for tp in assigned:
            await self.seek(tp, offsets[tp.partition])

    async def _drain_messages(self, fetcher: Any) -> None:
        # Faust's own way from here, by conductor, stream and agent, costs 100 us and more of each
        # record: 2,100 records a second where this does 30,000.
        desk = cast(ProjectionApp, self.app).desk
        try:
            while not (self.should_stop or fetcher.should_stop):
                fetched, _ = await self._wait_next_records(FETCH_SECONDS)
                for tp, records in (fetched or {}).items():
                    # During a rebalance nothing is taken: it is sought and fetched again.
                    if self.flow_active:
                        await self._give(desk, tp, records)
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise

    async def _give(self, desk: Desk, tp: TP, fetched: Sequence[Any]) -> None:
        missed = await desk.give(tp.partition, _records(tp, fetched))
        if missed is not None:
            await self.seek(tp, missed)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's own watch looks for acknowledgements, which nobody gives; see lagging()."""


class SeekingTransport(driver.Transport):
    Consumer = SeekingConsumer


class ProjectionApp(faust.App):
    """A Faust app whose partitions start at their views' checkpoints."""

    settings: WorkerSettings
    desk: Desk

    def _new_transport(self) -> Any:
        return SeekingTransport(self.conf.broker_consumer, self)


async def run_worker(
    settings: WorkerSettings,
    source: ViewSource,
    *,
    listener: Listener,
    on_ready: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Fold until `stop` is set. A crash, whatever its cause, logs it and ends the process with 1.

    on_ready: called once the worker is a member of its group.
    """
    stopping = asyncio.create_task(stop.wait())
    waiting = asyncio.create_task(
        wait_for_topic(settings.bootstrap, settings.topic, on_wait=listener.waiting)
    )
    await asyncio.wait([stopping, waiting], return_when=asyncio.FIRST_COMPLETED)
    if stopping.done():
        waiting.cancel()
        await asyncio.wait([waiting])
        return
    app = _app(settings)
    app.desk = Desk(source, listener, partial(offsets_after, settings.bootstrap, settings.topic))
    _add_agent(app)
    _give_back_when_revoked(app)
    await _run(app, listener, on_ready, stopping)


def _add_agent(app: ProjectionApp) -> None:
    settings = app.settings
    topic = app.topic(
        settings.topic,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
    )

    async def subscribe(stream: Any) -> None:
        """Makes Faust subscribe the topic; records do not come this way."""
        async for _ in stream:
            pass

    app.agent(topic, name=settings.projection, supervisor_strategy=CrashingSupervisor)(subscribe)


def _records(tp: TP, fetched: Sequence[Any]) -> list[Record]:
    records = []
    for one in fetched:
        try:
            head = read_head(one.headers)
        except RecordError as exc:
            # Somebody else's. Had it displaced one of ours, the next one would leave a hole.
            log.warning("%s, offset %d is passed over: %s", tp, one.offset, exc)
        else:
            records.append(Record(offset=one.offset, head=head, value=one.value or b""))
    return records


def _give_back_when_revoked(app: ProjectionApp) -> None:
    async def revoked(_app: Any, *_revoked: Any, signal: Any, **_rest: Any) -> None:
        await app.desk.leave()

    app.on_partitions_revoked.connect(revoked)  # type: ignore[arg-type]  # mypy: a named argument


async def _run(
    app: ProjectionApp,
    listener: Listener,
    on_ready: Callable[[], None],
    stopping: "asyncio.Task[Any]",
) -> None:
    desk = app.desk
    ends: dict[asyncio.Future[Any], str] = {
        asyncio.create_task(_start_and_fold(app, on_ready)): "the worker crashed",
        asyncio.create_task(_watch(app, listener)): "the topic is away",
        asyncio.create_task(_tell_lags(app)): "the worker cannot be a member of its group",
        desk.failed: "the views cannot be folded",
    }
    await asyncio.wait([stopping, *ends], return_when=asyncio.FIRST_COMPLETED)
    for ended, why in ends.items():
        if ended.done():
            fault = ended.exception()
            if isinstance(fault, KafkaAway):
                # With a goodbye: to a known worker that comes back Kafka gives what it had, and if
                # that was nothing, then nothing again.
                await _stops(app)
            _leave(why, fault)
        ended.cancel()
    if not await _stops(app):
        _leave(f"Faust did not stop in {STOP_SECONDS} s", None)


async def _stops(app: ProjectionApp) -> bool:
    await app.desk.leave()
    _, late = await asyncio.wait([asyncio.create_task(app.stop())], timeout=STOP_SECONDS)
    return not late


async def _start_and_fold(app: ProjectionApp, on_ready: Callable[[], None]) -> None:
    await app.start()
    if not app.should_stop:
        on_ready()
    await app.wait_until_stopped()
    if app.crash_reason is not None:
        raise app.crash_reason


async def _watch(app: ProjectionApp, listener: Listener) -> None:
    await watch_topic(
        app.settings.bootstrap,
        app.settings.topic,
        group=app.conf.id,
        has_partitions=lambda: app.desk.has_partitions,
        on_away=listener.waiting,
    )


async def _tell_lags(app: ProjectionApp) -> None:
    def high_water(partition: int) -> int:
        # None before the first answer of the broker.
        return app.consumer.highwater(TP(app.settings.topic, partition)) or 0

    while True:
        await asyncio.sleep(LAG_SECONDS)
        await cast(SeekingConsumer, app.consumer).check()
        app.desk.tell_lags(high_water)


def _leave(why: str, fault: BaseException | None) -> NoReturn:
    # A crashed Faust cannot be stopped in order: its own threads may keep the process alive for
    # ever. Leaving at once loses nothing, because the checkpoint is with the views.
    log.critical("%s", why, exc_info=fault)
    logging.shutdown()
    os._exit(1)


def _app(settings: WorkerSettings) -> ProjectionApp:
    app = ProjectionApp(
        # The group's name, with a dot since assignments are dealt otherwise: members of a group
        # must agree on that, and killed ones stay for SESSION_SECONDS.
        f"durian.{settings.projection}",
        broker=settings.kafka_url,
        datadir=str(settings.data_dir),
        consumer_group_instance_id=settings.instance,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
        broker_request_timeout=REQUEST_SECONDS,
        broker_max_poll_records=POLL_RECORDS_MAX,
        consumer_metadata_max_age_ms=METADATA_SECONDS * 1_000,
        stream_wait_empty=False,
        topic_allow_declare=False,
        # Without tables this only decides who deals the partitions out: not Faust's own assignor,
        # which gives 4 partitions to 3 workers as 2, 2 and 0.
        table_standby_replicas=0,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    app.settings = settings
    return app
