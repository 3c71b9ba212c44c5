"""The relay as a process on real Kafka and PostgreSQL: servers that die, topics that are not right.

Each test ends with `durian relay --verify`: Kafka is the log, byte for byte.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from eventsourcing.persistence import StoredEvent

from engine.errors import KafkaUnavailable
from engine.kafka import KafkaPublisher, create_topics, remake_topics
from engine.kafka_reader import TopicReader
from engine.postgres.datastore import datastore_of
from engine.postgres.recorder import LedgerRecorder
from engine.relay import Outgoing
from ops.config import load_config
from ops.datadir import open_data_dir
from ops.part import Part
from ops.servers import kafka
from schemas.codecs import encode_event, topic_of
from schemas.records import EVENTS_TOPIC, POSTINGS_TOPIC, RecordHead, read_head
from schemas.streams import stream_id
from tests.fixtures.ledger_logs import random_log
from tests.fixtures.postgres import LedgerDatabase
from tests.fixtures.projection_servers import CLUSTER_ID, free_ports

pytestmark = [pytest.mark.services, pytest.mark.chaos]

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
BATCH_EVENTS = 50
LOG = random_log(41, seconds=4_000, trades=700)


def wait_until(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)


class Broker:
    """A Kafka that a test may kill; its data stay."""

    def __init__(self, part: Part, port: int) -> None:
        self.bootstrap = f"127.0.0.1:{port}"
        self._part = part
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers; does nothing if it runs."""
        if self._process is not None:
            return
        assert self._part.prepare is not None and self._part.probe is not None
        self._part.prepare()
        with (self._part.working_dir / "kafka.out").open("ab") as output:
            self._process = subprocess.Popen(
                self._part.argv, env=dict(self._part.environment), stdout=output, stderr=output
            )
        probe = self._part.probe
        wait_until(lambda: asyncio.run(probe()), lambda: "Kafka did not start")

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self._process = None

    def send(self, order: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(order)


@pytest.fixture(scope="module")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    port, controller_port = free_ports(2)
    part = kafka.part(
        open_data_dir(tmp_path_factory.mktemp("kafka")),
        port=port,
        controller_port=controller_port,
        cluster_id=CLUSTER_ID,
        cache_dir=load_config().cache_dir,
        environment=dict(os.environ),
    )
    started = Broker(part, port)
    started.start()
    yield started
    started.kill()


class Line:
    """A log that a test appends to, a broker with empty topics, and relays."""

    def __init__(self, database: LedgerDatabase, broker: Broker, directory: Path) -> None:
        self.broker = broker
        self.relays: list[subprocess.Popen[bytes]] = []
        self._database = database
        self._directory = directory
        self._datastore = datastore_of(database.writer_url)
        self._recorder = LedgerRecorder(self._datastore)
        self._recorder.lead()
        self._versions: dict[str, int] = {}
        self._environment = {
            **os.environ,
            "DURIAN_POSTGRES_URL": database.reader_url,
            "DURIAN_KAFKA_URL": f"kafka://{broker.bootstrap}",
            "DURIAN_DATA": str(directory),
            "DURIAN_PORT_RELAY_METRICS": str(free_ports(1)[0]),
        }

    @property
    def position(self) -> int:
        return self._recorder.head.position

    def append(self, count: int) -> None:
        """The next events of LOG, in small commits."""
        asyncio.run(self._append(self.position + count))

    async def _append(self, end: int) -> None:
        assert end <= len(LOG)
        while self.position < end:
            events = LOG[self.position : min(end, self.position + BATCH_EVENTS)]
            await self._recorder.append([self._stored(event) for event in events])

    def _stored(self, event: Any) -> StoredEvent:
        stream = stream_id(event)
        version = self._versions[stream] = self._versions.get(stream, 0) + 1
        return StoredEvent(stream, version, topic_of(event), encode_event(event))

    def start_relay(self) -> subprocess.Popen[bytes]:
        with self._log_file.open("ab") as output:
            relay = subprocess.Popen(
                [sys.executable, "-m", "ops", "relay"],
                cwd=ROOT,
                env=self._environment,
                stdout=output,
                stderr=output,
            )
        self.relays.append(relay)
        return relay

    @property
    def _log_file(self) -> Path:
        return self._directory / "relay.log"

    def told(self) -> str:
        return self._log_file.read_text()[-4_000:] if self._log_file.exists() else ""

    def durian(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "ops", "relay", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def verify(self) -> dict[str, Any]:
        """What --verify prints as JSON; its exit code must say the same."""
        ran = self.durian("--verify", "--json")
        assert ran.returncode in (0, 1), ran.stderr + self.told()
        answer: dict[str, Any] = json.loads(ran.stdout)
        assert ran.returncode == (0 if answer["equal"] else 1)
        return answer

    def assert_equal(self) -> dict[str, Any]:
        answer = self.verify()
        assert answer["equal"], (answer, self.told())
        assert {findings["position"] for findings in answer["topics"]} == {self.position}
        return answer

    def published(self) -> int:
        """Last position in ledger.events; 0 without a record, the topic, or Kafka."""

        async def last() -> int:
            async with TopicReader(self.broker.bootstrap, EVENTS_TOPIC) as reader:
                (ends,) = await reader.ends()
                return read_head(ends.last.headers).last if ends.last else 0

        try:
            return asyncio.run(last())
        except KafkaUnavailable:
            return 0

    def wait_published(self, position: int) -> None:
        wait_until(lambda: self.published() >= position, self.told)

    def send(self, topic: str, partition: int, head: RecordHead | None, value: bytes) -> None:
        """Write a record as somebody else would."""

        async def publish() -> None:
            async with KafkaPublisher(self.broker.bootstrap) as publisher:
                sent = Outgoing(partition, head or _NoHead(), value)
                await publisher.publish(topic, [sent])

        asyncio.run(publish())

    def stop(self) -> None:
        for relay in self.relays:
            relay.kill()
            relay.wait()
        self._recorder.close_writer()
        self._datastore.close()

    def disconnect_relays(self) -> None:
        """PostgreSQL ends every session but ours."""
        with psycopg.connect(self._database.owner_url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND usename = 'durian_log_reader'"
            )


class _NoHead(RecordHead, frozen=True, kw_only=True):
    first: int = 0
    last: int = 0
    sequence: int = 0

    def headers(self) -> list[tuple[str, bytes]]:
        return [("from", b"somebody else")]


@pytest.fixture
def line(ledger_database: LedgerDatabase, kafka_server: Broker, tmp_path: Path) -> Iterator[Line]:
    kafka_server.start()
    asyncio.run(remake_topics(kafka_server.bootstrap, (EVENTS_TOPIC, POSTINGS_TOPIC)))
    made = Line(ledger_database, kafka_server, tmp_path)
    yield made
    made.stop()


async def delete_topics(bootstrap: str, topics: Sequence[str]) -> None:
    """As a person with Kafka's own tools does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(list(topics))
    finally:
        await admin.close()


def test_kafka_killed_in_mid_stream_is_waited_for(line: Line) -> None:
    relay = line.start_relay()
    line.append(1_000)
    line.wait_published(500)
    line.append(500)
    line.broker.kill()
    line.append(2_000)
    wait_until(lambda: "Kafka does not answer since" in line.told(), line.told)
    assert line.durian("--verify").returncode == 3
    line.broker.start()
    line.append(500)
    line.wait_published(line.position)
    line.assert_equal()
    assert relay.poll() is None


@pytest.mark.slow
def test_kafka_away_at_the_start_is_waited_for(line: Line) -> None:
    line.broker.kill()
    relay = line.start_relay()
    line.append(1_000)
    wait_until(lambda: "Kafka does not answer since" in line.told(), line.told)
    line.broker.start()
    line.wait_published(line.position)
    line.assert_equal()
    assert relay.poll() is None


@pytest.mark.slow
def test_kafka_frozen_for_longer_than_an_answer_may_take(line: Line) -> None:
    relay = line.start_relay()
    line.append(500)
    line.wait_published(500)
    line.broker.send(signal.SIGSTOP)
    line.append(2_000)
    wait_until(lambda: "Kafka does not answer since" in line.told(), line.told)
    line.broker.send(signal.SIGCONT)
    line.wait_published(line.position)
    line.assert_equal()
    assert relay.poll() is None


def test_postgresql_sessions_lost_are_opened_again(line: Line) -> None:
    relay = line.start_relay()
    for _ in range(5):
        line.append(600)
        line.disconnect_relays()
    line.append(100)
    line.wait_published(line.position)
    line.assert_equal()
    assert relay.poll() is None


def test_a_second_relay_stands_by_and_takes_over(line: Line) -> None:
    first = line.start_relay()
    line.append(500)
    line.wait_published(500)
    second = line.start_relay()
    line.append(500)
    line.wait_published(line.position)
    # Frozen: PostgreSQL ends its silent session, and the other one goes on.
    first.send_signal(signal.SIGSTOP)
    line.append(500)
    line.wait_published(line.position)
    first.send_signal(signal.SIGCONT)
    line.append(500)
    line.wait_published(line.position)
    line.assert_equal()
    second.kill()
    line.append(500)
    line.wait_published(line.position)
    line.assert_equal()
    assert first.poll() is None


def test_rebuilt_topics_without_a_relay(line: Line) -> None:
    line.append(2_000)
    for choice in ("all", "events", "postings"):
        ran = line.durian("--rebuild-topic", choice, "--yes", "--json")
        assert ran.returncode == 0, ran.stderr
        answer = json.loads(ran.stdout)
        assert answer["equal"]
        assert {findings["position"] for findings in answer["topics"]} == {2_000}
    line.append(200)
    assert line.durian("--rebuild-topic", "events").returncode != 0  # nobody typed the name
    assert line.published() == 2_000


def test_rebuilt_topics_beside_a_relay_under_load(line: Line) -> None:
    relay = line.start_relay()
    line.append(1_000)
    for choice in ("events", "postings", "all"):
        rebuilding = subprocess.Popen(
            [sys.executable, "-m", "ops", "relay", "--rebuild-topic", choice, "--yes"],
            cwd=ROOT,
            env=line._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + DEADLINE_S
        while rebuilding.poll() is None:
            assert time.monotonic() < deadline, "the rebuild does not end"
            if line.position + 10 < len(LOG) - 500:
                line.append(10)
            time.sleep(0.02)
        assert rebuilding.stderr is not None
        assert rebuilding.returncode == 0, rebuilding.stderr.read()
        rebuilding.stderr.close()
    line.append(100)
    line.wait_published(line.position)
    line.assert_equal()
    assert relay.poll() is None


@pytest.mark.parametrize("made_again", [True, False])
def test_topics_deleted_under_a_relay_are_filled_by_itself(line: Line, made_again: bool) -> None:
    relay = line.start_relay()
    line.append(1_500)
    line.wait_published(1_000)
    line.append(50)
    topics = (EVENTS_TOPIC, POSTINGS_TOPIC)
    asyncio.run(delete_topics(line.broker.bootstrap, topics))
    line.append(50)
    if made_again:
        asyncio.run(create_topics(line.broker.bootstrap))
    line.append(500)
    line.wait_published(line.position)
    line.assert_equal()
    assert relay.poll() is None


def test_a_topic_that_disagrees_ends_the_relay_with_advice(line: Line) -> None:
    line.append(500)
    assert line.durian("--rebuild-topic", "all", "--yes").returncode == 0
    foreign = RecordHead(first=501, last=501, sequence=9, hash="00" * 32)
    line.send(EVENTS_TOPIC, 0, foreign, b"{}")
    relay = line.start_relay()
    assert relay.wait(DEADLINE_S) == 1
    assert "KafkaDisagrees: ledger.events at position 501" in line.told()
    assert "durian relay --verify" in line.told()
    answer = line.verify()
    first = answer["topics"][0]["first"]
    assert (first["position"], first["expected"]) == (501, "the log ends at 500")
    assert line.durian("--rebuild-topic", "events", "--yes").returncode == 0
    line.assert_equal()


@pytest.mark.parametrize("topic", [EVENTS_TOPIC, POSTINGS_TOPIC])
def test_damage_is_found_on_kafka_itself(line: Line, topic: str) -> None:
    line.append(300)
    assert line.durian("--rebuild-topic", "all", "--yes").returncode == 0
    whole = line.assert_equal()
    line.send(topic, 0, None, b"junk")
    answer = line.verify()
    (damaged,) = [findings for findings in answer["topics"] if findings["differences"]]
    assert damaged["topic"] == topic
    assert damaged["first"]["found"] == "not a ledger record: headers ['from']"
    before = [findings["lines"] for findings in whole["topics"]]
    assert [findings["lines"] for findings in answer["topics"]] == before
    human = line.durian("--verify")
    assert human.returncode == 1
    assert f"--rebuild-topic {topic.rpartition('.')[2]}" in human.stdout


@pytest.mark.slow
def test_an_end_that_is_missing_is_found(line: Line) -> None:
    line.append(300)
    assert line.durian("--rebuild-topic", "all", "--yes").returncode == 0
    line.append(300)
    answer = line.verify()
    assert [findings["first"]["position"] for findings in answer["topics"]] == [301, 301]
    assert "does a relay run?" in answer["topics"][0]["first"]["found"]
