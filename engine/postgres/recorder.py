"""LedgerRecorder: the eventsourcing library's application recorder with gapless, fenced appends.

Positions are given by the writer, so commit order is position order and there are no holes. The
library's own reading paths work on the same table. Nothing here retries: an unknown outcome is
settled by lead() or elect(). Source: docs/adr/0002-event-store.md.
"""

from collections.abc import Iterator, Sequence
from itertools import starmap
from typing import Any, cast
from uuid import UUID

import msgspec
import psycopg
from eventsourcing.persistence import (
    IntegrityError,
    Notification,
    OperationalError,
    ProgrammingError,
    StoredEvent,
)
from eventsourcing.postgres import (
    PostgresApplicationRecorder,
    PostgresDatastore,
    PostgresFactory,
)
from psycopg.pq.abc import PGresult
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Identifier

from engine.errors import Fenced, LogCorrupt, StoreUnavailable
from engine.hashing import GENESIS_HASH
from engine.ports import AnswerBlock, Head, LoggedEvent, NewEvent
from engine.postgres import leadership
from engine.postgres.append import EVENTS_TABLE, AppendStatements, Packed, Tables
from engine.postgres.connection import LoopConnection, Statement, check, sqlstate
from engine.postgres.indexing import HistoryIndexer, positions_sql
from schemas.history import stream_key

READ_ROWS_PER_FETCH = 5_000
_UNIQUE_VIOLATION = b"23505"  # the library's optimistic conflict: a stream version is taken
# A partition that could not be made is tried again after so many events.
_EXTEND_AGAIN_EVENTS = 10_000
_NEVER = 1 << 62


class StoredNotification(msgspec.Struct, frozen=True, gc=False):
    """Stands in for the library's Notification, attribute for attribute; cheaper to build."""

    id: int
    originator_id: str
    originator_version: int
    topic: str
    state: bytes


