"""The relay on small topics in memory: an exact copy of the log, wherever it is interrupted.

TailTwin and TopicsTwin are whole implementations of the relay's two ports, not stand-ins with
prepared answers: what they hold after a run is all that is looked at.
"""

import asyncio
import contextlib
import zlib
from collections.abc import Awaitable, Sequence

import pytest

import engine.relay
from domain.effects import effects_of
from engine.errors import KafkaDisagrees
from engine.hashing import GENESIS_HASH, chain
from engine.ports import LoggedEvent
from engine.relay import Progress, Relay
from schemas.codecs import decode_event, encode_event
from schemas.effects import UserEffect, decode_effect
from schemas.events import LedgerEvent
from schemas.records import (
    EVENTS_TOPIC,
    POSTINGS_PARTITIONS,
    POSTINGS_TOPIC,
    RECORD_EVENTS_MAX,
    RecordHead,
)
from tests.fixtures.ledger_logs import LogBuilder

DEADLINE_SECONDS = 30.0
Stored = list[tuple[RecordHead, bytes]]


class TailTwin:
    """A log that grows when the test says so."""

    def __init__(self, log: Sequence[LoggedEvent]) -> None:
        self.log = list(log)

    async def page(self, after: int, limit: int) -> Sequence[LoggedEvent]:
        return self.log[after : after + limit]

    async def wait(self, timeout: float) -> None:
        # Nobody makes the log grow while a relay runs, so a moment is as good as the timeout.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(timeout, 0.001)):
                await asyncio.Event().wait()


class BrokerDown(Exception):
    """The broker took its last record."""


