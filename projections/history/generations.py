"""Generations of the deep history: a schema each, one of them shown by the views that readers use.

Rows never change, so two generations are compared up to a position while the live one goes on.
A switch locks the live checkpoint, which the projector's next commit waits for, brings the new
generation level, compares the rows since, and shows it, all in one transaction.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Literal

import psycopg

from projections.errors import RebuildRefused, RebuildUnderWay, ViewsUnavailable
from projections.generations import CatchUp, Comparison, Generation, GenerationRecord, Size, State
from projections.history.comparing import Comparing
from projections.history.copying import TABLES
from projections.history.schema import GENERATIONS_TABLE, schema_of
from projections.history.store import (
    COLUMNS,
    LIVE,
    Connection,
    HistoryStore,
    Session,
    read_checkpoint,
)
from projections.ports import Checkpoint

Switch = Literal["never", "if_equal", "always"]
RETIRED = "retired"
# So few events are compared and folded while the projector waits: 2,000 took it 130 ms.
HELD_EVENTS_MAX = 250
ROUNDS_MAX = 10
SWITCH_TRIES_MAX = 10
RETRY_SECONDS = 0.05
# The server ends a session that holds the projector up for longer, whatever became of us, and
# does not let a long read of the views, which replacing them waits for, hold up all others.
_HOLDING = "-c idle_in_transaction_session_timeout=1000 -c lock_timeout=200"
_LOCK = "SELECT pg_try_advisory_lock(hashtext('durian history rebuild'))"
_HOLDER = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND"
    " objid::bigint = hashtext('durian history rebuild')::bigint & 4294967295 LIMIT 1"
)
_ALL = (
    f"SELECT {COLUMNS}, state, made_at, source, switched_at FROM {GENERATIONS_TABLE}"
    " ORDER BY name::bigint"
)
_BOTH = (
    f"SELECT {COLUMNS} FROM {GENERATIONS_TABLE}"
    f" WHERE state = '{LIVE}' OR name = %s ORDER BY state <> '{LIVE}'"
)
_HOLD = f"SELECT FROM {GENERATIONS_TABLE} WHERE state = '{LIVE}' FOR UPDATE"
_ADD = f"INSERT INTO {GENERATIONS_TABLE} (name, source, state) VALUES (%s, %s, 'building')"
_REMOVE = f"DELETE FROM {GENERATIONS_TABLE} WHERE name = %s AND state <> '{LIVE}'"
# Of a partitioned table's parent the size is 0: its months are counted, and their indexes.
_SIZE = (
    "SELECT coalesce(sum(greatest(reltuples, 0)), 0), coalesce(sum(pg_total_relation_size(oid)), 0)"
    " FROM pg_class WHERE relkind = 'r' AND relnamespace = to_regnamespace(%s)"
)
_LEVEL = f"UPDATE {GENERATIONS_TABLE} SET kafka_offset = %s, sequence = %s WHERE name = %s"


class HistoryGenerations:
    """projections.generations.GenerationStore. Close with close(), which also ends begin()'s lock.

    owner_url: of trading_db, as its owner.
    """

    def __init__(self, owner_url: str) -> None:
        self._url = owner_url
        # Holds the rebuilders' lock for as long as it is open.
        self._session = Session(owner_url)
        self._stores: list[HistoryStore] = []

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        await self._session.close()

    async def generations(self) -> list[Generation]:
        """Oldest first. "dropped" ones are still there until the next begin()."""
        async with self._session.use() as connection:
            return await _known(connection)

    async def begin(self, source: str = "") -> str:
        """As GenerationStore.begin: drops what was there before the previous one."""
        async with self._session.use() as connection:
            await _lock(connection)
            known = await _known(connection)
            for one in known:
                if one.state == "dropped":
                    await _drop(connection, one.name)
            unfinished = [one.name for one in known if one.state == "building"]
            if unfinished:
                return unfinished[0]
            name = str(1 + max(int(one.name) for one in known))
            async with connection.transaction():
                await connection.execute(_ADD, (name, source))
                await connection.execute("SELECT public.durian_make_history(%s)", (name,))
            return name

    def store(self, generation: str) -> HistoryStore:
        self._stores.append(HistoryStore(self._url, generation=generation))
        return self._stores[-1]

    async def size(self, generation: str) -> Size:
        """As GenerationStore.size; entries are what PostgreSQL's statistics say."""
        async with self._session.use() as connection:
            row = await (await connection.execute(_SIZE, (schema_of(generation),))).fetchone()
        return Size(entries=int(row[0]), bytes=int(row[1])) if row else Size(entries=0, bytes=0)

    async def drop(self, generation: str) -> int:
        """Raises RebuildRefused for the live generation and for one that is not there."""
        async with self._session.use() as connection:
            return await _drop(connection, generation)

    async def compare(self, generation: str, catch_up: CatchUp, *, switch: Switch) -> Comparison:
        """As GenerationStore.compare. Raises RebuildRefused if there is no such generation beside
        the live one.
        """
        async with self._session.use() as connection:
            live, new = await _both(connection, generation)
            comparing = Comparing(old=live.generation, new=generation)
            if new.position > live.position:
                await comparing.take_new(connection, new.position)
            for _ in range(ROUNDS_MAX if comparing.is_compared else 0):
                if new.position < live.position:
                    await catch_up([live.position])
                await comparing.advance(connection, live.position)
                live, new = await _both(connection, generation)
                if switch == "never" or live.position - comparing.position <= HELD_EVENTS_MAX:
                    break
            if switch == "never" or (switch == "if_equal" and comparing.differing):
                return comparing.comparison(switched=False, held_ms=0.0)
        return await self._switch(comparing, catch_up, switch)

    async def _switch(self, comparing: Comparing, catch_up: CatchUp, switch: Switch) -> Comparison:
        for tries_left in reversed(range(SWITCH_TRIES_MAX)):
            session = Session(self._url, options=_HOLDING)
            try:
                async with session.use() as connection:
                    began = time.perf_counter()
                    async with connection.transaction():
                        switched = await _switch_held(connection, comparing, catch_up, switch)
                    held_ms = (time.perf_counter() - began) * 1_000
                    return comparing.comparison(switched=switched, held_ms=held_ms)
            except ViewsUnavailable as exc:
                if not tries_left or not isinstance(exc.__cause__, psycopg.OperationalError):
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                await session.close()
        raise AssertionError("the last try returns or raises")


