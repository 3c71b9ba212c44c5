"""Who may write: a session lock elects, the head row's epoch fences.

The lock lives on the very connection that appends, so that it goes with it. PostgreSQL ends that
connection by its own clock when its holder is frozen, dead or cut off (idle_session_timeout); the
leader therefore appends or keeps alive at least each second. Source: docs/adr/0002-event-store.md.
"""

from typing import Any

import psycopg
from psycopg.pq.abc import PGresult

from engine.errors import StoreUnavailable
from engine.ports import Head
from engine.postgres import binary
from engine.postgres.append import Tables
from engine.postgres.connection import (
    ANSWER_DEADLINE_SECONDS,
    REACHING,
    LoopConnection,
    Statement,
    sqlstate,
)

LOCK_WAIT_SECONDS = 30
# How long a silent holder keeps the lead, and the server's own view of a dead client's socket.
HOLDING = (
    "-c idle_session_timeout=3s -c idle_in_transaction_session_timeout=3s"
    " -c client_connection_check_interval=1s -c tcp_user_timeout=3000"
    " -c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"
    f" -c lock_timeout={LOCK_WAIT_SECONDS}s -c plan_cache_mode=force_generic_plan"
)
_LOCK_NOT_AVAILABLE = b"55P03"


async def wait_for_lock(tables: Tables, **arguments: Any) -> LoopConnection:
    """A connection that holds the leader's lock.

    Raises StoreUnavailable if the server does not answer. Waits again every LOCK_WAIT_SECONDS, so
    that a frozen server is noticed.
    """
    connection = await LoopConnection.open(
        options=HOLDING, target_session_attrs="read-write", **arguments
    )
    is_held = False
    try:
        while not is_held:
            result = await connection.run(
                _lock(tables), deadline_seconds=LOCK_WAIT_SECONDS + ANSWER_DEADLINE_SECONDS
            )
            if sqlstate(result) != _LOCK_NOT_AVAILABLE:
                connection.rows(result, tuple)
                is_held = True
    finally:
        if not is_held:
            connection.close()
    return connection


def connect_blocking(**arguments: Any) -> LoopConnection:
    """Without the lock: only the epoch fences. Raises StoreUnavailable."""
    try:
        return LoopConnection(psycopg.connect(**REACHING, **arguments))
    except psycopg.Error as exc:
        raise StoreUnavailable(str(exc)) from exc


def seize(tables: Tables) -> Statement:
    """$1 address. Waits for a batch in flight, and fences whoever led."""
    sql = (
        f"UPDATE {tables.head} SET epoch = epoch + 1, address = $1 WHERE id = 1"
        " RETURNING epoch, position, hash"
    )
    return Statement(b"seize", sql.encode(), [binary.TEXT_OID])


def head_of(connection: LoopConnection, result: PGresult) -> Head:
    """What `seize` answered. Raises StoreUnavailable."""
    heads = connection.rows(result, Head._make)
    if not heads:
        raise StoreUnavailable("the head row is missing; run `durian migrate`")
    return heads[0]


def _lock(tables: Tables) -> Statement:
    sql = f"SELECT pg_advisory_lock(hashtextextended('durian leads ' || {tables.channel}, 0))"
    return Statement(b"lock", sql.encode(), [])
