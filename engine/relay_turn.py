"""Whose turn it is to write to Kafka: one relay at a time, the others stand by.

A session's lock in the log's database, on a connection of its own that says something each second.
PostgreSQL ends it by its own clock when its holder is frozen, dead or cut off. A relay that wakes
up late may still send a page; readers drop what they have seen.
"""

import asyncio
from types import TracebackType

from engine.postgres.connection import LoopConnection, Statement

KEEP_SECONDS = 1.0
_SILENCE = (
    "-c idle_session_timeout=3s -c client_connection_check_interval=1s -c tcp_user_timeout=3000"
    " -c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"
)
_TURN = b"hashtextextended('durian relay: turn', 0)"
_WISH = b"hashtextextended('durian relay: wish', 0)"
# A statement of its own transaction holds the shared lock for a moment only: it is a question.
_NOBODY_WISHES = b"pg_try_advisory_xact_lock_shared(" + _WISH + b")"
_ASK = Statement(b"ask", b"SELECT " + _NOBODY_WISHES, [])
_TAKE = Statement(
    b"take",
    b"SELECT CASE WHEN " + _NOBODY_WISHES + b" THEN pg_try_advisory_lock(" + _TURN + b")"
    b" ELSE false END",
    [],
)
_TAKE_AS_WISHED = Statement(b"take_wished", b"SELECT pg_try_advisory_lock(" + _TURN + b")", [])
_WISH_IT = Statement(b"wish", b"SELECT pg_try_advisory_lock(" + _WISH + b")", [])


class RelayTurn:
    """One session; an async context manager. Leaving it gives back what it holds.

    Every method raises StoreUnavailable if PostgreSQL does not answer: whatever it held is lost.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: LoopConnection | None = None

    async def __aenter__(self) -> "RelayTurn":
        self._connection = await LoopConnection.open(
            self._url, autocommit=True, options=_SILENCE, target_session_attrs="any"
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    async def take(self) -> bool:
        """Take the turn if it is free and nobody wishes it."""
        return await self._says(_TAKE)

    async def wish(self) -> bool:
        """Ask whoever has the turn to give it back; False if somebody else wishes it already."""
        return await self._says(_WISH_IT)

    async def take_as_wished(self) -> bool:
        """Take the turn if it is free; for the one whose wish() was granted."""
        return await self._says(_TAKE_AS_WISHED)

    async def keep(self) -> None:
        """Keep the turn; returns when somebody else wishes it."""
        nobody_wishes = True
        while nobody_wishes:
            await asyncio.sleep(KEEP_SECONDS)
            nobody_wishes = await self._says(_ASK)

    async def hold(self) -> None:
        """Keep the turn and the wish until cancelled."""
        while True:
            await self._says(_ASK)
            await asyncio.sleep(KEEP_SECONDS)

    async def _says(self, question: Statement) -> bool:
        assert self._connection is not None, "used outside its block"
        ((answer,),) = self._connection.rows(await self._connection.run(question), tuple)
        return bool(answer)
