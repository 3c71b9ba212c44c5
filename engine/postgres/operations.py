"""The operations record: what was done to views, by whom, with which result. Only ever added to.

A connection for each call: it is written a few times a day.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from engine.errors import StoreUnavailable

_INSERT = (
    "INSERT INTO ledger_operations (actor, operation, projection, outcome, detail)"
    " VALUES (%s, %s, %s, %s, %s) RETURNING id"
)
_NEWEST = (
    "SELECT id, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), actor, operation,"
    " projection, outcome, detail FROM ledger_operations ORDER BY id DESC LIMIT %s"
)
_MAY_RECORD = "SELECT has_table_privilege('ledger_operations', 'INSERT')"


class Operation(NamedTuple):
    """One entry. at: UTC, ISO 8601. detail: plain values."""

    id: int
    at: str
    actor: str
    operation: str
    projection: str
    outcome: str
    detail: dict[str, Any]


class OperationsRecord:
    """url: of the log; adding needs the writer's role. Every method raises StoreUnavailable."""

    def __init__(self, url: str) -> None:
        self._url = url

    def may_add(self) -> bool:
        """Whether the role of the URL may add entries."""
        with self._connected() as connection:
            row = connection.execute(_MAY_RECORD).fetchone()
        return bool(row and row[0])

    def add(
        self, *, actor: str, operation: str, projection: str, outcome: str, detail: dict[str, Any]
    ) -> int:
        """Add one entry; its id."""
        values = (actor, operation, projection, outcome, Jsonb(detail))
        with self._connected() as connection:
            row = connection.execute(_INSERT, values).fetchone()
        assert row is not None
        return int(row[0])

    def newest(self, limit: int) -> list[Operation]:
        """The last so many, newest first."""
        with self._connected() as connection:
            return [Operation._make(row) for row in connection.execute(_NEWEST, (limit,))]

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        try:
            with psycopg.connect(self._url) as connection:
                yield connection
        except psycopg.Error as exc:
            raise StoreUnavailable(f"the operations record: {exc}") from exc
