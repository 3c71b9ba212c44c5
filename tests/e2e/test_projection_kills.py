"""Real workers on real Kafka and Redis: killed, fed twice, fed a hole, their Redis emptied.

Afterwards every view equals a fresh fold of the log.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from redis import Redis

from engine.kafka import KafkaPublisher, create_topics, remake_topics
from engine.relay import Outgoing
from projections.differences import compare
from projections.fresh import FreshFold
from projections.partition import Record
from projections.ports import Checkpoint
from projections.redis_views import RedisViews
from schemas import views
from schemas.events import LedgerEvent
from schemas.records import EVENTS_TOPIC, POSTINGS_PARTITIONS, POSTINGS_TOPIC
from tests.fixtures.ledger_logs import effect_records, event_records, positioned, random_log

pytestmark = [pytest.mark.services, pytest.mark.chaos]

PROJECTIONS = (views.MARKET, views.MINING, views.ACCOUNTS)
ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
KILLS = 5
RECORD_EVENTS = 40


class Workers:
    """Worker processes by projection, on the topics and the Redis of one test."""

    def __init__(self, bootstrap: str, redis_url: str, data_dir: Path) -> None:
        self.bootstrap = bootstrap
        self.redis_url = redis_url
        self._data_dir = data_dir
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, projection: str) -> None:
        environment = {
            **os.environ,
            "DURIAN_DATA": str(self._data_dir),
            "DURIAN_REDIS_URL": self.redis_url,
            "DURIAN_KAFKA_URL": f"kafka://{self.bootstrap}",
        }
        with (self._data_dir / f"{projection}.log").open("ab") as log:
            self.processes[projection] = subprocess.Popen(
                [sys.executable, "-m", "ops", "project", projection],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def kill(self, projection: str) -> None:
        self.processes[projection].kill()
        self.processes[projection].wait()

    def terminate(self) -> dict[str, int]:
        """Stop all that run; the exit codes by projection."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        return {name: process.wait(DEADLINE_S) for name, process in self.processes.items()}

    def log(self, projection: str) -> str:
        return (self._data_dir / f"{projection}.log").read_text()

    def checkpoints(self, projection: str) -> list[Checkpoint]:
        """Of every partition of the projection."""
        count = POSTINGS_PARTITIONS if projection == views.ACCOUNTS else 1

        async def read() -> list[Checkpoint]:
            store = RedisViews(projection, self.redis_url)
            try:
                return [await store.checkpoint(partition) for partition in range(count)]
            finally:
                await store.close()

        return asyncio.run(read())

    def position(self, projection: str) -> int:
        return min(checkpoint.position for checkpoint in self.checkpoints(projection))

    def wait_position(self, position: int, *, restarting: bool = False) -> None:
        """restarting: a worker that has ended is started again, as a supervisor does."""

        def is_there(projection: str) -> bool:
            if restarting and self.processes[projection].poll() is not None:
                self.start(projection)
            return self.position(projection) >= position

        for projection in PROJECTIONS:
            _wait(
                lambda name=projection: is_there(name),  # type: ignore[misc]
                lambda name=projection: self.log(name)[-3_000:],  # type: ignore[misc]
            )

    def publish(self, topic: str, partition: int, records: list[Record]) -> None:
        async def send() -> None:
            async with KafkaPublisher(self.bootstrap) as publisher:
                await publisher.publish(
                    topic, [Outgoing(partition, record.head, record.value) for record in records]
                )

        asyncio.run(send())

    def differences(self, log: list[LedgerEvent]) -> list[object]:
        found: list[object] = []
        for projection in PROJECTIONS:
            expected = FreshFold(projection).fold_all(positioned(log)).views
            found += asyncio.run(compare(projection, self.redis_url, expected))
        return found


def _wait(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.005)


async def _recreate_topics(bootstrap: str) -> None:
    await _delete_topics(bootstrap)
    await create_topics(bootstrap)


