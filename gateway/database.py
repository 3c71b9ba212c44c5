"""A service's own PostgreSQL database: a few pooled connections, faults in the gateway's words.

Only gateway.identity and gateway.desk keep anything in one; nothing of the ledger is kept there.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from gateway.errors import DatabaseUnavailable
from schemas.wire import WireCode

CONNECTIONS_MAX = 8
CONNECTION_SECONDS_MAX = 3.0
ANSWER_MS_MAX = 5_000

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class Database:
    """open() before use, close() at the end; it may be away in between: only its users notice."""

    def __init__(self, url: str, code: WireCode) -> None:
        """code: of DatabaseUnavailable, which every use raises when PostgreSQL does not answer."""
        self._code = code
        self._pool = AsyncConnectionPool(
            url,
            min_size=0,
            max_size=CONNECTIONS_MAX,
            timeout=CONNECTION_SECONDS_MAX,
            open=False,
            kwargs={
                "connect_timeout": int(CONNECTION_SECONDS_MAX),
                "options": f"-c statement_timeout={ANSWER_MS_MAX}",
            },
        )

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside one transaction: committed at the end, undone by an exception."""
        try:
            async with self._pool.connection() as connection:
                yield connection
        except (psycopg.OperationalError, PoolTimeout) as exc:
            raise DatabaseUnavailable(self._code, str(exc)) from exc

    async def ping(self) -> None:
        async with self.transaction() as connection:
            await connection.execute("SELECT 1")