async def _switch_held(
    connection: Connection, comparing: Comparing, catch_up: CatchUp, switch: Switch
) -> bool:
    """In a transaction: whether readers see the new one from its commit on."""
    await connection.execute(_HOLD)
    live, new = await _both(connection, comparing.new)
    if live.generation != comparing.old:
        raise RebuildRefused(f"the history was switched to {live.generation} meanwhile")
    if new.position < live.position:
        await catch_up([live.position])
    if comparing.is_compared:
        await comparing.advance(connection, live.position)
    if switch == "if_equal" and comparing.differing:
        return False
    await connection.execute("SELECT public.durian_show_history(%s)", (comparing.new,))
    if live.position >= new.position:
        await connection.execute(_LEVEL, (live.offset, live.sequence, comparing.new))
    return True


async def _known(connection: Connection) -> list[Generation]:
    rows = await (await connection.execute(_ALL)).fetchall()
    return [_generation(row) for row in rows]


async def _drop(connection: Connection, generation: str) -> int:
    schema = schema_of(generation)
    async with connection.transaction():
        if (await connection.execute(_REMOVE, (generation,))).rowcount != 1:
            raise RebuildRefused(f"the history has no generation {generation} but the live one")
        counts = " + ".join(f"(SELECT count(*) FROM {schema}.{table})" for table in TABLES)
        row = await (await connection.execute(f"SELECT {counts}".encode())).fetchone()
        await connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())
    return int(row[0]) if row else 0


def _generation(row: Sequence[Any]) -> Generation:
    *checkpoint, stored_state, made_at, source, switched_at = row
    state: State = "dropped" if stored_state == RETIRED else stored_state
    return Generation(
        name=row[0],
        state=state,
        checkpoints=(read_checkpoint(checkpoint),),
        record=GenerationRecord(
            state=state,
            started_at=made_at.isoformat(),
            source=source,
            switched_at=switched_at.isoformat() if switched_at else "",
        ),
    )


async def _lock(connection: Connection) -> None:
    row = await (await connection.execute(_LOCK)).fetchone()
    if row is None or not row[0]:
        holder = await (await connection.execute(_HOLDER)).fetchone()
        raise RebuildUnderWay("history", f"server process {holder[0]}" if holder else "unknown")


async def _both(connection: Connection, generation: str) -> tuple[Checkpoint, Checkpoint]:
    """The live one's checkpoint and this one's."""
    rows = await (await connection.execute(_BOTH, (generation,))).fetchall()
    if len(rows) != 2:
        raise RebuildRefused(f"the history has no generation {generation} but the live one")
    return read_checkpoint(rows[0]), read_checkpoint(rows[1])
