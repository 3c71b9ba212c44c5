"""The relay: tails the log and makes Kafka an exact copy of it, resuming from what Kafka holds.

Per page of the log, the postings records go first and the events record last: ledger.events up to L
means that ledger.postings is complete up to L. A restart reads what every partition ends with and
goes on behind it. Records say which positions they cover, so a re-send (of a relay that was killed
after sending) is dropped by its readers. An acknowledgement whose offset is not the next one shows
that the topic was made anew meanwhile: then the relay makes it anew itself, and fills it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from engine.errors import KafkaDisagrees
from engine.packing import lines_of, pack, postings_lines
from engine.ports import LoggedEvent, LogTail
from schemas.effects import decode_effect
from schemas.records import (
    EVENTS_TOPIC,
    POSTINGS_TOPIC,
    RECORD_EVENTS_MAX,
    RecordError,
    RecordHead,
    read_head,
)

PAGE_EVENTS_MAX = 4_000
WATERMARK_SECONDS = 0.5
WAIT_SECONDS = 1.0
# A relay that sent nothing for so long looks whether Kafka still holds what it has sent. Looking
# takes half a second on a busy machine, while every acknowledgement tells the same.
CHECK_SECONDS = 5.0
HEAD_SECONDS = 1.0

log = logging.getLogger("durian.relay")


class TopicRecord(NamedTuple):
    """One record as Kafka returns it; its headers may be anybody's."""

    offset: int
    headers: tuple[tuple[str, bytes], ...]
    value: bytes


class PartitionEnds(NamedTuple):
    """next_offset: of the next record that is written. first, last: None if there is none."""

    next_offset: int
    first: TopicRecord | None
    last: TopicRecord | None


class Outgoing(NamedTuple):
    """A record on its way to Kafka."""

    partition: int
    head: RecordHead
    value: bytes


class Publisher(Protocol):
    """Writing side of Kafka: idempotent, acknowledged by all replicas, ordered per partition.

    Every method raises KafkaUnavailable.
    """

    async def ends(self, topic: str) -> list[PartitionEnds]:
        """What every partition begins and ends with; creates the topic if there is none."""
        ...

    async def publish(self, topic: str, records: Iterable[Outgoing]) -> list[int]:
        """Send records and return, once Kafka has them, the offsets they were given."""
        ...

    async def remake(self, topic: str) -> None:
        """Delete the topic and create it empty."""
        ...


class Figures(Protocol):
    """Told what the relay does."""

    def published(self, position: int, head: int, records: int) -> None:
        """Kafka holds the log up to `position` of `head`; `records` were acknowledged just now."""
        ...


class Progress(NamedTuple):
    """last: position the relay has published. behind: False when it was the log's end just now.

    head: the log's last position as seen within the last second.
    """

    last: int
    behind: bool
    head: int


Report = Callable[[Progress], None]


class _Moved(Exception):
    """A record landed at another offset than the next one: somebody else changed the topic."""

    def __init__(self, topic: str, expected: int, found: int) -> None:
        self.topic = topic
        # Offsets only go back when a topic was deleted, or lost its end: our record then lies
        # behind a hole. -1 says that Kafka knew the record but not its place any more.
        self.has_hole = 0 <= found < expected
        super().__init__(f"{topic}: expected offset {expected}, got {found}")


class _Partition:
    """What one partition holds: complete up to `last`, by the record number `sequence`."""

    __slots__ = ("last", "next_offset", "sequence", "written_at")

    def __init__(self, last: RecordHead | None = None, next_offset: int = 0) -> None:
        self.last = last.last if last else 0
        self.sequence = last.sequence if last else 0
        self.next_offset = next_offset
        self.written_at = 0.0

    def next_head(self, last: int, digest: str = "") -> RecordHead:
        self.sequence += 1
        first, self.last = self.last + 1, last
        return RecordHead(first=first, last=last, sequence=self.sequence, hash=digest)


