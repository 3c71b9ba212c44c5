"""The deep history's ViewStore: a batch's rows and its checkpoint in one transaction.

The compare-and-set of the generation's row is the transaction's first statement, so that of two
workers the second waits and then finds itself overtaken. Nothing here is committed twice: what an
unanswered COMMIT did is read from the checkpoint by whoever starts next. COMMIT does not wait for
the disk: a server that crashes loses rows and checkpoint together, and the log has them again.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import psycopg
from psycopg.rows import TupleRow

from projections.batch import Place
from projections.errors import ViewBroken, ViewsUnavailable
from projections.history.copying import TABLES, lines
from projections.history.fold import HistoryBatch
from projections.history.folder import STATE_PLACE, WEIGHTS_PLACE
from projections.history.months import months
from projections.history.schema import GENERATIONS_TABLE, schema_of
from projections.ports import Checkpoint, Moved, Overtaken, Refused
from schemas.deep_history import WEIGHTS, WeightChange

Connection = psycopg.AsyncConnection[TupleRow]
# A server that is cut off is given up within seconds, not when the kernel does.
REACHING: dict[str, Any] = {
    "connect_timeout": 3,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
LIVE = "live"
COLUMNS = "name, position, sequence, kafka_offset, epoch"
_CHECKPOINT = f"SELECT {COLUMNS} FROM {GENERATIONS_TABLE} WHERE name = %s"
_LIVE = f"SELECT {COLUMNS} FROM {GENERATIONS_TABLE} WHERE state = '{LIVE}'"
_FOLD = f"SELECT fold FROM {GENERATIONS_TABLE} WHERE name = %s"
_REACH = (
    f"UPDATE {GENERATIONS_TABLE} SET position = %s, sequence = %s, kafka_offset = %s, epoch = %s,"
    " fold = %s WHERE name = %s AND position = %s AND epoch = %s"
)
_ONLY_LIVE = f" AND state = '{LIVE}'"
_EXTEND = "SELECT public.durian_extend_history(%s, %s)"
_NEWEST_WEIGHTS = (
    "SELECT c.position, c.from_second, c.user_id, c.weight, c.entry_index, c.entry_fraction,"
    " c.settled_minor FROM unnest(%s::text[]) AS asked (user_id) CROSS JOIN LATERAL"
    ' (SELECT * FROM {schema}.{table} AS w WHERE w.user_id = asked.user_id COLLATE "C"'
    " ORDER BY from_second DESC, position DESC LIMIT 1) AS c"
)
_encode = msgspec.json.Encoder().encode


@contextmanager
def translated() -> Iterator[None]:
    """Turns the driver's exceptions into ours."""
    try:
        yield
    except psycopg.Error as exc:
        raise ViewsUnavailable(f"the history: {exc}") from exc


class Session:
    """One connection, made when it is first needed and anew after a fault.

    One task at a time has it: another one's statements must not get into a transaction.
    """

    def __init__(self, url: str, *, options: str = "") -> None:
        self._url = url
        self._options = options
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Connection]:
        """An open connection in autocommit; not to be asked for again inside. Raises
        ViewsUnavailable.
        """
        async with self._turn:
            with translated():
                yield await self._opened()

    async def _opened(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, options=self._options, **REACHING
            )
        return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