class LedgerRecorder(PostgresApplicationRecorder):
    """One writer's recorder, or a reader's if it never leads."""

    def __init__(
        self, datastore: PostgresDatastore, *, events_table_name: str = EVENTS_TABLE
    ) -> None:
        super().__init__(datastore, events_table_name=events_table_name)
        self.head_table_name = f"{events_table_name}_head"
        # No bigserial: positions are given. No insert function: its fixed name lets a second
        # application redirect the first one's events into its own table.
        self.sql_create_statements[self.create_table_statement_index] = self._sql(_CREATE_EVENTS)
        del self.sql_create_statements[self.create_insert_function_statement_index]
        self.sql_create_statements.append(self._sql(_CREATE_HEAD))
        self.sql_create_statements.append(self._sql(_INSERT_HEAD))
        self._tables = Tables.named(datastore.schema, events=events_table_name)
        self._append = AppendStatements(self._tables)
        self._writer: LoopConnection | None = None
        self._head = Head(0, 0, GENESIS_HASH)
        self._extend_at = _NEVER
        self._indexer: HistoryIndexer | None = None

    def _sql(self, template: SQL) -> psycopg.sql.Composed:
        schema = self.datastore.schema
        return template.format(
            events=Identifier(schema, self.events_table_name),
            head=Identifier(schema, self.head_table_name),
        )

    # -- leadership ---------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """As this writer knows it; valid after lead() or elect()."""
        return self._head

    def lead(self) -> Head:
        """Seize the lead without an election, on a fresh connection. Raises StoreUnavailable."""
        self.close_writer()
        try:
            writer = leadership.connect_blocking(**self._connection_arguments())
            self._writer = writer
            seized = writer.run_blocking(leadership.seize(self._tables), [b""])
            self._head = leadership.head_of(writer, seized)
            if self._tables.is_ledger:
                self._extended(writer, writer.run_blocking(_EXTEND))
        except StoreUnavailable as exc:
            self.close_writer()
            raise StoreUnavailable(f"cannot take the lead: {exc}") from exc
        return self._head

    async def elect(self, address: str) -> Head:
        """Wait for the leader's lock, then lead; `address` is written into the head row.

        From now on this writer must append, if only nothing, at least each second.
        Raises StoreUnavailable.
        """
        self.close_writer()
        try:
            writer = await leadership.wait_for_lock(self._tables, **self._connection_arguments())
            self._writer = writer
            seized = await writer.run(leadership.seize(self._tables), [address.encode()])
            self._head = leadership.head_of(writer, seized)
            if self._tables.is_ledger:
                self._extended(writer, await writer.run(_EXTEND))
                self._indexer = HistoryIndexer(self._connection_arguments())
        except StoreUnavailable as exc:
            self.close_writer()
            raise StoreUnavailable(f"cannot take the lead: {exc}") from exc
        return self._head

    def close_writer(self) -> None:
        """Give up the lead and its lock; the epoch stays taken."""
        self._extend_at = _NEVER
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._indexer is not None:
            self._indexer.close()
            self._indexer = None

    def _extended(self, writer: LoopConnection, result: PGresult) -> None:
        if sqlstate(result):
            # An archive run may be in the way. A whole partition is free: the next try may do.
            self._extend_at = self._head.position + _EXTEND_AGAIN_EVENTS
        else:
            ((self._extend_at,),) = writer.rows(result, tuple)

    def _connection_arguments(self) -> dict[str, Any]:
        arguments = dict(cast("dict[str, Any]", self.datastore.pool.kwargs))
        del arguments["row_factory"]
        return arguments

    # -- append -------------------------------------------------------------------------------

    async def append(
        self,
        events: Sequence[NewEvent],
        history: Sequence[tuple[int, int]] = (),
        answers: AnswerBlock | None = None,
    ) -> Head:
        """One durable, fenced statement, sent and awaited on the event loop without a thread.

        Raises Fenced (nothing appended) or StoreUnavailable (outcome unknown).
        """
        writer = self._led()
        packed = self._append.pack(self._head, events, history, answers)
        try:
            if self._head.position >= self._extend_at - 1:
                self._extended(writer, await writer.run(_EXTEND))
            result = await writer.run(packed.statement, packed.parameters)
            head = self._appended(result, packed)
        except StoreUnavailable:
            self.close_writer()
            raise
        if self._indexer is not None:
            self._indexer.note(len(events) + len(history))
        return head

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """The library's way in (Application.save): same statement, same fence, blocking."""
        if self._tables.is_ledger:
            # Nothing here would notice a stale aggregate: the engine is the only writer.
            raise ProgrammingError("the ledger is written by its engine only")
        if not stored_events:
            return []
        if self._writer is None:
            self.lead()
        writer, first = self._led(), self._head.position + 1
        packed = self._append.pack(self._head, stored_events)
        try:
            result = writer.run_blocking(packed.statement, packed.parameters)
            if sqlstate(result) == _UNIQUE_VIOLATION:
                raise IntegrityError(result.get_error_message())
            head = self._appended(result, packed)
        except StoreUnavailable as exc:
            raise OperationalError(str(exc)) from exc
        except Fenced as exc:
            raise IntegrityError(str(exc)) from exc
        return range(first, head.position + 1)

    def _led(self) -> LoopConnection:
        if self._writer is None:
            raise StoreUnavailable("not leading: call elect() or lead() first")
        return self._writer

    def _appended(self, result: PGresult, packed: Packed) -> Head:
        check(result)
        if result.ntuples != 1:
            raise Fenced(self._head.epoch, self._head.position)
        self._head = packed.head
        return self._head

    # -- read ---------------------------------------------------------------------------------

    def read(self, after: int = 0) -> Iterator[LoggedEvent]:
        """Every event after a position by a binary server-side cursor.

        Raises LogCorrupt at a hole; StoreUnavailable when PostgreSQL goes away.
        """
        expected = after
        try:
            with (
                psycopg.connect(**self._connection_arguments()) as connection,
                connection.cursor("log", row_factory=tuple_row) as cursor,
            ):
                cursor.itersize = READ_ROWS_PER_FETCH
                cursor.execute(self._sql(_READ), (after,), binary=True)
                for row in cursor:
                    expected += 1
                    if row[0] != expected:
                        raise LogCorrupt(expected, f"missing; the next one is {row[0]}")
                    yield LoggedEvent(*row)
        except psycopg.Error as exc:
            raise StoreUnavailable(str(exc)) from exc

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The library's read of one stream; the ledger finds it by its index of the history."""
        if not self._tables.is_ledger:
            found = super().select_events(originator_id, gt=gt, lte=lte, desc=desc, limit=limit)
            return cast("list[StoredEvent]", found)
        stream = str(originator_id)
        query = _SELECT_STREAM.format(order=SQL("DESC" if desc else "ASC"))
        parameters = {
            "key": stream_key(stream),
            "stream": stream,
            "gt": gt or 0,
            "lte": _NEVER if lte is None else lte,
            "limit": limit,
        }
        with (
            self.datastore.get_connection() as connection,
            connection.cursor(row_factory=tuple_row, binary=True) as cursor,
        ):
            return list(starmap(StoredEvent, cursor.execute(query, parameters)))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """The library's page read, with binary tuples: about three times its own speed."""
        first = (start or 0) + (0 if inclusive_of_start else 1)
        query = self._sql(_SELECT_PAGE_OF_TOPICS if topics else _SELECT_PAGE)
        parameters = (first, stop or (1 << 62), *((list(topics),) if topics else ()), limit)
        with (
            self.datastore.get_connection() as connection,
            connection.cursor(row_factory=tuple_row, binary=True) as cursor,
        ):
            rows = cursor.execute(query, parameters, prepare=True)
            return cast("list[Notification]", list(starmap(StoredNotification, rows)))