class Relay:
    """One ledger's relay; run exactly one (a second one only wastes work, its records are
    dropped).
    """

    def __init__(self, tail: LogTail, publisher: Publisher, figures: Figures | None = None) -> None:
        self._tail = tail
        self._publisher = publisher
        self._figures = figures
        self._events = _Partition()
        self._postings: list[_Partition] = []
        self._read = 0
        self._records = 0
        self._head = 0
        self._head_read_at = 0.0
        self._checked_at = 0.0

    async def resume(self) -> int:
        """Learn what Kafka holds; return the position up to which all of it is there.

        Raises KafkaDisagrees if a topic does not begin with the log's first event, or does not end
        in one of this log.
        """
        self._head = (await self._tail.head()).position
        (self._events,) = await self._held(EVENTS_TOPIC)
        self._postings = await self._held(POSTINGS_TOPIC)
        # The lowest: the topics are complete together, unless one of them was made anew.
        self._read = min(partition.last for partition in (self._events, *self._postings))
        self._checked_at = asyncio.get_running_loop().time()
        return self._read

    async def run(self, report: Report) -> None:
        """For ever, after resume(). Raises what PostgreSQL or Kafka raise: resume() then."""
        while True:
            if not await self._turn(report):
                await self._tail.wait(WAIT_SECONDS)

    async def copy_until(self, position: int, report: Report) -> None:
        """As run(), until Kafka holds the log up to a position that is in it."""
        while self._read < position:
            await self._turn(report)
        await self._mark_quiet_partitions()

    # -- one page after another ---------------------------------------------------------------

    async def _turn(self, report: Report) -> bool:
        """Publish what comes next; True if there may be more of it at once."""
        try:
            page = await self._tail.page(self._read, PAGE_EVENTS_MAX)
            if page:
                await self._copy(page)
            else:
                await self._mark_quiet_partitions()
                await self._check()
        except _Moved as moved:
            log.warning("%s: the topic was changed by somebody else; looking again", moved)
            if moved.has_hole:
                await self._publisher.remake(moved.topic)
            await self.resume()
            return True
        behind = len(page) == PAGE_EVENTS_MAX
        await self._tell(report, behind)
        return behind

    async def _copy(self, page: Sequence[LoggedEvent]) -> None:
        await self._publish(POSTINGS_TOPIC, self._postings, self._postings_records(page))
        await self._publish(EVENTS_TOPIC, [self._events], self._events_records(page))
        self._read = page[-1].position

    async def _mark_quiet_partitions(self) -> None:
        # An empty record says that a partition is complete, however long its users stay quiet.
        behind = [
            Outgoing(number, partition.next_head(self._read), b"")
            for number, partition in enumerate(self._postings)
            if partition.last < self._read
        ]
        await self._publish(POSTINGS_TOPIC, self._postings, behind)

    async def _publish(
        self, topic: str, partitions: Sequence[_Partition], records: Iterable[Outgoing]
    ) -> None:
        sent = list(records)
        if not sent:
            return
        offsets = await self._publisher.publish(topic, sent)
        for record, offset in zip(sent, offsets, strict=True):
            partition = partitions[record.partition]
            if offset != partition.next_offset:
                raise _Moved(topic, partition.next_offset, offset)
            partition.next_offset += 1
        self._records += len(sent)
        self._checked_at = asyncio.get_running_loop().time()

    async def _tell(self, report: Report, behind: bool) -> None:
        now = asyncio.get_running_loop().time()
        if behind and now - self._head_read_at >= HEAD_SECONDS:
            self._head = (await self._tail.head()).position
            self._head_read_at = now
        self._head = max(self._head, self._read) if behind else self._read
        if self._figures is not None:
            self._figures.published(self._read, self._head, self._records)
        self._records = 0
        report(Progress(self._read, behind, self._head))

    # -- records ------------------------------------------------------------------------------

    def _events_records(self, page: Sequence[LoggedEvent]) -> Iterator[Outgoing]:
        new = page[max(0, self._events.last - page[0].position + 1) :]
        for start in range(0, len(new), RECORD_EVENTS_MAX):
            packed = new[start : start + RECORD_EVENTS_MAX]
            head = self._events.next_head(packed[-1].position, packed[-1].hash.hex())
            yield Outgoing(0, head, b"\n".join([logged.payload for logged in packed]))

    def _postings_records(self, page: Sequence[LoggedEvent]) -> Iterator[Outgoing]:
        page_last, now = page[-1].position, asyncio.get_running_loop().time()
        if all(partition.last >= page_last for partition in self._postings):
            return
        lines = postings_lines(page, len(self._postings))
        for number, partition in enumerate(self._postings):
            found = [line for line in lines[number] if line[0] > partition.last]
            if not found and now - partition.written_at < WATERMARK_SECONDS:
                continue
            for last, packed in pack(found, page_last):
                if last > partition.last:
                    partition.written_at = now
                    yield Outgoing(number, partition.next_head(last), b"\n".join(packed))

    # -- what Kafka holds ---------------------------------------------------------------------

    async def _check(self) -> None:
        """Raise _Moved if a topic does not end where this relay left it."""
        now = asyncio.get_running_loop().time()
        if now - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = now
        for topic, partitions in (
            (POSTINGS_TOPIC, self._postings),
            (EVENTS_TOPIC, [self._events]),
        ):
            for partition, ends in zip(partitions, await self._publisher.ends(topic), strict=True):
                if ends.next_offset > partition.next_offset:
                    raise _Moved(topic, partition.next_offset, ends.next_offset)
                if ends.next_offset < partition.next_offset:
                    # Nothing was sent into the new topic yet: it only needs to be filled.
                    raise _Moved(topic, partition.next_offset, -1)

    async def _held(self, topic: str) -> list[_Partition]:
        held = []
        for ends in await self._publisher.ends(topic):
            if ends.first is None or ends.last is None:
                held.append(_Partition(None, ends.next_offset))
                continue
            first = _head_of(topic, ends.first)
            if first.first != 1:
                raise KafkaDisagrees(topic, 1, f"the topic begins at position {first.first}")
            last = _head_of(topic, ends.last)
            await self._check_end(topic, last, ends.last)
            held.append(_Partition(last, ends.next_offset))
        return held

    async def _check_end(self, topic: str, head: RecordHead, record: TopicRecord) -> None:
        """Raise KafkaDisagrees unless the last line of a partition's last record is the log's."""
        if head.last > self._head:
            # The log may have grown since its head was read.
            self._head = (await self._tail.head()).position
        if head.last > self._head:
            raise KafkaDisagrees(topic, head.last, f"the log ends at position {self._head}")
        line = record.value.rpartition(b"\n")[2]
        if topic == POSTINGS_TOPIC and not line:
            return
        position = head.last if topic == EVENTS_TOPIC else _position_of(topic, head, line)
        page = await self._tail.page(position - 1, 1)
        if not page:
            raise KafkaDisagrees(topic, position, "the log does not have this event")
        if topic == EVENTS_TOPIC and page[0].hash.hex() != head.hash:
            raise KafkaDisagrees(topic, position, "another hash than the log's")
        if line not in lines_of(topic, page[0]):
            raise KafkaDisagrees(topic, position, "other bytes than the log's")


def _head_of(topic: str, record: TopicRecord) -> RecordHead:
    try:
        return read_head(record.headers)
    except RecordError as exc:
        raise KafkaDisagrees(topic, 0, f"offset {record.offset}: {exc}") from exc


def _position_of(topic: str, head: RecordHead, line: bytes) -> int:
    try:
        position = decode_effect(line).position
    except ValueError as exc:  # msgspec's errors are ValueErrors
        raise KafkaDisagrees(topic, head.last, f"cannot be read: {exc}") from exc
    if not head.first <= position <= head.last:
        raise KafkaDisagrees(topic, position, "lies outside the positions of its record")
    return position