class TopicsTwin:
    """Both topics; survives the relays. takes: how many more records it accepts."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Stored]] = {
            EVENTS_TOPIC: [[]],
            POSTINGS_TOPIC: [[] for _ in range(POSTINGS_PARTITIONS)],
        }
        self.takes = 1 << 30
        self.order: list[tuple[str, int]] = []

    async def last(self, topic: str) -> list[RecordHead | None]:
        return [records[-1][0] if records else None for records in self.topics[topic]]

    async def send(
        self, topic: str, partition: int, head: RecordHead, value: bytes
    ) -> Awaitable[object]:
        if self.takes == 0:
            raise BrokerDown
        self.takes -= 1
        self.topics[topic][partition].append((head, value))
        self.order.append((topic, head.last))
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        acknowledged.set_result(None)
        return acknowledged

    @property
    def events(self) -> Stored:
        return self.topics[EVENTS_TOPIC][0]

    @property
    def postings(self) -> list[Stored]:
        return self.topics[POSTINGS_TOPIC]


async def _relay(tail: TailTwin, topics: TopicsTwin, *, idle_turns: int = 1) -> int:
    """Resume, then run until the log's end was reached idle_turns times; the position resumed at.

    Raises BrokerDown when the topics take no more.
    """
    relay = Relay(tail, topics)
    resumed = await relay.resume()
    idle, ended = 0, asyncio.Event()

    def report(progress: Progress) -> None:
        nonlocal idle
        idle += not progress.behind and progress.last == len(tail.log)
        if idle >= idle_turns:
            ended.set()

    running = asyncio.create_task(relay.run(report))
    ending = asyncio.create_task(ended.wait())
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.wait({running, ending}, return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    ending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return resumed


def _logged(events: Sequence[LedgerEvent]) -> list[LoggedEvent]:
    payloads = [encode_event(event) for event in events]
    hashes = chain(GENESIS_HASH, payloads)
    return [
        LoggedEvent(position, "s", payload, digest)
        for position, (payload, digest) in enumerate(zip(payloads, hashes, strict=True), start=1)
    ]


def _trading_log(trades: int, *, users: int = 6) -> list[LoggedEvent]:
    builder = LogBuilder()
    builder.pass_seconds(1)
    builder.open_users("maker", "taker", *(f"user{number}" for number in range(users)))
    for number in range(trades):
        builder.trade(price=10_000 + number % 7, quantity=1_000 + number)
        builder.pass_seconds(number % 3)
    return _logged(builder.log)


def _expected_effects(log: Sequence[LoggedEvent]) -> list[list[UserEffect]]:
    partitions: list[list[UserEffect]] = [[] for _ in range(POSTINGS_PARTITIONS)]
    for logged in log:
        for effect in effects_of(logged.position, decode_event(logged.payload)):
            number = zlib.crc32(effect.user_id.encode()) % POSTINGS_PARTITIONS
            partitions[number].append(effect)
    return partitions


def _lines(records: Stored) -> list[bytes]:
    return [line for _, value in records if value for line in value.split(b"\n")]


def _assert_contiguous(records: Stored) -> None:
    position = 0
    for number, (head, _) in enumerate(records, start=1):
        assert (head.sequence, head.first) == (number, position + 1)
        assert head.last >= head.first
        position = head.last


def _assert_copied(topics: TopicsTwin, log: Sequence[LoggedEvent]) -> None:
    """Both topics say exactly what the log says, once."""
    for records in (topics.events, *topics.postings):
        _assert_contiguous(records)
    assert _lines(topics.events) == [logged.payload for logged in log]
    for head, value in topics.events:
        assert value.count(b"\n") == head.last - head.first
        assert head.hash == log[head.last - 1].hash.hex()
    for records, effects in zip(topics.postings, _expected_effects(log), strict=True):
        assert [decode_effect(line) for line in _lines(records)] == effects
        for head, value in records:
            assert head.hash == ""
            lines = [decode_effect(line) for line in value.split(b"\n") if line]
            assert all(head.first <= effect.position <= head.last for effect in lines)


def test_an_empty_log_is_an_empty_topic() -> None:
    topics = TopicsTwin()
    assert asyncio.run(_relay(TailTwin([]), topics)) == 0
    assert topics.order == []


def test_topics_are_an_exact_copy_and_postings_are_complete_before_events() -> None:
    log, topics = _trading_log(300), TopicsTwin()
    asyncio.run(_relay(TailTwin(log), topics, idle_turns=2))
    _assert_copied(topics, log)
    first_events = topics.order.index((EVENTS_TOPIC, RECORD_EVENTS_MAX))
    # One page: whatever a consumer of ledger.events sees, the postings of it are there.
    assert {topic for topic, _ in topics.order[:first_events]} == {POSTINGS_TOPIC}
    assert {records[-1][0].last for records in topics.postings} == {len(log)}


def test_records_pack_up_to_their_limit() -> None:
    log, topics = _trading_log(400), TopicsTwin()
    asyncio.run(_relay(TailTwin(log), topics, idle_turns=2))
    sizes = [head.last - head.first + 1 for head, _ in topics.events]
    full, rest = divmod(len(log), RECORD_EVENTS_MAX)
    assert sizes == [RECORD_EVENTS_MAX] * full + [rest] * (rest > 0)
    counts = [
        value.count(b"\n") + 1 for records in topics.postings for _, value in records if value
    ]
    assert max(counts) in (RECORD_EVENTS_MAX, RECORD_EVENTS_MAX + 1)


def test_effects_of_one_event_are_never_split_over_records() -> None:
    builder = LogBuilder()
    builder.pass_seconds(1)
    builder.open_users("maker", "taker")
    # A pair of users that shares a partition, so that a trade has two effects in it.
    owner = zlib.crc32(b"maker") % POSTINGS_PARTITIONS
    twin = next(
        name
        for name in (f"twin{number}" for number in range(99))
        if zlib.crc32(name.encode()) % POSTINGS_PARTITIONS == owner
    )
    builder.open_users(twin)
    for _ in range(300):
        builder.order("maker", "sell", 10_000, 1_000)
        builder.order(twin, "buy", 10_000, 1_000)
    log, topics = _logged(builder.log), TopicsTwin()
    asyncio.run(_relay(TailTwin(log), topics, idle_turns=2))
    _assert_copied(topics, log)
    assert len(topics.postings[owner]) > 2


def test_a_relay_resumes_in_the_middle() -> None:
    log, topics = _trading_log(200), TopicsTwin()
    tail = TailTwin(log[:333])
    assert asyncio.run(_relay(tail, topics)) == 0
    tail.log = log
    assert asyncio.run(_relay(tail, topics, idle_turns=2)) == 333
    assert asyncio.run(_relay(tail, topics)) == len(log)
    _assert_copied(topics, log)


@pytest.mark.parametrize("page", [90, 4_000])
def test_a_relay_may_be_killed_after_any_record(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one sends what is missing and nothing twice, though its pages are cut elsewhere."""
    monkeypatch.setattr(engine.relay, "PAGE_EVENTS_MAX", page)
    monkeypatch.setattr(engine.relay, "RECORD_EVENTS_MAX", 40)
    log, whole = _trading_log(40), TopicsTwin()
    asyncio.run(_relay(TailTwin(log), whole, idle_turns=2))
    assert len(whole.order) > 12
    for taken in range(len(whole.order)):
        topics = TopicsTwin()
        topics.takes = taken
        tail = TailTwin(log[: len(log) * 2 // 3])
        with contextlib.suppress(BrokerDown):
            asyncio.run(_relay(tail, topics, idle_turns=2))
        # More has been logged meanwhile.
        topics.takes, tail.log = 1 << 30, log
        asyncio.run(_relay(tail, topics, idle_turns=2))
        _assert_copied(topics, log)


def test_a_broker_that_fails_ends_the_relay() -> None:
    topics = TopicsTwin()
    topics.takes = 1
    with pytest.raises(BrokerDown):
        asyncio.run(_relay(TailTwin(_trading_log(3)), topics))


def test_a_quiet_partition_is_told_how_far_the_log_is() -> None:
    builder = LogBuilder()
    builder.pass_seconds(1)
    builder.open_users("alice")
    builder.pass_seconds(20)
    log, topics = _logged(builder.log), TopicsTwin()
    asyncio.run(_relay(TailTwin(log), topics, idle_turns=2))
    _assert_copied(topics, log)
    quiet = [records for records in topics.postings if not _lines(records)]
    assert len(quiet) == POSTINGS_PARTITIONS - 1
    assert all(records[-1] == (records[-1][0], b"") for records in quiet)
    assert {records[-1][0].last for records in topics.postings} == {len(log)}
    before = len(topics.order)
    asyncio.run(_relay(TailTwin(log), topics, idle_turns=5))
    assert len(topics.order) == before


def test_topics_that_hold_more_than_the_log_are_refused() -> None:
    log, topics = _trading_log(5), TopicsTwin()
    asyncio.run(_relay(TailTwin(log), topics))
    with pytest.raises(KafkaDisagrees, match="does not reach that far") as disagrees:
        asyncio.run(_relay(TailTwin(log[:-1]), topics))
    assert (disagrees.value.topic, disagrees.value.position) == (EVENTS_TOPIC, len(log))


def test_topics_of_another_log_are_refused() -> None:
    log, topics = _trading_log(5), TopicsTwin()
    asyncio.run(_relay(TailTwin(log), topics))
    other = [event._replace(hash=bytes(32)) for event in log]
    with pytest.raises(KafkaDisagrees, match="another hash"):
        asyncio.run(_relay(TailTwin(other), topics))