async def _delete_topics(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        present = {EVENTS_TOPIC, POSTINGS_TOPIC} & set(await admin.list_topics())
        if present:
            await admin.delete_topics(list(present))
        deadline = time.monotonic() + DEADLINE_S
        while present & set(await admin.list_topics()):
            assert time.monotonic() < deadline, "topics were not deleted"
            await asyncio.sleep(0.05)
    finally:
        await admin.close()


@pytest.fixture
def workers(projection_kafka: str, projection_redis: str, tmp_path: Path) -> Iterator[Workers]:
    """No worker yet, empty topics, an empty Redis; kills what a test leaves running."""
    bootstrap = urlsplit(projection_kafka).netloc
    asyncio.run(_recreate_topics(bootstrap))
    started = Workers(bootstrap, projection_redis, tmp_path)
    yield started
    for process in started.processes.values():
        process.kill()
        process.wait()


def _publish_range(workers: Workers, parts: dict[str, list[list[Record]]], at: slice) -> None:
    for topic, partitions in parts.items():
        for partition, records in enumerate(partitions):
            workers.publish(topic, partition, records[at])


def _parts(log: list[LedgerEvent]) -> dict[str, list[list[Record]]]:
    cuts = (RECORD_EVENTS,)
    return {EVENTS_TOPIC: [event_records(log, cuts)], POSTINGS_TOPIC: effect_records(log, cuts)}


def _kill_all_past(workers: Workers, position: int) -> None:
    """kill -9 each worker at the moment it is seen past the position, busy with what follows."""
    alive = set(PROJECTIONS)

    def kill_those_past() -> bool:
        for projection in sorted(alive):
            if workers.position(projection) > position:
                workers.kill(projection)
                alive.remove(projection)
        return not alive

    _wait(kill_those_past, lambda: "".join(workers.log(name)[-2_000:] for name in alive))


def test_workers_killed_in_the_middle_of_batches_lose_and_double_nothing(
    workers: Workers,
) -> None:
    log = random_log(21, seconds=40_000, trades=2_600)
    parts = _parts(log)
    total = len(parts[EVENTS_TOPIC][0])
    step = -(-total // (KILLS + 1))
    for projection in PROJECTIONS:
        workers.start(projection)
    for kill in range(KILLS + 1):
        _publish_range(workers, parts, slice(kill * step, (kill + 1) * step))
        if kill == KILLS:
            break
        halfway = (kill * step + step // 2) * RECORD_EVENTS
        _kill_all_past(workers, halfway)
        for projection in PROJECTIONS:
            workers.start(projection)
    workers.wait_position(len(log))
    assert workers.differences(log) == []
    assert set(workers.terminate().values()) == {0}


def test_records_sent_twice_change_nothing(workers: Workers) -> None:
    log = random_log(22, seconds=2_000, trades=100)
    parts = _parts(log)
    half = len(parts[EVENTS_TOPIC][0]) // 2
    for projection in PROJECTIONS:
        workers.start(projection)
    _publish_range(workers, parts, slice(0, half))
    _publish_range(workers, parts, slice(half - 10, half))
    _publish_range(workers, parts, slice(0, None))
    workers.wait_position(len(log))
    assert workers.differences(log) == []


def test_workers_go_on_with_topics_made_anew_in_a_moment(workers: Workers) -> None:
    """So quickly that looking for a topic that is away may miss it."""
    log = random_log(28, seconds=2_000, trades=100)
    for projection in PROJECTIONS:
        workers.start(projection)
    _publish_range(workers, _parts(log), slice(0, 30))
    workers.wait_position(30 * RECORD_EVENTS)
    total = 30 * RECORD_EVENTS
    for packed in (333, 150):
        asyncio.run(remake_topics(workers.bootstrap, (EVENTS_TOPIC, POSTINGS_TOPIC)))
        total = min(len(log), total + 400)
        refilled = {
            EVENTS_TOPIC: [event_records(log[:total], (packed,))],
            POSTINGS_TOPIC: effect_records(log[:total], (packed,)),
        }
        _publish_range(workers, refilled, slice(0, None))
        workers.wait_position(total, restarting=True)
    assert workers.differences(log[:total]) == []


def test_topics_lost_and_filled_again_leave_the_views_as_they_are(workers: Workers) -> None:
    log = random_log(26, seconds=2_000, trades=100)
    for projection in PROJECTIONS:
        workers.start(projection)
    _publish_range(workers, _parts(log), slice(0, 30))
    workers.wait_position(30 * RECORD_EVENTS)
    assert set(workers.terminate().values()) == {0}
    asyncio.run(_recreate_topics(workers.bootstrap))
    refilled = {
        EVENTS_TOPIC: [event_records(log, (333,))],
        POSTINGS_TOPIC: effect_records(log, (333,)),
    }
    _publish_range(workers, refilled, slice(0, None))
    for projection in PROJECTIONS:
        workers.start(projection)
    workers.wait_position(len(log))
    assert workers.differences(log) == []


def test_hole_ends_the_worker_without_touching_its_views(workers: Workers) -> None:
    log = random_log(23, seconds=2_000, trades=50)
    parts = _parts(log)
    records = parts[EVENTS_TOPIC][0]
    workers.publish(EVENTS_TOPIC, 0, [*records[:5], *records[6:]])
    workers.start(views.MARKET)
    process = workers.processes[views.MARKET]
    _wait(lambda: process.poll() is not None, lambda: workers.log(views.MARKET)[-3_000:])
    assert process.returncode == 1
    assert f"position {5 * RECORD_EVENTS + 1} is missing" in workers.log(views.MARKET)
    (checkpoint,) = workers.checkpoints(views.MARKET)
    assert (checkpoint.sequence, checkpoint.position) == (5, 5 * RECORD_EVENTS)


def test_emptied_redis_ends_the_worker_and_the_next_one_folds_all_again(workers: Workers) -> None:
    log = random_log(24, seconds=2_000, trades=50)
    parts = _parts(log)
    for projection in PROJECTIONS:
        workers.start(projection)
    _publish_range(workers, parts, slice(0, 30))
    workers.wait_position(30 * RECORD_EVENTS)
    epochs = {name: workers.checkpoints(name)[0].epoch for name in PROJECTIONS}
    with Redis.from_url(workers.redis_url) as client:
        client.flushall()
    _publish_range(workers, parts, slice(30, None))
    for projection in PROJECTIONS:
        process = workers.processes[projection]
        _wait(
            lambda one=process: one.poll() is not None,  # type: ignore[misc]
            lambda name=projection: workers.log(name)[-3_000:],  # type: ignore[misc]
        )
        assert process.returncode == 1
        assert "ViewsRolledBack" in workers.log(projection)
        workers.start(projection)
    workers.wait_position(len(log))
    assert workers.differences(log) == []
    for name in PROJECTIONS:
        assert workers.checkpoints(name)[0].epoch != epochs[name]


def test_event_that_cannot_be_read_stops_its_projections_only(workers: Workers) -> None:
    """Those that read it stand exactly before it, alive; with a good copy of the log they go on."""
    log = random_log(25, seconds=800, trades=20)
    parts, at = _parts(log), 3 * RECORD_EVENTS + 17
    records = list(parts[EVENTS_TOPIC][0])
    lines = records[3].value.split(b"\n")
    lines[at - records[3].head.first] = b'{"type":"novel","v":1,"at_ns":1}'
    records[3] = msgspec.structs.replace(records[3], value=b"\n".join(lines))
    _publish_range(workers, {**parts, EVENTS_TOPIC: [records]}, slice(0, None))
    for projection in PROJECTIONS:
        workers.start(projection)
    for projection in (views.MARKET, views.MINING):
        _wait(
            lambda name=projection: f"is stopped at position {at}" in workers.log(name),  # type: ignore[misc]
            lambda name=projection: workers.log(name)[-3_000:],  # type: ignore[misc]
        )
        assert workers.position(projection) == at - 1
        assert "(novel)" in workers.log(projection)
        expected = FreshFold(projection).fold_all(list(positioned(log))[: at - 1]).views
        assert asyncio.run(compare(projection, workers.redis_url, expected)) == []
        assert workers.processes[projection].poll() is None
    _wait(lambda: workers.position(views.ACCOUNTS) >= len(log), lambda: workers.log(views.ACCOUNTS))
    assert set(workers.terminate().values()) == {0}
    asyncio.run(_recreate_topics(workers.bootstrap))
    _publish_range(workers, parts, slice(0, None))
    for projection in PROJECTIONS:
        workers.start(projection)
    workers.wait_position(len(log))
    assert workers.differences(log) == []


def test_workers_find_topics_that_come_late_and_those_made_anew(workers: Workers) -> None:
    log = random_log(27, seconds=2_000, trades=100)
    asyncio.run(_delete_topics(workers.bootstrap))
    for projection in PROJECTIONS:
        workers.start(projection)
    for projection in PROJECTIONS:
        _wait(
            lambda name=projection: "there is no topic" in workers.log(name),  # type: ignore[misc]
            lambda name=projection: workers.log(name)[-3_000:],  # type: ignore[misc]
        )
    asyncio.run(create_topics(workers.bootstrap))
    _publish_range(workers, _parts(log), slice(0, 30))
    workers.wait_position(30 * RECORD_EVENTS)
    asyncio.run(_delete_topics(workers.bootstrap))
    for projection in PROJECTIONS:
        process = workers.processes[projection]
        _wait(
            lambda one=process: one.poll() is not None,  # type: ignore[misc]
            lambda name=projection: workers.log(name)[-3_000:],  # type: ignore[misc]
        )
        assert "was deleted" in workers.log(projection)
        workers.start(projection)
    asyncio.run(create_topics(workers.bootstrap))
    refilled = {
        EVENTS_TOPIC: [event_records(log, (333,))],
        POSTINGS_TOPIC: effect_records(log, (333,)),
    }
    _publish_range(workers, refilled, slice(0, None))
    workers.wait_position(len(log))
    assert workers.differences(log) == []
    assert set(workers.terminate().values()) == {0}
