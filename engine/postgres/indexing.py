"""The index of the log's history, made a little behind the appends.

An append notes the keys of its batch in one row of ledger_history_recent; durian_index_history()
moves them into ledger_history, many at once, where one row holds a key's positions. That takes a
third of the time of an entry each. Readers look in both, so an entry is found from its commit on.
"""

import asyncio
from typing import Any

from engine.errors import StoreUnavailable
from engine.postgres import binary
from engine.postgres.connection import LoopConnection, Statement

# A reader looks through those not moved yet one by one: 50,000 take it about a millisecond.
ENTRIES_WAITING_MAX = 50_000
ENTRIES_MOVED_AT_ONCE = 100_000
MOVE_DEADLINE_SECONDS = 60.0
_MOVE = Statement(b"move", b"SELECT durian_index_history($1)", [binary.INT4_OID])


def positions_sql(*, key: str, after: str = "0", limit: str = "ALL") -> str:
    """A query of the positions under a key, ascending; the arguments are SQL expressions."""
    return (
        "SELECT DISTINCT position FROM ("
        # Each row holds at least one position that is wanted, so that `limit` rows are enough.
        f"(SELECT unnest(positions) AS position FROM (SELECT positions FROM ledger_history"
        f" WHERE key = {key} AND last_position > {after} ORDER BY last_position LIMIT {limit})"
        " AS indexed) UNION ALL SELECT first_position + i"
        " FROM ledger_history_recent, unnest(keys, indexes) AS entry(k, i)"
        f" WHERE {key} = ANY (keys) AND k = {key}"
        f") AS entries WHERE position > {after} ORDER BY position LIMIT {limit}"
    )


def positions_before_sql(*, key: str, before: str, limit: str) -> str:
    """The same below a position, descending.

    Rows of a key never overlap, so that besides those below only the next one may hold any.
    """
    return (
        "SELECT DISTINCT position FROM ("
        f"(SELECT unnest(positions) AS position FROM (SELECT positions FROM ledger_history"
        f" WHERE key = {key} AND last_position < {before} ORDER BY last_position DESC"
        f" LIMIT {limit}) AS below) UNION ALL"
        f" (SELECT unnest(positions) FROM (SELECT positions FROM ledger_history"
        f" WHERE key = {key} AND last_position >= {before} ORDER BY last_position LIMIT 1)"
        " AS around) UNION ALL SELECT first_position + i"
        " FROM ledger_history_recent, unnest(keys, indexes) AS entry(k, i)"
        f" WHERE {key} = ANY (keys) AND k = {key}"
        f") AS entries WHERE position < {before} ORDER BY position DESC LIMIT {limit}"
    )


class HistoryIndexer:
    """Beside the writer, on a connection of its own; its faults only leave more for later."""

    def __init__(self, connection_arguments: dict[str, Any]) -> None:
        self._arguments = connection_arguments
        self._connection: LoopConnection | None = None
        self._moving: asyncio.Task[None] | None = None
        # Of the writer before: unknown, so look soon.
        self._waiting = ENTRIES_WAITING_MAX

    def note(self, entries: int) -> None:
        """So many were appended."""
        self._waiting += entries
        is_moving = self._moving is not None and not self._moving.done()
        if self._waiting >= ENTRIES_WAITING_MAX and not is_moving:
            self._waiting = 0
            self._moving = asyncio.create_task(self._move())

    def close(self) -> None:
        if self._moving is not None:
            self._moving.cancel()
        if self._connection is not None:
            self._connection.close()

    async def _move(self) -> None:
        try:
            if self._connection is None:
                # Not waiting for the disk: what a crash undoes is moved again.
                self._connection = await LoopConnection.open(
                    autocommit=True, options="-c synchronous_commit=off", **self._arguments
                )
            moved = ENTRIES_WAITING_MAX
            while moved >= ENTRIES_WAITING_MAX:
                result = await self._connection.run(
                    _MOVE,
                    [binary.int4(ENTRIES_MOVED_AT_ONCE)],
                    deadline_seconds=MOVE_DEADLINE_SECONDS,
                )
                ((moved,),) = self._connection.rows(result, tuple)
        except StoreUnavailable:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
