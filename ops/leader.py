"""Where the leading engine takes commands: the address it wrote into the log's head row.

One connection with the reader's role, kept and made anew when it fails. Knows no fallback but the
one it is given; whether the engine answers there is for its caller to find out.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg

from gateway.engine_client import Address, Locate, fixed_address
from gateway.errors import LeaderUnknown
from ops.config import Config, require
from ops.errors import UsageError
from ops.wiring import address_of

CONNECT_SECONDS_MAX = 2
UNANSWERED_MS_MAX = 2_000
CLOSE_SECONDS_MAX = 1.0
_ADDRESS = "SELECT address FROM ledger_events_head"


class LeaderLocator:
    """Call it for (host, port) of whoever leads; close() when done."""

    def __init__(self, url: str, *, unelected: Address | None = None) -> None:
        """unelected: what to say while no engine has written an address yet."""
        self._url = url
        self._unelected = unelected
        self._connection: psycopg.AsyncConnection[tuple[str]] | None = None
        self._reading: asyncio.Task[str] | None = None

    async def __call__(self) -> Address:
        """Raises LeaderUnknown. A caller may give up waiting at any time."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="leader's address")
            self._reading.add_done_callback(_take_note)
        # Shielded: psycopg answers a cancellation by asking the server, which may be what is away.
        address = await asyncio.shield(self._reading)
        if not address:
            if self._unelected is None:
                raise LeaderUnknown("no engine has led this ledger yet")
            return self._unelected
        try:
            return address_of(address)
        except (UsageError, ValueError) as exc:
            raise LeaderUnknown(str(exc)) from exc

    async def close(self) -> None:
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait({self._reading}, timeout=CLOSE_SECONDS_MAX)
        if self._connection is not None:
            await self._connection.close()

    async def _read(self) -> str:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = await psycopg.AsyncConnection.connect(
                    self._url,
                    autocommit=True,
                    application_name="durian gateway",
                    connect_timeout=CONNECT_SECONDS_MAX,
                    tcp_user_timeout=UNANSWERED_MS_MAX,
                )
            cursor = await self._connection.execute(_ADDRESS)
            row = await cursor.fetchone()
        except psycopg.Error as exc:
            if self._connection is not None:
                await self._connection.close()
            raise LeaderUnknown(f"the log's head cannot be read: {exc}") from exc
        return row[0] if row else ""


@contextlib.asynccontextmanager
async def leader_locator(config: Config) -> AsyncIterator[Locate]:
    """By the head row if this part may read it, else always the configured engine."""
    if not config.postgres_url:
        yield fixed_address(*address_of(require(config, "engine_url")))
        return
    configured = address_of(config.engine_url) if config.engine_url else None
    locator = LeaderLocator(config.postgres_url, unelected=configured)
    try:
        yield locator
    finally:
        await locator.close()


def _take_note(reading: "asyncio.Task[str]") -> None:
    # Nobody may be waiting any more; a fault that nobody fetches would be reported as a bug.
    if not reading.cancelled():
        reading.exception()