class HistoryStore:
    """projections.ports.ViewStore[HistoryBatch]; one partition. Close with close().

    url: of trading_db, as the writer or the owner. generation: to be pinned to; None follows the
    live one. Every method raises ViewsUnavailable if PostgreSQL does not answer.
    """

    def __init__(self, url: str, *, generation: str | None = None) -> None:
        self._session = Session(url, options="-c synchronous_commit=off")
        self._generation = generation
        # (generation, month) that has its tables
        self._made: set[tuple[str, int]] = set()

    async def close(self) -> None:
        await self._session.close()

    async def checkpoint(self, partition: int) -> Checkpoint:
        async with self._session.use() as connection:
            if self._generation is None:
                cursor = await connection.execute(_LIVE)
            else:
                cursor = await connection.execute(_CHECKPOINT, (self._generation,))
            row = await cursor.fetchone()
        if row is None:
            raise ViewBroken(f"the history has no generation {self._generation or LIVE}")
        return read_checkpoint(row)

    def reader(self, generation: str) -> "HistoryReader":
        return HistoryReader(self._session, generation)

    async def commit(
        self, partition: int, batch: HistoryBatch, *, expected: Checkpoint, reached: Checkpoint
    ) -> Refused | None:
        made: set[tuple[str, int]] | None = None
        async with self._session.use() as connection:
            async with connection.transaction() as transaction:
                if not await self._reach(connection, batch.state, expected, reached):
                    raise psycopg.Rollback(transaction)
                made = await self._append(connection, expected.generation, batch)
            if made is None:
                return await self._refused(connection, expected)
        self._made |= made
        return None

    async def _reach(
        self, connection: Connection, state: bytes, expected: Checkpoint, reached: Checkpoint
    ) -> bool:
        statement = _REACH + (_ONLY_LIVE if self._generation is None else "")
        moved = await connection.execute(
            statement,
            (
                reached.position,
                reached.sequence,
                reached.offset,
                reached.epoch,
                state,
                expected.generation,
                expected.position,
                expected.epoch,
            ),
        )
        return moved.rowcount == 1

    async def _append(
        self, connection: Connection, generation: str, batch: HistoryBatch
    ) -> set[tuple[str, int]]:
        """The months that it made tables for."""
        schema = schema_of(generation)
        wanted = {(generation, month) for month in months(batch)} - self._made
        for _, second in sorted(wanted):
            await connection.execute(_EXTEND, (generation, second))
        for name, table in TABLES.items():
            rows = table.rows(batch)
            if not rows:
                continue
            statement = f"COPY {schema}.{name} ({table.columns}) FROM STDIN"
            async with connection.cursor().copy(statement.encode()) as copy:
                await copy.write(lines(rows, table.line))
        return wanted

    async def _refused(self, connection: Connection, expected: Checkpoint) -> Refused:
        cursor = await connection.execute(_LIVE)
        live = await cursor.fetchone()
        if self._generation is None and live is not None and live[0] != expected.generation:
            return Moved(live[0])
        cursor = await connection.execute(_CHECKPOINT, (expected.generation,))
        row = await cursor.fetchone()
        if row is None:
            raise ViewBroken(f"the history has no generation {expected.generation}")
        return Overtaken(read_checkpoint(row))


class HistoryReader:
    """projections.ports.ViewReader of what HistoryFolder reads back; nothing else is there."""

    def __init__(self, session: Session, generation: str) -> None:
        self._session = session
        self._generation = generation

    async def strings(self, database: int, keys: Sequence[str]) -> list[bytes | None]:
        """The fold's state."""
        assert (database, *keys) == STATE_PLACE, keys
        async with self._session.use() as connection:
            cursor = await connection.execute(_FOLD, (self._generation,))
            row = await cursor.fetchone()
        return [row[0] if row and row[0] else None]

    async def fields(self, place: Place, names: Sequence[str]) -> list[bytes | None]:
        """The newest weight change of each user, as JSON."""
        assert place == WEIGHTS_PLACE, place
        statement = _NEWEST_WEIGHTS.format(schema=schema_of(self._generation), table=WEIGHTS)
        async with self._session.use() as connection:
            cursor = await connection.execute(statement.encode(), (list(names),))
            rows = await cursor.fetchall()
        found = {row[2]: _encode(weight_change(row)) for row in rows}
        return [found.get(user_id) for user_id in names]

    async def all_fields(self, place: Place) -> dict[str, bytes]:
        return {}

    async def hashes(self, database: int, keys: Sequence[str]) -> list[dict[str, bytes]]:
        return [{} for _ in keys]


def read_checkpoint(row: Sequence[Any]) -> Checkpoint:
    """Of the columns name, position, sequence, kafka_offset, epoch."""
    name, position, sequence, offset, epoch = row
    return Checkpoint(
        position=position, sequence=sequence, offset=offset, epoch=epoch, generation=name
    )


def weight_change(row: Sequence[Any]) -> WeightChange:
    """Numeric columns come as Decimal."""
    position, second, user_id, *numbers = row
    return WeightChange(position, second, user_id, *map(int, numbers))
