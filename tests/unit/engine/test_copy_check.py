"""Each kind of damage to a topic is found, with its place; what is harmless is only counted."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import pytest

import engine.copy_check
import engine.packing
import engine.relay
from engine.copy_check import Difference, Findings, check_topic
from engine.hashing import GENESIS_HASH, chain
from engine.ports import LoggedEvent
from engine.relay import Relay
from schemas.codecs import encode_event
from schemas.records import EVENTS_TOPIC, POSTINGS_TOPIC, RecordHead, read_head
from tests.fixtures._topic_twins import TailTwin, TopicsTwin, TopicTwinReader
from tests.fixtures.ledger_logs import LogBuilder

TOPICS = (EVENTS_TOPIC, POSTINGS_TOPIC)
Headers = tuple[tuple[str, bytes], ...]


def _log(trades: int = 150) -> list[LoggedEvent]:
    builder = LogBuilder()
    builder.pass_seconds(1)
    builder.open_users("maker", "taker", "alice", "bob")
    for number in range(trades):
        builder.trade(price=10_000 + number % 7, quantity=1_000 + number)
        builder.pass_seconds(number % 3)
    payloads = [encode_event(event) for event in builder.log]
    return [
        LoggedEvent(position, "s", payload, digest)
        for position, (payload, digest) in enumerate(
            zip(payloads, chain(GENESIS_HASH, payloads), strict=True), start=1
        )
    ]


def _copied(log: Sequence[LoggedEvent]) -> TopicsTwin:
    topics = TopicsTwin()

    async def copy() -> None:
        relay = Relay(TailTwin(log), topics)
        await relay.resume()
        await relay.copy_until(len(log), lambda _: None)

    asyncio.run(copy())
    return topics


def _check(
    log: Sequence[LoggedEvent],
    topic: str,
    damage: Callable[[list[tuple[Headers, bytes]]], object] = lambda _: None,
    *,
    until: int | None = None,
) -> Findings:
    """Findings about a copy of a log; damage is done to the partition of the user "maker"."""
    reader = TopicTwinReader(_copied(log), topic)
    damage(max(reader.records, key=lambda records: sum(len(value) for _, value in records)))
    return asyncio.run(check_topic(TailTwin(log), reader, lambda _: None, until=until))


def _first(findings: Findings) -> Difference:
    assert findings.first is not None
    return findings.first


@pytest.fixture(autouse=True, params=[4_000, 70])
def page_events(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records may end where pages of the log do, or not; there are several of them."""
    monkeypatch.setattr(engine.packing, "RECORD_EVENTS_MAX", 100)
    monkeypatch.setattr(engine.relay, "RECORD_EVENTS_MAX", 100)
    monkeypatch.setattr(engine.copy_check, "PAGE_EVENTS_MAX", request.param)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_copy_equals_the_log(topic: str) -> None:
    log = _log()
    findings = _check(log, topic)
    assert (findings.differences, findings.resent_records) == (0, 0)
    assert findings.position == len(log)
    assert findings.lines == len(log) if topic == EVENTS_TOPIC else findings.lines > 300


def test_an_empty_log_equals_remake_topics() -> None:
    assert [_check([], topic).differences for topic in TOPICS] == [0, 0]


@pytest.mark.parametrize("topic", TOPICS)
def test_records_sent_twice_are_counted_and_harmless(topic: str) -> None:
    def resend(records: list[tuple[Headers, bytes]]) -> None:
        records[1:1] = records[:1]
        records.append(records[-1])

    findings = _check(_log(), topic, resend)
    assert (findings.differences, findings.resent_records) == (0, 2)


