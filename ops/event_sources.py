"""Where a rebuild reads events from: the log in PostgreSQL with its archives, or Kafka's copy.

Both check the hash chain as they go, which costs a tenth of what decoding an event costs: views are
never made from a log that contradicts itself.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from typing import Literal

import msgspec

from engine.errors import KafkaDisagrees, LogCorrupt
from engine.hashing import GENESIS_HASH
from engine.kafka_reader import TopicReader
from engine.ports import LoggedEvent, LogTail
from engine.postgres.whole_log import WholeTail
from ops.config import Config, archive_directory, require
from ops.wiring import bootstrap_of
from projections.rebuild import EventSource, Positioned
from schemas.codecs import decode_event
from schemas.events import LedgerEvent
from schemas.records import EVENTS_TOPIC, read_head

SourceName = Literal["log", "kafka"]
RECORD_SECONDS = 10.0
KEPT_EVENTS = 20_000


@contextlib.asynccontextmanager
async def open_source(config: Config, name: SourceName) -> AsyncIterator[EventSource]:
    """Raises StoreUnavailable or KafkaUnavailable."""
    if name == "kafka":
        async with TopicReader(bootstrap_of(config), EVENTS_TOPIC) as reader:
            await reader.rewind()
            yield TopicSource(reader)
        return
    url, archive = require(config, "postgres_url"), archive_directory(config)
    async with WholeTail(url, archive) as tail:
        source = LogSource(tail)
        try:
            yield source
        finally:
            await source.close()


class LogSource:
    """Pages of a tail, of which the next one is asked for while the last one is being folded."""

    def __init__(self, tail: LogTail) -> None:
        self._tail = tail
        self._after = -1
        self._hash = GENESIS_HASH
        self._ahead: asyncio.Task[Sequence[LoggedEvent]] | None = None
        self._ahead_of = (-1, 0)

    async def close(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ahead

    async def page(self, after: int, limit: int) -> Sequence[Positioned]:
        """Raises LogCorrupt at a hole, a hash that does not follow, or an unreadable payload."""
        if after != self._after:
            await self._start_at(after)
        page = await self._read(after, limit)
        if not page:
            return ()
        events: list[Positioned] = []
        previous = self._hash
        for position, _, payload, digest in page:
            if sha256(previous + payload).digest() != digest:
                raise LogCorrupt(position, "its hash does not follow from the one before")
            previous = digest
            try:
                events.append((position, decode_event(payload)))
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                raise LogCorrupt(position, f"cannot be read: {exc}") from exc
        self._after, self._hash = page[-1].position, previous
        if len(page) == limit:
            self._ahead_of = (self._after, limit)
            self._ahead = asyncio.create_task(self._tail.page(self._after, limit))
        return events

    async def _start_at(self, after: int) -> None:
        self._hash = GENESIS_HASH
        if after:
            before = await self._tail.page(after - 1, 1)
            if not before:
                raise LogCorrupt(after, "the views hold it, but the log has no such position")
            self._hash = before[0].hash
        self._after = after

    async def _read(self, after: int, limit: int) -> Sequence[LoggedEvent]:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            page = await ahead
            if self._ahead_of[0] == after and page:
                return page[:limit]
        return await self._tail.page(after, limit)


class TopicSource:
    """Records of ledger.events. Keeps the last events, because partitions are not equally far."""

    def __init__(self, reader: TopicReader) -> None:
        self._reader = reader
        self._kept: list[Positioned] = []
        self._hash = ""
        self._last = 0

    async def page(self, after: int, limit: int) -> Sequence[Positioned]:
        """Raises KafkaDisagrees if a record is not what follows the one before."""
        first = self._kept[0][0] if self._kept else self._last + 1
        if after + 1 < first:
            await self._reader.rewind()
            self._kept, self._hash, self._last = [], "", 0
        while self._last <= after:
            if not await self._read_record(after):
                return ()
        start = after + 1 - self._kept[0][0]
        if start > 2 * KEPT_EVENTS:
            del self._kept[: start - KEPT_EVENTS]
            start = KEPT_EVENTS
        return self._kept[start : start + limit]

    async def _read_record(self, after: int) -> bool:
        record = await self._reader.read(0, RECORD_SECONDS)
        if record is None:
            return False
        head = read_head(record.headers)
        if head.last <= self._last:  # sent again
            return True
        if head.first > self._last + 1:
            raise KafkaDisagrees(EVENTS_TOPIC, self._last + 1, f"missing; then {head.first}")
        lines = record.value.split(b"\n")
        if len(lines) != head.last - head.first + 1:
            raise KafkaDisagrees(EVENTS_TOPIC, head.first, "lines do not fit the record's head")
        fresh = lines[self._last + 1 - head.first :]
        self._check(fresh, head.hash)
        first, self._last, self._hash = self._last + 1, head.last, head.hash
        if head.last > after:
            self._kept += [
                (position, _decoded(position, line)) for position, line in enumerate(fresh, first)
            ]
        return True

    def _check(self, lines: Sequence[bytes], expected: str) -> None:
        digest = bytes.fromhex(self._hash) if self._hash else GENESIS_HASH
        for line in lines:
            digest = sha256(digest + line).digest()
        if digest.hex() != expected:
            raise KafkaDisagrees(EVENTS_TOPIC, self._last + 1, "the hash chain breaks here")


def _decoded(position: int, line: bytes) -> LedgerEvent:
    try:
        return decode_event(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise KafkaDisagrees(EVENTS_TOPIC, position, f"cannot be read: {exc}") from exc
