"""Reading side of the log: pages by position, woken by the append's NOTIFY, who leads, answers."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from engine.errors import StoreUnavailable
from engine.ports import AnswerBlock, Head, LoggedEvent
from engine.postgres import binary
from engine.postgres.append import EVENTS_TABLE
from engine.postgres.connection import LoopConnection, Statement, check

# Blocks deleted by one statement: short enough not to hold anything up.
_FORGOTTEN_AT_ONCE = 10_000
_TWO_NUMBERS = [binary.INT8_OID, binary.INT8_OID]
_PAGE = Statement(
    b"page",
    b"SELECT notification_id, originator_id, state, hash FROM ledger_events"
    b" WHERE notification_id > $1 ORDER BY notification_id LIMIT $2",
    _TWO_NUMBERS,
)
_ANSWERS = Statement(
    b"answers",
    b"SELECT id, at_ns, records FROM ledger_answers WHERE id > $1 ORDER BY id LIMIT $2",
    _TWO_NUMBERS,
)
_HEAD = Statement(
    b"head", b"SELECT epoch, position, hash, address FROM ledger_events_head WHERE id = 1", []
)
# Ids are dense and times rise with them, so that the oldest rows are at the index's left end.
_FORGET = Statement(
    b"forget",
    b"DELETE FROM ledger_answers WHERE at_ns < $1"
    b" AND id < (SELECT min(id) + $2 FROM ledger_answers)",
    _TWO_NUMBERS,
)
Row = TypeVar("Row")
_LISTEN = Statement(b"listen", f"LISTEN {EVENTS_TABLE}".encode(), [])


class PostgresTail:
    """engine.ports.LogTail; an async context manager around one connection.

    For several tasks at once; one that waits makes the others wait. Every method raises
    StoreUnavailable if PostgreSQL does not answer, and then this tail is at its end.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: LoopConnection | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> "PostgresTail":
        self._connection = connection = await LoopConnection.open(self._url, autocommit=True)
        check(await connection.run(_LISTEN))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    async def page(self, after: int, limit: int) -> Sequence[LoggedEvent]:
        """The next events after a position, in order, none if there are none yet."""
        return await self._rows(_PAGE, LoggedEvent._make, after, limit)

    async def answers_page(self, after_id: int, limit: int) -> Sequence[AnswerBlock]:
        """The next answer blocks after an id, oldest first."""
        return await self._rows(_ANSWERS, AnswerBlock._make, after_id, limit)

    async def head(self) -> Head:
        """As stored, whoever leads."""
        return (await self._head_row())[0]

    async def leader(self) -> str:
        """The address that the last elected writer gave; "" if there was none."""
        return (await self._head_row())[1]

    async def _head_row(self) -> tuple[Head, str]:
        rows = await self._rows(_HEAD, lambda row: (Head._make(row[:3]), str(row[3])))
        if not rows:
            raise StoreUnavailable("the head row is missing; run `durian migrate`")
        return rows[0]

    async def forget_answers(self, before_ns: int) -> None:
        """Delete the answer blocks older than that; needs the writer's role."""
        parameters = [binary.int8(before_ns), binary.int8(_FORGOTTEN_AT_ONCE)]
        is_done = False
        while not is_done:
            async with self._turn:
                result = await self._opened().run(_FORGET, parameters)
            check(result)
            is_done = result.command_tuples != _FORGOTTEN_AT_ONCE

    async def wait(self, timeout: float) -> None:
        """Until an append was notified, or timeout seconds. Any number of them wakes once."""
        async with self._turn:
            await self._opened().wait_notified(timeout)

    async def _rows(
        self, statement: Statement, make_row: Callable[[Sequence[Any]], Row], *numbers: int
    ) -> list[Row]:
        async with self._turn:
            connection = self._opened()
            result = await connection.run(statement, [binary.int8(number) for number in numbers])
            return connection.rows(result, make_row)

    def _opened(self) -> LoopConnection:
        if self._connection is None:
            raise StoreUnavailable("this tail was not entered")
        return self._connection