@pytest.mark.parametrize("topic", TOPICS)
def test_another_byte_is_found_at_its_position(topic: str) -> None:
    log = _log()
    line = b""

    def change(records: list[tuple[Headers, bytes]]) -> None:
        nonlocal line
        headers, value = records[0]
        lines = value.split(b"\n")
        line = lines[60]
        lines[60] = line.replace(b'"at_ns":1', b'"at_ns":2')
        records[0] = headers, b"\n".join(lines)

    findings = _check(log, topic, change)
    assert findings.differences == 1
    first = _first(findings)
    assert (first.topic, first.offset) == (topic, 0)
    assert first.expected.startswith(line.decode()[:100])
    assert '"at_ns":2' in first.found
    assert topic == POSTINGS_TOPIC or first.position == 61


@pytest.mark.parametrize("topic", TOPICS)
def test_another_byte_in_a_record_sent_twice_is_found(topic: str) -> None:
    def resend(records: list[tuple[Headers, bytes]]) -> None:
        headers, value = records[0]
        records.append((headers, value.replace(b'"at_ns":1', b'"at_ns":2', 1)))

    findings = _check(_log(), topic, resend)
    assert (findings.differences, findings.resent_records) == (1, 1)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_missing_record_is_a_hole(topic: str) -> None:
    missing = RecordHead(first=0, last=0, sequence=0)

    def take_away(records: list[tuple[Headers, bytes]]) -> None:
        nonlocal missing
        missing = read_head(records.pop(0)[0])

    findings = _check(_log(), topic, take_away)
    first = _first(findings)
    assert (findings.differences, first.position, first.found) == (1, 1, "a hole")
    assert first.expected == f"positions 1 to {missing.last}"


@pytest.mark.parametrize("topic", TOPICS)
def test_a_missing_end_is_found(topic: str) -> None:
    findings = _check(_log(), topic, lambda records: records.pop())
    assert findings.differences == 1
    assert "the topic's end" in _first(findings).found


@pytest.mark.parametrize("topic", TOPICS)
def test_a_foreign_record_is_found_wherever_it_is(topic: str) -> None:
    for place in (0, 1, 1_000):

        def insert(records: list[tuple[Headers, bytes]], place: int = place) -> None:
            records.insert(place, ((("a", b"b"),), b"junk"))

        findings = _check(_log(), topic, insert)
        assert findings.differences == 1
        assert "not a ledger record" in _first(findings).found


@pytest.mark.parametrize("topic", TOPICS)
def test_a_record_of_a_longer_log_is_found(topic: str) -> None:
    def lengthen(records: list[tuple[Headers, bytes]]) -> None:
        last = read_head(records[-1][0]).last
        head = RecordHead(first=last + 1, last=last + 1, sequence=99)
        line = b"{}" if topic == EVENTS_TOPIC else b""
        records.append((tuple(head.headers()), line))

    findings = _check(_log(), topic, lengthen)
    assert findings.differences == 1
    assert _first(findings).found == "a later event"


def test_another_hash_is_found() -> None:
    log = _log()

    def change(records: list[tuple[Headers, bytes]]) -> None:
        head = read_head(records[0][0])
        records[0] = tuple(msgspec.structs.replace(head, hash="00").headers()), records[0][1]

    findings = _check(log, EVENTS_TOPIC, change)
    assert findings.differences == 1
    assert _first(findings).found == "hash 00"


@pytest.mark.parametrize("topic", TOPICS)
def test_lines_that_a_record_does_not_cover_are_found(topic: str) -> None:
    def move(records: list[tuple[Headers, bytes]]) -> None:
        head = read_head(records[0][0])
        cut = msgspec.structs.replace(head, last=head.last - 5)
        records[0] = tuple(cut.headers()), records[0][1]

    assert _check(_log(), topic, move).differences >= 1


def test_a_user_in_the_wrong_partition_is_found() -> None:
    log = _log()
    reader = TopicTwinReader(_copied(log), POSTINGS_TOPIC)
    reader.records.reverse()
    assert asyncio.run(check_topic(TailTwin(log), reader, lambda _: None)).differences > 100


@pytest.mark.parametrize("topic", TOPICS)
def test_a_check_may_end_before_the_log(topic: str) -> None:
    findings = _check(_log(), topic, lambda records: records.pop(), until=100)
    assert findings.position == 100
    assert findings.differences == 0
