"""Snapshots in the log's own database: engine.ports.SnapshotStore on table ledger_snapshots."""

from collections.abc import Iterator

import psycopg
from psycopg.rows import tuple_row

from engine.errors import StoreUnavailable
from engine.ports import StoredSnapshot

SNAPSHOTS_KEPT = 3
_KEYS = "SELECT position, version FROM ledger_snapshots ORDER BY position DESC, version DESC"
_ONE = (
    "SELECT position, version, log_hash, digest, body FROM ledger_snapshots"
    " WHERE position = %s AND version = %s"
)
_SAVE = (
    "INSERT INTO ledger_snapshots (position, version, log_hash, digest, body)"
    " VALUES (%s, %s, %s, %s, %b) ON CONFLICT DO NOTHING"
)
_FORGET = (
    "DELETE FROM ledger_snapshots WHERE (position, version) NOT IN"
    " (SELECT position, version FROM ledger_snapshots"
    " ORDER BY position DESC, version DESC LIMIT %s)"
)


class PostgresSnapshots:
    """Reading needs the reader's role, saving the writer's. Raises StoreUnavailable."""

    def __init__(self, url: str) -> None:
        self._url = url

    def snapshots(self) -> Iterator[StoredSnapshot]:
        """Newest first; each is read when it is asked for, for they are large."""
        try:
            with psycopg.connect(self._url, autocommit=True) as connection:
                for key in connection.execute(_KEYS).fetchall():
                    with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
                        row = cursor.execute(_ONE, key).fetchone()
                    if row is not None:
                        yield StoredSnapshot(*row)
        except psycopg.Error as exc:
            raise StoreUnavailable(f"cannot read the snapshots: {exc}") from exc

    def save_snapshot(self, snapshot: StoredSnapshot) -> None:
        """Keep it and the newest others, SNAPSHOTS_KEPT in all; again changes nothing."""
        try:
            with psycopg.connect(self._url) as connection:
                connection.execute(_SAVE, snapshot)
                connection.execute(_FORGET, (SNAPSHOTS_KEPT,))
        except psycopg.Error as exc:
            raise StoreUnavailable(f"cannot keep the snapshot: {exc}") from exc
