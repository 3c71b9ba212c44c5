"""The relay's reading side of the log: pages by position, woken by the append's NOTIFY."""

from collections.abc import Sequence
from types import TracebackType

import psycopg
from psycopg.rows import tuple_row

from engine.errors import StoreUnavailable
from engine.ports import LoggedEvent
from engine.postgres.recorder import EVENTS_TABLE

_PAGE = (
    "SELECT notification_id, originator_id, state, hash FROM ledger_events"
    " WHERE notification_id > %s ORDER BY notification_id LIMIT %s"
)


class PostgresTail:
    """engine.relay.LogTail; an async context manager around one connection."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.AsyncConnection[tuple[object, ...]] | None = None

    async def __aenter__(self) -> "PostgresTail":
        try:
            self._connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True)
            await self._connection.execute(f"LISTEN {EVENTS_TABLE}")
        except psycopg.Error as exc:
            raise StoreUnavailable(str(exc)) from exc
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def page(self, after: int, limit: int) -> Sequence[LoggedEvent]:
        """The next events after a position, in order, none if there are none yet."""
        assert self._connection is not None
        try:
            async with self._connection.cursor(binary=True, row_factory=tuple_row) as cursor:
                await cursor.execute(_PAGE, (after, limit), prepare=True)
                return [LoggedEvent(*row) for row in await cursor.fetchall()]
        except psycopg.Error as exc:
            raise StoreUnavailable(str(exc)) from exc

    async def wait(self, timeout: float) -> None:
        """Until an append was notified, or timeout seconds. Any number of them wakes once."""
        assert self._connection is not None
        try:
            async for _ in self._connection.notifies(timeout=timeout, stop_after=1):
                pass  # run to its end: a generator left half-way keeps the connection locked
        except psycopg.Error as exc:
            raise StoreUnavailable(str(exc)) from exc
