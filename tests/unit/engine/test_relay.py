"""The relay on small topics in memory: an exact copy of the log, wherever it is interrupted."""

import asyncio
import contextlib
import zlib
from collections.abc import Sequence

import pytest

import engine.packing
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
from tests.fixtures._topic_twins import BrokerDown, Stored, TailTwin, TopicsTwin
from tests.fixtures.ledger_logs import LogBuilder

DEADLINE_SECONDS = 30.0


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
    monkeypatch.setattr(engine.packing, "RECORD_EVENTS_MAX", 40)
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
    with pytest.raises(KafkaDisagrees, match="the log ends at position") as disagrees:
        asyncio.run(_relay(TailTwin(log[:-1]), topics))
    assert (disagrees.value.topic, disagrees.value.position) == (EVENTS_TOPIC, len(log))


def test_topics_of_another_log_are_refused() -> None:
    log, topics = _trading_log(5), TopicsTwin()
    asyncio.run(_relay(TailTwin(log), topics))
    other = [event._replace(hash=bytes(32)) for event in log]
    with pytest.raises(KafkaDisagrees, match="another hash"):
        asyncio.run(_relay(TailTwin(other), topics))


def test_topics_that_lack_their_beginning_are_refused() -> None:
    log, topics = _trading_log(5), TopicsTwin()
    asyncio.run(_relay(TailTwin(log), topics))
    head, value = topics.events[0]
    later = RecordHead(first=3, last=head.last, sequence=1, hash=head.hash)
    topics.events[0] = later, value.split(b"\n", 2)[2]
    with pytest.raises(KafkaDisagrees, match="begins at position 3"):
        asyncio.run(_relay(TailTwin(log), topics))


def test_topics_that_end_in_other_bytes_are_refused() -> None:
    log = _trading_log(5)
    for topic in (EVENTS_TOPIC, POSTINGS_TOPIC):
        topics = TopicsTwin()
        asyncio.run(_relay(TailTwin(log), topics))
        records = next(stored for stored in topics.topics[topic] if _lines(stored))
        number = max(number for number, (_, value) in enumerate(records) if value)
        head, value = records[number]
        del records[number + 1 :]
        records[number] = head, value.replace(b'"at_ns":1', b'"at_ns":2')
        with pytest.raises(KafkaDisagrees, match="other bytes") as disagrees:
            asyncio.run(_relay(TailTwin(log), topics))
        assert disagrees.value.topic == topic


def test_the_refusal_says_how_to_repair() -> None:
    log, topics = _trading_log(5), TopicsTwin()
    asyncio.run(_relay(TailTwin(log), topics))
    with pytest.raises(KafkaDisagrees) as disagrees:
        asyncio.run(_relay(TailTwin(log[:-1]), topics))
    assert "durian relay --verify" in str(disagrees.value)
    assert "--rebuild-topic events" in str(disagrees.value)


@pytest.mark.parametrize(
    "lost", [(EVENTS_TOPIC,), (POSTINGS_TOPIC,), (EVENTS_TOPIC, POSTINGS_TOPIC)]
)
def test_topics_lost_between_two_relays_are_filled_again(lost: tuple[str, ...]) -> None:
    log, topics = _trading_log(200), TopicsTwin()
    asyncio.run(_relay(TailTwin(log), topics, idle_turns=2))
    for topic in lost:
        topics.delete(topic)
    assert asyncio.run(_relay(TailTwin(log), topics, idle_turns=2)) == 0
    _assert_copied(topics, log)
    assert topics.remade == []


@pytest.mark.parametrize("page", [90, 4_000])
def test_a_topic_replaced_under_a_running_relay_is_made_anew(
    page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record that landed in it first lies behind a hole; after each record of the story."""
    monkeypatch.setattr(engine.relay, "PAGE_EVENTS_MAX", page)
    log = _trading_log(200)
    for topic in (EVENTS_TOPIC, POSTINGS_TOPIC):
        topics, tail = TopicsTwin(), TailTwin(log[:400])

        async def replace_and_go_on(
            topics: TopicsTwin = topics, tail: TailTwin = tail, topic: str = topic
        ) -> None:
            relay = Relay(tail, topics)
            await relay.resume()
            await relay.copy_until(400, lambda _: None)
            topics.delete(topic)
            tail.log = log
            await relay.copy_until(len(log), lambda _: None)

        asyncio.run(replace_and_go_on())
        assert topics.remade == [topic]
        _assert_copied(topics, log)


def test_a_relay_without_work_notices_that_its_topics_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine.relay, "CHECK_SECONDS", 0.0)
    log, topics = _trading_log(20), TopicsTwin()

    async def lose_them() -> None:
        relay, again = Relay(TailTwin(log), topics), asyncio.Event()
        await relay.resume()
        await relay.copy_until(len(log), lambda _: None)
        topics.delete(EVENTS_TOPIC)
        topics.delete(POSTINGS_TOPIC)

        def report(progress: Progress) -> None:
            if {records[-1][0].last for records in topics.postings if records} == {len(log)}:
                again.set()

        running = asyncio.create_task(relay.run(report))
        async with asyncio.timeout(DEADLINE_SECONDS):
            await again.wait()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(lose_them())
    _assert_copied(topics, log)


def test_records_of_a_second_relay_are_taken_for_what_they_are() -> None:
    log, topics = _trading_log(200), TopicsTwin()

    async def two_at_once() -> None:
        tail = TailTwin(log[:300])
        first, second = Relay(tail, topics), Relay(tail, topics)
        await first.resume()
        await second.resume()
        await first.copy_until(300, lambda _: None)
        await second.copy_until(300, lambda _: None)
        tail.log = log
        await first.copy_until(len(log), lambda _: None)

    asyncio.run(two_at_once())
    assert topics.remade == []
    covered = 0
    for head, _ in topics.events:
        assert head.first <= covered + 1
        covered = max(covered, head.last)
    assert covered == len(log)


class _Figures:
    def __init__(self) -> None:
        self.told: list[tuple[int, int, int]] = []

    def published(self, position: int, head: int, records: int) -> None:
        self.told.append((position, head, records))


def test_figures_are_told_after_each_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.relay, "PAGE_EVENTS_MAX", 300)
    log, topics, figures = _trading_log(200), TopicsTwin(), _Figures()

    async def copy() -> None:
        relay = Relay(TailTwin(log), topics, figures)
        await relay.resume()
        await relay.copy_until(len(log), lambda _: None)

    asyncio.run(copy())
    assert [position for position, _, _ in figures.told] == [*range(300, len(log), 300), len(log)]
    assert all(head == len(log) for _, head, _ in figures.told)
    assert all(records >= 1 for _, _, records in figures.told)
