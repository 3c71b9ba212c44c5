"""Whether a topic of Kafka is what the log says, byte for byte: every line, every record's cover.

Both are read once, side by side, a page of the log at a time. Re-sent records are harmless, because
readers drop them: they are counted, and compared all the same. Everything else is a finding; the
first one is kept with its place.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from engine.packing import Line, lines_of, postings_lines
from engine.ports import LoggedEvent, LogTail
from engine.relay import PAGE_EVENTS_MAX, TopicRecord
from schemas.effects import decode_effect
from schemas.records import EVENTS_TOPIC, RecordError, RecordHead, read_head

# A live relay sends something into every partition at least each half second.
STANDSTILL_SECONDS = 4.0
AFTER_STANDSTILL_SECONDS = 0.2
SHOWN_BYTES_MAX = 300


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """position: of the log. offset: Kafka's, of the record looked at; -1 if there is none."""

    topic: str
    partition: int
    offset: int
    position: int
    expected: str
    found: str


class Findings(msgspec.Struct, kw_only=True):
    """About one topic up to `position`. lines: compared and equal. first: of `differences`,
    by position.
    """

    topic: str
    position: int
    records: int = 0
    lines: int = 0
    resent_records: int = 0
    differences: int = 0
    first: Difference | None = None


class Reader(Protocol):
    """One topic of Kafka from its beginning."""

    @property
    def topic(self) -> str: ...

    @property
    def partition_count(self) -> int: ...

    async def next_offsets(self) -> list[int]:
        """Per partition the offset that the next record written will get."""
        ...

    async def rewind(self) -> None:
        """Let read() return the first record of every partition next."""
        ...

    async def read(self, partition: int, seconds: float) -> TopicRecord | None:
        """The next record of a partition; None if none was there for so many seconds."""
        ...


class _Found(NamedTuple):
    position: int
    line: bytes
    offset: int


async def check_topic(
    tail: LogTail, reader: Reader, report: Callable[[int], None], *, until: int | None = None
) -> Findings:
    """Compare a topic with the log, from the beginning to a position, or to the log's end by now.

    report: told the position reached. Works while a relay publishes; waits for it as long as it
    moves. Raises StoreUnavailable, KafkaUnavailable.
    """
    ends = await reader.next_offsets()
    # Read after the ends: what stood in Kafka then must be in the log up to here.
    head = (await tail.head()).position
    position_last = head if until is None else min(head, until)
    findings = Findings(topic=reader.topic, position=position_last)
    checks = [_PartitionCheck(findings, number, end, head) for number, end in enumerate(ends)]
    supply, again = _Supply(reader), _Again(tail, findings)
    await reader.rewind()
    position = 0
    while position < position_last:
        page = (await tail.page(position, PAGE_EVENTS_MAX))[: position_last - position]
        position = page[-1].position
        for check, expected in zip(checks, _expected(reader, page), strict=True):
            await supply.read_to(check, position)
            check.compare(expected, page)
            await again.compare(check)
        report(position)
    for check in checks:
        await supply.drain(check)
        await again.compare(check)
    return findings


def _expected(reader: Reader, page: Sequence[LoggedEvent]) -> list[list[Line]]:
    if reader.topic == EVENTS_TOPIC:
        return [[(logged.position, logged.payload) for logged in page]]
    return postings_lines(page, reader.partition_count)


class _Supply:
    """Records for the checks; patient until the topic has stood still once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._patience = STANDSTILL_SECONDS

    async def read_to(self, check: "_PartitionCheck", position: int) -> None:
        """Let a check receive records until they cover a position, or end."""
        while check.covered < position:
            if not await self._read_one(check):
                check.end()

    async def drain(self, check: "_PartitionCheck") -> None:
        """What lies behind the record that covers the log's end must be checked too."""
        while check.offset + 1 < check.end_offset:
            if not await self._read_one(check):
                return

    async def _read_one(self, check: "_PartitionCheck") -> bool:
        while True:
            record = await self._reader.read(check.number, self._patience)
            if record is not None:
                check.receive(record)
                return True
            if (await self._reader.next_offsets())[check.number] <= check.offset + 1:
                self._patience = AFTER_STANDSTILL_SECONDS
                return False


