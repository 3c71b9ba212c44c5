"""Judges the ledger after a fault, by what clients were told and by what PostgreSQL and Kafka hold.

Shares the rules of the domain with the engine, because a state is compared with a fold; reads,
counts, chains and claims by itself. Each finding is a sentence; none means no violation.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from domain.ledger import evolve
from domain.mining import SECOND_NS
from domain.snapshot import dump
from domain.state import LedgerState
from schemas import events
from schemas.codecs import decode_event, encode_event
from schemas.frames import Accepted, StateDigest
from schemas.history import history_keys, stream_key
from schemas.records import EVENTS_TOPIC, read_head
from schemas.snapshots import encode_snapshot
from tests.chaos.load import Acknowledged

KAFKA_DEADLINE_S = 60.0
FINDINGS_MAX = 10
_ROWS = """
SELECT notification_id, originator_id, originator_version, epoch, state, hash
FROM ledger_events WHERE notification_id > %s AND notification_id <= %s ORDER BY notification_id
"""
_HISTORY = """
SELECT DISTINCT key, position FROM (
    SELECT key, unnest(positions) AS position FROM ledger_history WHERE last_position > %(after)s
    UNION ALL
    SELECT k, first_position + i FROM ledger_history_recent, unnest(keys, indexes) AS noted(k, i)
) AS entries WHERE position > %(after)s AND position <= %(end)s ORDER BY position, key
"""


class Auditor:
    """What the log must be, as far as it was read. findings: every violation so far.

    new: position -> payload of what was read since the last forget().
    """

    def __init__(self, owner_url: str) -> None:
        self.findings: list[str] = []
        self.state = LedgerState()
        self.position = 0
        self.epoch = 0
        self.epoch_positions: list[int] = []
        self.seconds = 0
        self.new: dict[int, bytes] = {}
        self._owner_url = owner_url
        self._hash = bytes(32)
        self._started_epoch = 0
        self._second = 0
        self._at_ns = 0
        self._versions: dict[str, int] = {}
        self._keys: list[tuple[int, int]] = []
        self._explained_to = 0
        self._genesis_ends = 0
        self._last_by_worker: dict[int, int] = {}

    def find(self, what: str) -> None:
        """Note a violation; the first few say enough."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(what)

    # -- the log ------------------------------------------------------------------------------

    def read_log(self, to: int | None = None) -> None:
        """Check and fold what was appended, up to a position or the head."""
        with psycopg.connect(self._owner_url) as connection:
            head = connection.execute(
                "SELECT epoch, position, hash FROM ledger_events_head"
            ).fetchone()
            assert head is not None
            end = head[1] if to is None else to
            after = self.position
            for row in connection.execute(_ROWS, (after, end)):
                self._take(*row)
            if self.position != end:
                self.find(f"the log ends at {self.position}, not at {end}")
            # An epoch is taken before its first event is written.
            if to is None and (head[0] < self.epoch or head[2] != self._hash):
                self.find(f"the head row says {head}, the log ends in epoch {self.epoch}")
            self._check_history(connection, after, end)

    def _take(
        self, position: int, stream: str, version: int, epoch: int, payload: bytes, digest: bytes
    ) -> None:
        if position != self.position + 1:
            self.find(f"position {position} follows {self.position}")
        if hashlib.sha256(self._hash + payload).digest() != digest:
            self.find(f"position {position}: the hash does not follow")
        if version != self._versions.get(stream, 0) + 1:
            self.find(f"position {position}: version {version} of stream {stream}")
        if epoch < self.epoch:
            self.find(f"position {position}: epoch {epoch} after {self.epoch}")
        event = decode_event(payload)
        if isinstance(event, events.EpochStarted):
            # One that is sent again after another election keeps the number it had.
            if not self._started_epoch < event.epoch <= epoch:
                self.find(f"position {position}: {event} in epoch {epoch}")
            self.epoch_positions.append(position)
            self._started_epoch = event.epoch
        self.epoch = epoch
        self._check_time(position, event)
        keys = {stream_key(stream), *history_keys(event)}
        self._keys += [(key, position) for key in sorted(keys)]
        evolve(self.state, event)
        self.position, self._hash, self._versions[stream] = position, digest, version
        self.new[position] = payload

    def _check_time(self, position: int, event: events.LedgerEvent) -> None:
        """Seconds without a gap, and each before the commands of it."""
        if event.at_ns < self._at_ns:
            self.find(f"position {position}: at {event.at_ns} after {self._at_ns}")
        self._at_ns = event.at_ns
        if isinstance(event, events.MiningAllocated):
            if not self._second:
                self._genesis_ends = position
            elif event.second != self._second + 1:
                self.find(f"position {position}: second {event.second} follows {self._second}")
            self._second = event.second
            self.seconds += 1
            return
        is_timely = _is_of_the_clock(event) or event.at_ns // SECOND_NS == self._second
        if self._second and not is_timely:
            self.find(f"position {position}: at {event.at_ns}, after second {self._second}")

    def _check_history(self, connection: psycopg.Connection, after: int, end: int) -> None:
        range_ = {"after": after, "end": end}
        stored = [tuple(row) for row in connection.execute(_HISTORY, range_)]
        if stored != self._keys:
            odd = set(stored).symmetric_difference(self._keys)
            self.find(f"history of {after + 1} to {end}: {len(odd)} entries, e.g. {min(odd)}")
        self._keys.clear()

    # -- clients ------------------------------------------------------------------------------

    def check_answers(self, answers: Sequence[Acknowledged]) -> None:
        """Every event since the last time has one cause: one acknowledged command, or the engine.

        answers: since the last time, with none in flight; the log is read to its head.
        """
        claimed: dict[int, str] = {}
        for answer in answers:
            if isinstance(answer.reply, Accepted):
                self._claim(answer, answer.reply, claimed)
        begins = max(self._explained_to, self._genesis_ends) + 1
        for position in range(begins, self.position + 1):
            if position not in claimed and not _is_of_the_clock(decode_event(self.new[position])):
                self.find(f"position {position} has no cause: {self.new[position]!r}")

    def explain_all(self) -> None:
        """What was read so far needs no further explanation, and is forgotten."""
        self._explained_to = self.position
        self.new.clear()

    def _claim(self, answer: Acknowledged, reply: Accepted, claimed: dict[int, str]) -> None:
        first = reply.last_position - len(reply.events) + 1
        if answer.worker >= 0 and first <= self._last_by_worker.get(answer.worker, 0):
            self.find(f"{answer.key} at {first} was sent after an answer beyond that")
        self._last_by_worker[answer.worker] = reply.last_position
        for position, event in enumerate(reply.events, first):
            stored = self.new.get(position)
            if stored is None:
                self.find(f"{answer.key} was acknowledged at {position}, which is not in the log")
            elif stored != encode_event(event):
                self.find(f"{answer.key} was told {event} at {position}; the log has {stored!r}")
            if position in claimed:
                self.find(f"position {position} was told to {claimed[position]} and {answer.key}")
            claimed[position] = answer.key

    # -- the engine ---------------------------------------------------------------------------

    def check_digest(self, told: StateDigest) -> None:
        """The engine's state is the fold of the log up to the position it names."""
        if told.position < self.position:
            self.find(f"the engine is at {told.position}, the log was at {self.position} before")
            return
        self.read_log(to=told.position)
        ours = hashlib.sha256(encode_snapshot(dump(self.state))).hexdigest()
        if ours != told.sha256:
            self.find(f"the engine's state at {told.position} is not the fold of the log")


