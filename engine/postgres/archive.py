"""Moving full partitions of the log into archives and back, by the log's owner.

A partition is dropped in the transaction that notes its archive, after the file was flushed and
read back: at any instant the events are in the table, or in a file that ledger_archives names.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psycopg
from psycopg.errors import LockNotAvailable
from psycopg.sql import SQL, Identifier

from engine.archive import (
    Archive,
    ArchiveHeader,
    LogRow,
    Progress,
    read_rows,
    verify_archive,
    write_archive,
)
from engine.errors import ArchiveUnusable, LogCorrupt, StoreUnavailable
from engine.hashing import GENESIS_HASH, chain
from engine.ports import StoredSnapshot
from engine.snapshots import SnapshotRejected, opened
from schemas.codecs import decode_event
from schemas.history import history_keys, stream_key

READ_ROWS_PER_FETCH = 5_000
# Appends and reads queue behind the wait for the table, so each wait is short.
LOCK_WAIT_MILLISECONDS = 300
LOCK_PAUSE_SECONDS = 1.0
LOCK_PATIENCE_SECONDS = 60.0
RESTORED_AT_ONCE = 50_000
KEYS_PER_STEP = 200_000


class LogPartition(NamedTuple):
    """Positions from first to last, in two tables."""

    first: int
    last: int
    events_table: str
    history_table: str


class LogArchivist:
    """A session of the log's owner; a second one waits until the first is closed.

    A context manager. Every method raises StoreUnavailable if PostgreSQL refuses or goes away.
    """

    def __init__(self, owner_url: str, directory: Path) -> None:
        self._url = owner_url
        self._directory = directory
        self._connection: psycopg.Connection[tuple[Any, ...]]

    def __enter__(self) -> "LogArchivist":
        with _faults():
            self._connection = psycopg.connect(self._url, autocommit=True)
            self._connection.execute("SELECT pg_advisory_lock(hashtext('durian archive'))")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._connection.close()

    # -- what there is ------------------------------------------------------------------------

    def archives(self) -> list[Archive]:
        """All that ledger_archives names, oldest first."""
        with _faults():
            return [Archive._make(row) for row in self._connection.execute(ARCHIVES.encode())]

    def partitions(self) -> list[LogPartition]:
        """All that the log is made of, oldest first."""
        with _faults():
            rows = self._connection.execute(
                "SELECT first_position, last_position, events_table, history_table"
                " FROM public.ledger_partitions ORDER BY 1"
            )
            return [LogPartition(*row) for row in rows]

    def archivable(self, *, keep_partitions: int) -> list[LogPartition]:
        """Full partitions below the head's and below a snapshot, but the newest few full ones.

        Without a snapshot that can be trusted there are none: a start would have to fold archives.
        """
        with _faults():
            (head,) = self._one("SELECT position FROM public.ledger_events_head", ())
        full = [partition for partition in self.partitions() if partition.last < head]
        kept = full[: max(0, len(full) - keep_partitions)]
        if not kept:
            return []
        snapshot = self.snapshot_position()
        return [partition for partition in kept if partition.last <= snapshot]

    def snapshot_position(self) -> int:
        """Of the newest snapshot that can be trusted; 0 if there is none."""
        with (
            _faults(),
            self._connection.transaction(),
            self._connection.cursor("snapshots", binary=True) as cursor,
        ):
            cursor.itersize = 1  # each may be large
            cursor.execute(
                "SELECT position, version, log_hash, digest, body FROM public.ledger_snapshots"
                " ORDER BY position DESC, version DESC"
            )
            return next((row[0] for row in cursor if self._is_sound(StoredSnapshot(*row))), 0)

    def _is_sound(self, snapshot: StoredSnapshot) -> bool:
        try:
            opened(snapshot)
        except SnapshotRejected:
            return False
        return self._hash_at(snapshot.position) == snapshot.log_hash

    def _hash_at(self, position: int) -> bytes | None:
        """The log's hash at a position, from the table or the archives; None if unknown."""
        if position == 0:
            return GENESIS_HASH
        row = self._connection.execute(
            "SELECT hash FROM public.ledger_events WHERE notification_id = %s", (position,)
        ).fetchone()
        if row is None:
            row = self._connection.execute(
                "SELECT hash_after FROM public.ledger_archives WHERE last_position = %s",
                (position,),
            ).fetchone()
        return bytes(row[0]) if row else None

    def _one(self, query: str, parameters: tuple[object, ...]) -> tuple[Any, ...]:
        row = self._connection.execute(query.encode(), parameters).fetchone()
        if row is None:
            raise StoreUnavailable("the head row is missing; run `durian migrate`")
        return row

    # -- into a file --------------------------------------------------------------------------

    def archive(self, partition: LogPartition, progress: Progress) -> Archive:
        """Write the partition's file, check it, and drop the partition.

        Raises LogCorrupt (nothing dropped) if the log is damaged there, ArchiveUnusable if the
        file cannot be written, StoreUnavailable if somebody keeps reading the log.
        """
        with _faults():
            before, after = self._hash_at(partition.first - 1), self._hash_at(partition.last)
            for position, known in ((partition.first - 1, before), (partition.last, after)):
                if known is None:
                    raise LogCorrupt(position, "missing")
            assert before is not None and after is not None
            header = ArchiveHeader(
                first=partition.first,
                last=partition.last,
                hash_before=before.hex(),
                hash_after=after.hex(),
            )
            archive = write_archive(self._directory, header, self._rows(partition), progress)
            self._index_history(partition.last)
            self._replace_by(archive, partition)
        return archive

    def _rows(self, partition: LogPartition) -> Iterator[LogRow]:
        with (
            self._connection.transaction(),
            self._connection.cursor("archived", binary=True) as cursor,
        ):
            cursor.itersize = READ_ROWS_PER_FETCH
            cursor.execute(
                SQL(
                    "SELECT notification_id, epoch, originator_id, originator_version, topic,"
                    " state, hash FROM public.{} ORDER BY notification_id"
                ).format(Identifier(partition.events_table))
            )
            for row in cursor:
                yield LogRow(*row)

    def _index_history(self, last: int) -> None:
        # The engine may be doing it at this moment: then we are told 0 and ask again.
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while self._one(
            "SELECT count(*) FROM public.ledger_history_recent WHERE first_position <= %s", (last,)
        ) != (0,):
            (moved,) = self._one("SELECT public.durian_index_history(%s)", (KEYS_PER_STEP,))
            if moved == 0:
                if time.monotonic() > deadline:
                    raise StoreUnavailable("the history index is busy, try again later")
                time.sleep(LOCK_PAUSE_SECONDS)

    def _replace_by(self, archive: Archive, partition: LogPartition) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                self._drop(archive, partition)
            except LockNotAvailable as exc:
                if time.monotonic() > deadline:
                    raise StoreUnavailable(
                        f"somebody reads the log all the time, so that {partition.events_table}"
                        " cannot be dropped; nothing is lost, try again later"
                    ) from exc
                time.sleep(LOCK_PAUSE_SECONDS)
            else:
                return

    def _drop(self, archive: Archive, partition: LogPartition) -> None:
        with self._connection.transaction():
            self._connection.execute(f"SET LOCAL lock_timeout = {LOCK_WAIT_MILLISECONDS}".encode())
            # Both at once and in the order of an append, which so cannot deadlock with it.
            self._connection.execute(
                "LOCK TABLE ONLY public.ledger_events, ONLY public.ledger_history"
                " IN ACCESS EXCLUSIVE MODE"
            )
            for parent, table in (
                ("ledger_events", partition.events_table),
                ("ledger_history", partition.history_table),
            ):
                names = {"parent": Identifier(parent), "table": Identifier(table)}
                for statement in _DROP:
                    self._connection.execute(statement.format(**names))
            self._connection.execute(_NOTE, archive)

    # -- and back -----------------------------------------------------------------------------

    def restore(self, path: Path, progress: Progress) -> Archive:
        """Put a file's events back into a partition of their own, as they were.

        Raises ArchiveUnusable (nothing changed) if the file is damaged or does not belong to this
        log, or if its positions are in the table already.
        """
        archive = verify_archive(path)
        with _faults(), self._connection.transaction():
            self._require_place(path, archive)
            bounds = (archive.first, archive.last + 1)
            self._connection.execute("SELECT public.durian_make_partition(%s, %s)", bounds)
            self._copy_in(path, archive, progress)
            self._connection.execute("SELECT public.durian_attach_partition(%s, %s)", bounds)
            self._connection.execute(
                "DELETE FROM public.ledger_archives WHERE first_position = %s", (archive.first,)
            )
        return archive

    def _require_place(self, path: Path, archive: Archive) -> None:
        for partition in self.partitions():
            if partition.first <= archive.last and archive.first <= partition.last:
                raise ArchiveUnusable(
                    path, f"the log has {partition.first} to {partition.last} in its table"
                )
        if self._hash_at(archive.first - 1) != archive.hash_before:
            raise ArchiveUnusable(path, "does not follow from the log's events before it")
        following = self._connection.execute(
            "SELECT state, hash FROM public.ledger_events WHERE notification_id = %s",
            (archive.last + 1,),
        ).fetchone()
        noted = self._hash_at(archive.last)
        follows = (
            following is None or next(chain(archive.hash_after, (following[0],))) == (following[1])
        )
        if noted != archive.hash_after or not follows:
            raise ArchiveUnusable(path, "is not this log's archive of these positions")

    def _copy_in(self, path: Path, archive: Archive, progress: Progress) -> None:
        names = {
            "events": Identifier(f"ledger_events_p{archive.first:012d}"),
            "history": Identifier(f"ledger_history_p{archive.first:012d}"),
        }
        rows, done = read_rows(path), 0
        with self._connection.cursor() as cursor:
            while page := list(islice(rows, RESTORED_AT_ONCE)):
                with cursor.copy(_COPY_EVENTS.format(**names)) as copy:
                    copy.set_types(("int8", "int8", "text", "int8", "text", "bytea", "bytea"))
                    for row in page:
                        copy.write_row(row)
                with cursor.copy(_COPY_HISTORY.format(**names)) as copy:
                    copy.set_types(("int8", "int8", "int8[]"))
                    for key, positions in _history_of(page).items():
                        copy.write_row((key, positions[-1], positions))
                done += len(page)
                progress(done)


def _history_of(page: list[LogRow]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row in page:
        for key in {stream_key(row.stream), *history_keys(decode_event(row.payload))}:
            found.setdefault(key, []).append(row.position)
    return found


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as exc:
        raise StoreUnavailable(str(exc)) from exc


ARCHIVES = (
    "SELECT first_position, last_position, hash_before, hash_after, file_name, sha256, bytes"
    " FROM public.ledger_archives ORDER BY 1"
)
_DROP = (
    SQL("ALTER TABLE public.{parent} DETACH PARTITION public.{table}"),
    SQL("DROP TABLE public.{table}"),
)
_NOTE = (
    "INSERT INTO public.ledger_archives (first_position, last_position, hash_before, hash_after,"
    " file_name, sha256, bytes) VALUES (%s, %s, %s, %s, %s, %s, %s)"
)
_COPY_EVENTS = SQL(
    "COPY public.{events} (notification_id, epoch, originator_id, originator_version, topic,"
    " state, hash) FROM STDIN (FORMAT BINARY)"
)
_COPY_HISTORY = SQL(
    "COPY public.{history} (key, last_position, positions) FROM STDIN (FORMAT BINARY)"
)
