"""The relay: tails the log and makes Kafka an exact copy of it, resuming from what Kafka holds.

Per page of the log, the postings records go first and the events record last: ledger.events up to L
means that ledger.postings is complete up to L. A restart therefore resumes after the last record of
ledger.events and skips, per postings partition, what is there already. Records say which positions
they cover, so a re-send (of a relay that was killed after sending) is dropped by its readers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from domain.effects import effects_of
from engine.errors import KafkaDisagrees
from engine.ports import LoggedEvent
from schemas.codecs import decode_event
from schemas.effects import encode_effect, partition_of
from schemas.records import (
    EVENTS_TOPIC,
    POSTINGS_TOPIC,
    RECORD_EVENTS_MAX,
    RecordHead,
)

PAGE_EVENTS_MAX = 4_000
WATERMARK_SECONDS = 0.5


class LogTail(Protocol):
    """Reading side of the log for one relay."""

    async def page(self, after: int, limit: int) -> Sequence[LoggedEvent]:
        """The next events after a position, none if there are none yet."""
        ...

    async def wait(self, timeout: float) -> None:
        """Until the log may have grown, or timeout seconds."""
        ...


class Publisher(Protocol):
    """Writing side of Kafka: idempotent, acknowledged by all replicas, ordered per partition."""

    async def last(self, topic: str) -> list[RecordHead | None]:
        """Head of the last record of every partition, None where there is none."""
        ...

    async def send(
        self, topic: str, partition: int, head: RecordHead, value: bytes
    ) -> Awaitable[object]:
        """Enqueue one record; the returned awaitable ends when Kafka has it."""
        ...


class Progress(NamedTuple):
    """last: position the relay has published. behind: False when it was the log's end just now."""

    last: int
    behind: bool


class _Partition:
    """What one partition holds: complete up to `last`, by the record number `sequence`."""

    __slots__ = ("last", "sequence", "written_at")

    def __init__(self, head: RecordHead | None) -> None:
        self.last = head.last if head else 0
        self.sequence = head.sequence if head else 0
        self.written_at = 0.0

    def next_head(self, last: int, digest: str = "") -> RecordHead:
        self.sequence += 1
        first, self.last = self.last + 1, last
        return RecordHead(first=first, last=last, sequence=self.sequence, hash=digest)


class Relay:
    """One ledger's relay; run exactly one (a second one only wastes work, its records are
    dropped).
    """

    def __init__(self, tail: LogTail, publisher: Publisher) -> None:
        self._tail = tail
        self._publisher = publisher
        self._events = _Partition(None)
        self._postings: list[_Partition] = []

    async def resume(self) -> int:
        """Learn what Kafka holds; return the last position there.

        Raises KafkaDisagrees if ledger.events does not end in an event of this log.
        """
        (last,) = await self._publisher.last(EVENTS_TOPIC)
        if last is not None:
            held = await self._tail.page(last.last - 1, 1)
            if not held:
                raise KafkaDisagrees(EVENTS_TOPIC, last.last, "the log does not reach that far")
            if held[0].hash.hex() != last.hash:
                raise KafkaDisagrees(EVENTS_TOPIC, last.last, "another hash than the log's")
        self._events = _Partition(last)
        self._postings = [_Partition(head) for head in await self._publisher.last(POSTINGS_TOPIC)]
        return self._events.last

    async def run(self, report: Callable[[Progress], None]) -> None:
        """For ever. Raises what PostgreSQL or Kafka raise: a restart resumes exactly."""
        while True:
            page = await self._tail.page(self._events.last, PAGE_EVENTS_MAX)
            if page:
                await self._publish(page)
            else:
                await self._mark_quiet_partitions()
            report(Progress(self._events.last, len(page) == PAGE_EVENTS_MAX))
            if len(page) < PAGE_EVENTS_MAX:
                await self._tail.wait(1.0)

    async def _publish(self, page: Sequence[LoggedEvent]) -> None:
        sent = [
            await self._publisher.send(POSTINGS_TOPIC, partition, head, value)
            for partition, head, value in self._postings_records(page)
        ]
        await asyncio.gather(*sent)
        sent = [
            await self._publisher.send(EVENTS_TOPIC, 0, head, value)
            for head, value in self._events_records(page)
        ]
        await asyncio.gather(*sent)

    async def _mark_quiet_partitions(self) -> None:
        # An empty record says that a partition is complete, however long its users stay quiet.
        behind = [p for p in enumerate(self._postings) if p[1].last < self._events.last]
        sent = [
            await self._publisher.send(
                POSTINGS_TOPIC, number, partition.next_head(self._events.last), b""
            )
            for number, partition in behind
        ]
        await asyncio.gather(*sent)

    def _events_records(self, page: Sequence[LoggedEvent]) -> Iterator[tuple[RecordHead, bytes]]:
        for start in range(0, len(page), RECORD_EVENTS_MAX):
            packed = page[start : start + RECORD_EVENTS_MAX]
            head = self._events.next_head(packed[-1].position, packed[-1].hash.hex())
            yield head, b"\n".join([logged.payload for logged in packed])

    def _postings_records(
        self, page: Sequence[LoggedEvent]
    ) -> Iterator[tuple[int, RecordHead, bytes]]:
        lines: list[list[tuple[int, bytes]]] = [[] for _ in self._postings]
        for logged in page:
            for effect in effects_of(logged.position, decode_event(logged.payload)):
                owner = partition_of(effect.user_id, len(lines))
                if logged.position > self._postings[owner].last:
                    lines[owner].append((logged.position, encode_effect(effect)))
        page_last, now = page[-1].position, asyncio.get_running_loop().time()
        for number, partition in enumerate(self._postings):
            found = lines[number]
            if not found and now - partition.written_at < WATERMARK_SECONDS:
                continue
            for last, packed in _pack(found, page_last):
                if last > partition.last:
                    partition.written_at = now
                    yield number, partition.next_head(last), b"\n".join(packed)


def _pack(lines: Sequence[tuple[int, bytes]], page_last: int) -> Iterator[tuple[int, list[bytes]]]:
    """Chunks of lines with the position each covers; effects of one event are never split.

    The last chunk covers page_last, even if it is empty.
    """
    chunk: list[bytes] = []
    for number, (position, line) in enumerate(lines):
        chunk.append(line)
        ends_event = number + 1 == len(lines) or lines[number + 1][0] != position
        if len(chunk) >= RECORD_EVENTS_MAX and ends_event and number + 1 < len(lines):
            yield position, chunk
            chunk = []
    yield page_last, chunk