class KafkaReader:
    """Reads ledger.events and compares it with the log. position: up to which it has."""

    def __init__(self, bootstrap: str, auditor: Auditor) -> None:
        self.position = 0
        self.repeats = 0
        self._bootstrap = bootstrap
        self._auditor = auditor
        self._offset = 0

    async def check(self) -> None:
        """Wait until the topic is where the auditor is; records must be the log's bytes."""
        try:
            async with asyncio.timeout(KAFKA_DEADLINE_S):
                while self.position < self._auditor.position:
                    # It may be starting still, after it was killed.
                    with contextlib.suppress(KafkaError):
                        await self._read()
        except TimeoutError:
            end = self._auditor.position
            self._auditor.find(f"Kafka stays at {self.position}, the log is at {end}")

    async def _read(self) -> None:
        partition = TopicPartition(EVENTS_TOPIC, 0)
        consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, enable_auto_commit=False)
        try:
            await consumer.start()
            consumer.assign([partition])
            consumer.seek(partition, self._offset)
            while self.position < self._auditor.position:
                record = await consumer.getone(partition)
                self._offset = record.offset + 1
                self._compare(record.headers, record.value or b"")
        finally:
            await consumer.stop()

    def _compare(
        self,
        headers: Sequence[tuple[str, bytes]],
        value: bytes,
    ) -> None:
        head = read_head(headers)
        if head.last > self._auditor.position:
            self._auditor.read_log()
        expected = self._auditor.new
        lines = value.split(b"\n")
        if len(lines) != head.last - head.first + 1:
            self._auditor.find(f"Kafka record {head} has {len(lines)} events")
        if head.first > self.position + 1:
            self._auditor.find(f"Kafka goes from {self.position} to {head.first}")
        for position, line in enumerate(lines, head.first):
            if position <= self.position:
                self.repeats += 1
            elif expected.get(position) != line:
                self._auditor.find(
                    f"Kafka's {position} is {line!r}, not {expected.get(position)!r}"
                )
        self.position = max(self.position, head.last)


def _is_of_the_clock(event: events.LedgerEvent) -> bool:
    match event:
        case events.MiningAllocated() | events.EpochStarted() | events.ContributionExpired():
            return True
        case events.AssetBurned():
            return event.trade_id is None
        case _:
            return False