class LedgerFactory(PostgresFactory):
    """PERSISTENCE_MODULE of eventsourcing Applications that live on the ledger's log."""

    application_recorder_class = LedgerRecorder


_EXTEND = Statement(b"extend", b"SELECT durian_extend_log()", [])
_CREATE_EVENTS = SQL("""
CREATE TABLE IF NOT EXISTS {events} (
    originator_id text NOT NULL,
    originator_version bigint NOT NULL,
    topic text NOT NULL,
    state bytea NOT NULL,
    notification_id bigint NOT NULL,
    epoch bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (originator_id, originator_version)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.05)
""")
_CREATE_HEAD = SQL("""
CREATE TABLE IF NOT EXISTS {head} (
    id int PRIMARY KEY CHECK (id = 1),
    epoch bigint NOT NULL,
    position bigint NOT NULL,
    hash bytea NOT NULL,
    address text NOT NULL DEFAULT ''
) WITH (fillfactor = 10)
""")
_INSERT_HEAD = SQL(
    "INSERT INTO {head} VALUES (1, 0, 0, decode(repeat('00', 32), 'hex')) ON CONFLICT DO NOTHING"
)
_READ = SQL(
    "SELECT notification_id, originator_id, state, hash FROM {events}"
    " WHERE notification_id > %s ORDER BY notification_id"
)
_SELECT_PAGE = SQL(
    "SELECT notification_id, originator_id, originator_version, topic, state FROM {events}"
    " WHERE notification_id >= %s AND notification_id <= %s ORDER BY notification_id LIMIT %s"
)
_SELECT_PAGE_OF_TOPICS = SQL(
    "SELECT notification_id, originator_id, originator_version, topic, state FROM {events}"
    " WHERE notification_id >= %s AND notification_id <= %s AND topic = ANY(%s)"
    " ORDER BY notification_id LIMIT %s"
)
# OFFSET 0 keeps the planner from joining the other way round, by a scan of the events.
_SELECT_STREAM = SQL(f"""
SELECT event.* FROM ({positions_sql(key="%(key)s")}) AS found CROSS JOIN LATERAL (
    SELECT originator_id, originator_version, topic, state FROM ledger_events
    WHERE notification_id = found.position OFFSET 0
) AS event
WHERE originator_id = %(stream)s AND originator_version > %(gt)s AND originator_version <= %(lte)s
ORDER BY originator_version {{order}} LIMIT %(limit)s
""")
