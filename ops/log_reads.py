"""The gateway's port to the log: indexed reads by a few connections of the reader's role.

engine.postgres.history serves one task at a time on each; here they take turns, and a connection
that failed is replaced by the next one who needs it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from engine.errors import StoreUnavailable
from engine.ports import LoggedEvent
from engine.postgres.history import HistoryPage, LedgerHistory
from gateway.errors import DatabaseUnavailable
from gateway.order_fold import ended_orders
from gateway.order_reads import EVENTS_FOLLOWED_MAX, too_long
from gateway.ports import LedgerLog, LoggedEvents
from ops.config import Config
from schemas.codecs import decode_event
from schemas.events import LedgerEvent, OrderPlaced
from schemas.wire import WireCode

CONNECTIONS_MAX = 4
TURN_SECONDS_MAX = 5.0
EVENTS_AT_ONCE = 500
ALLOCATIONS_MAX = 10_000


class LogReads:
    """gateway.ports.LedgerLog. Close with close()."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._free: list[LedgerHistory] = []
        self._turns = asyncio.Semaphore(CONNECTIONS_MAX)

    async def close(self) -> None:
        while self._free:
            await self._free.pop().__aexit__(None, None, None)

    async def of_user(self, user_id: str, *, after: int, limit: int) -> LoggedEvents:
        async with self._history() as history:
            return _decoded(await history.of_user(user_id, after=after, limit=limit))

    async def of_user_before(self, user_id: str, *, before: int, limit: int) -> LoggedEvents:
        async with self._history() as history:
            return _decoded(await history.of_user_before(user_id, before=before, limit=limit))

    async def of_market_before(self, market_id: str, *, before: int, limit: int) -> LoggedEvents:
        async with self._history() as history:
            return _decoded(
                await history.of_stream_before(f"market:{market_id}", before=before, limit=limit)
            )

    async def of_order(self, order_id: int) -> LoggedEvents:
        found = LoggedEvents([], None)
        position: int | None = 0
        read = 0
        while position is not None:
            read += EVENTS_AT_ONCE
            async with self._history() as history:
                page = await history.of_order(order_id, after=position, limit=EVENTS_AT_ONCE)
            part = _decoded(page)
            found = LoggedEvents([*found.events, *part.events], None)
            if any(order_id in ended_orders(event) for _, event in part.events):
                break
            position = page.after
            if position is not None and read >= EVENTS_FOLLOWED_MAX:
                raise too_long()
        return found

    async def placement(self, order_id: int) -> OrderPlaced | None:
        async with self._history() as history:
            found = await history.placement(order_id)
        if found is None:
            return None
        event = decode_event(found.payload)
        assert isinstance(event, OrderPlaced), "the index knows orders by their placement"
        return event

    async def allocations(self, *, first: int, last: int) -> LoggedEvents:
        async with self._history() as history:
            found = await history.allocations(first=first, last=last, limit=ALLOCATIONS_MAX)
        return LoggedEvents(_pairs(found), None)

    @contextlib.asynccontextmanager
    async def _history(self) -> AsyncIterator[LedgerHistory]:
        try:
            async with asyncio.timeout(TURN_SECONDS_MAX):
                await self._turns.acquire()
        except TimeoutError as exc:
            raise _unavailable("no connection became free") from exc
        history: LedgerHistory | None = None
        try:
            history = (
                self._free.pop() if self._free else await LedgerHistory(self._url).__aenter__()
            )
            yield history
            self._free.append(history)
            history = None
        except StoreUnavailable as exc:
            # The idle ones were most likely lost with it.
            await self.close()
            raise _unavailable(str(exc)) from exc
        finally:
            # Still here: it failed, or its task was cancelled in the middle of an answer.
            if history is not None:
                await history.__aexit__(None, None, None)
            self._turns.release()


def _unavailable(reason: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(WireCode.HISTORY_UNAVAILABLE, f"the log: {reason}")


def _pairs(events: Iterable[LoggedEvent]) -> list[tuple[int, LedgerEvent]]:
    return [(logged.position, decode_event(logged.payload)) for logged in events]


def _decoded(page: HistoryPage) -> LoggedEvents:
    return LoggedEvents(_pairs(page.events), page.after)


@contextlib.asynccontextmanager
async def log_reads(config: Config) -> AsyncIterator[LedgerLog | None]:
    """None if no log is configured. PostgreSQL may be away: only its readers notice."""
    if not config.postgres_url:
        yield None
        return
    reads = LogReads(config.postgres_url)
    try:
        yield reads
    finally:
        await reads.close()