class _PartitionCheck:
    """One partition's records, and what of them is still to be compared."""

    def __init__(self, findings: Findings, number: int, end_offset: int, log_last: int) -> None:
        self.number = number
        self.end_offset = end_offset
        self.covered = 0
        self.offset = -1
        self.resent: list[_Found] = []
        self._findings = findings
        self._log_last = log_last
        self._found: deque[_Found] = deque()
        self._hashes: deque[_Found] = deque()
        # Ranges that were reported as a whole, so that not each event of them counts again.
        self._reported: list[range] = []

    def receive(self, record: TopicRecord) -> None:
        """Take the partition's next record."""
        self.offset = record.offset
        self._findings.records += 1
        try:
            head = read_head(record.headers)
            lines = list(self._lines(head, record.value))
        except (RecordError, ValueError) as exc:
            self.differs(self.covered + 1, "a record of the ledger", str(exc))
            return
        if head.last > self._log_last and record.offset < self.end_offset:
            self.differs(head.last, f"the log ends at {self._log_last}", "a later event")
        if head.first > self.covered + 1:
            missing = range(self.covered + 1, head.first)
            self.differs(missing[0], f"positions {missing[0]} to {missing[-1]}", "a hole")
            self._reported.append(missing)
        if head.last <= self.covered:
            self._findings.resent_records += 1
        for position, line in lines:
            found = _Found(position, line, record.offset)
            (self._found if position > self.covered else self.resent).append(found)
        if self._findings.topic == EVENTS_TOPIC and head.last > self.covered:
            self._hashes.append(_Found(head.last, head.hash.encode(), record.offset))
        self.covered = max(self.covered, head.last)

    def end(self) -> None:
        """There is no further record, and the log goes on."""
        missing = range(self.covered + 1, self._findings.position + 1)
        self.differs(
            missing[0], f"positions up to {missing[-1]}", "the topic's end; does a relay run?"
        )
        self._reported.append(missing)
        self.covered = missing[-1]

    def compare(self, expected: list[Line], page: Sequence[LoggedEvent]) -> None:
        """Compare what was received up to the page's end with the page."""
        page_first, page_last = page[0].position, page[-1].position
        found = []
        while self._found and self._found[0].position <= page_last:
            found.append(self._found.popleft())
        if [(position, line) for position, line, _ in found] == expected:
            self._findings.lines += len(found)
        else:
            self._compare_each(expected, found)
        while self._hashes and self._hashes[0].position <= page_last:
            last, digest, offset = self._hashes.popleft()
            logged = page[last - page_first].hash.hex()
            if digest.decode() != logged:
                self.differs(last, f"hash {logged}", f"hash {digest.decode()}", offset)

    def _compare_each(self, expected: list[Line], found: list[_Found]) -> None:
        wanted, held = _by_position(expected), _by_position(found)
        offsets = {position: offset for position, _, offset in found}
        for position in sorted(wanted.keys() | held.keys()):
            want, have = wanted.get(position, []), held.get(position, [])
            if want == have:
                self._findings.lines += len(want)
            elif have or not any(position in reported for reported in self._reported):
                self.differs(position, _shown(want), _shown(have), offsets.get(position))

    def differs(self, position: int, expected: str, found: str, offset: int | None = None) -> None:
        self._findings.differences += 1
        first = self._findings.first
        if first is None or position < first.position:
            self._findings.first = Difference(
                topic=self._findings.topic,
                partition=self.number,
                offset=self.offset if offset is None else offset,
                position=position,
                expected=expected,
                found=found,
            )

    def _lines(self, head: RecordHead, value: bytes) -> Iterator[Line]:
        lines = value.split(b"\n") if value else []
        if not 1 <= head.first <= head.last:
            raise RecordError(f"covers positions {head.first} to {head.last}")
        if self._findings.topic == EVENTS_TOPIC:
            if len(lines) != head.last - head.first + 1:
                raise RecordError(f"{len(lines)} lines for {head.first} to {head.last}")
            yield from enumerate(lines, head.first)
            return
        for line in lines:
            position = decode_effect(line).position
            if not head.first <= position <= head.last:
                raise RecordError(f"position {position} in a record of {head.first}-{head.last}")
            yield position, line


class _Again:
    """The log once more, for lines that came before: mostly near each other, so a page is kept."""

    def __init__(self, tail: LogTail, findings: Findings) -> None:
        self._tail = tail
        self._findings = findings
        self._page: Sequence[LoggedEvent] = ()

    async def compare(self, check: _PartitionCheck) -> None:
        """Compare what a partition has received a second time, and forget it."""
        for position, line, offset in check.resent:
            logged = await self._event(position)
            if logged is None or line not in lines_of(self._findings.topic, logged):
                want = lines_of(self._findings.topic, logged) if logged else []
                check.differs(position, _shown(want), _shown([line]), offset)
        check.resent.clear()

    async def _event(self, position: int) -> LoggedEvent | None:
        first = self._page[0].position if self._page else 0
        if not first <= position < first + len(self._page):
            self._page = await self._tail.page(position - 1, PAGE_EVENTS_MAX)
            first = position
        return self._page[position - first] if self._page else None


def _by_position(lines: Sequence[tuple[int, bytes] | _Found]) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for line in lines:
        found.setdefault(line[0], []).append(line[1])
    return found


def _shown(lines: Sequence[bytes]) -> str:
    text = b" | ".join(lines).decode(errors="backslashreplace") or "nothing"
    return text if len(text) <= SHOWN_BYTES_MAX else f"{text[:SHOWN_BYTES_MAX]}…"
