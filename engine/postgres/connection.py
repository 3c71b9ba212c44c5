"""One libpq connection driven on the event loop: no thread, a deadline on every statement.

After a fault, a missed deadline or a cancelled wait the connection is closed, because what it would
still receive answers a question that nobody asks any more. Nothing here is sent twice.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from engine.errors import StoreUnavailable

ANSWER_DEADLINE_SECONDS = 4.0
# A host that is cut off is given up within about 4 s. Keepalives alone do not end a connection
# with unacknowledged data in flight: the kernel retransmits for a quarter of an hour.
REACHING: dict[str, Any] = {
    "connect_timeout": 3,
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 3000,
}
_BINARY = 1
Row = TypeVar("Row")


class Statement(NamedTuple):
    """Prepared on first use. types: OIDs of the parameters, which are all binary."""

    name: bytes
    sql: bytes
    types: list[int]


class LoopConnection:
    """For one task at a time."""

    def __init__(self, connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection  # closes libpq's connection when it is collected
        self._libpq = connection.pgconn
        self._prepared: set[bytes] = set()
        self._waiting: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, conninfo: str = "", **arguments: Any) -> "LoopConnection":
        """Raises StoreUnavailable."""
        try:
            return cls(await psycopg.AsyncConnection.connect(conninfo, **REACHING, **arguments))
        except psycopg.Error as exc:
            raise StoreUnavailable(str(exc)) from exc

    def close(self) -> None:
        """Whoever waits for an answer gets StoreUnavailable."""
        if self._waiting is None:
            self._libpq.finish()
        elif not self._waiting.done():
            self._waiting.set_exception(psycopg.OperationalError("closed while it was waiting"))

    async def run(
        self,
        statement: Statement,
        parameters: Sequence[bytes] = (),
        *,
        deadline_seconds: float = ANSWER_DEADLINE_SECONDS,
    ) -> PGresult:
        """The answer, which may be the server's refusal: see `check` and `rows`.

        Raises StoreUnavailable if there is none in time; then the outcome is unknown.
        """
        is_answered = False
        try:
            async with asyncio.timeout(deadline_seconds):
                self._libpq.nonblocking = 1
                if statement.name not in self._prepared:
                    self._libpq.send_prepare(statement.name, statement.sql, statement.types)
                    check(await self._result())
                    self._prepared.add(statement.name)
                self._libpq.send_query_prepared(
                    statement.name, parameters, [_BINARY] * len(parameters), _BINARY
                )
                result = await self._result()
            is_answered = True
        except TimeoutError as exc:
            raise StoreUnavailable(f"no answer within {deadline_seconds:g} s") from exc
        except psycopg.Error as exc:
            raise StoreUnavailable(str(exc)) from exc
        finally:
            if not is_answered:
                self.close()
        return result

    def run_blocking(self, statement: Statement, parameters: Sequence[bytes] = ()) -> PGresult:
        """The same without an event loop and without a deadline."""
        try:
            self._libpq.nonblocking = 0
            if statement.name not in self._prepared:
                check(self._libpq.prepare(statement.name, statement.sql, statement.types))
                self._prepared.add(statement.name)
            return self._libpq.exec_prepared(
                statement.name, parameters, [_BINARY] * len(parameters), _BINARY
            )
        except psycopg.Error as exc:
            self.close()
            raise StoreUnavailable(str(exc)) from exc

    def rows(self, result: PGresult, make_row: Callable[[Sequence[Any]], Row]) -> list[Row]:
        """Raises StoreUnavailable if the server refused the statement."""
        check(result)
        loader = Transformer(self._connection)
        loader.set_pgresult(result)
        return loader.load_rows(0, result.ntuples, make_row)

    async def wait_notified(self, timeout: float) -> None:
        """Until a notification has come since the last call, or timeout seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not self._drain():
                    await self._ready(to_write=False)
                    self._libpq.consume_input()
        except TimeoutError:
            return
        except psycopg.Error as exc:
            self.close()
            raise StoreUnavailable(str(exc)) from exc

    def _drain(self) -> bool:
        is_notified = False
        while self._libpq.notifies() is not None:
            is_notified = True
        return is_notified

    async def _result(self) -> PGresult:
        last = None
        while True:
            while (unsent := self._libpq.flush()) or self._libpq.is_busy():
                await self._ready(to_write=bool(unsent))
                self._libpq.consume_input()
            result = self._libpq.get_result()
            if result is None:
                break
            last = result
        if last is None:
            raise StoreUnavailable("the connection ended without an answer")
        return last

    async def _ready(self, *, to_write: bool) -> None:
        loop, descriptor = asyncio.get_running_loop(), self._libpq.socket
        self._waiting = waiting = loop.create_future()
        loop.add_reader(descriptor, _wake, waiting)
        if to_write:
            loop.add_writer(descriptor, _wake, waiting)
        try:
            await waiting
        finally:
            self._waiting = None
            loop.remove_reader(descriptor)
            if to_write:
                loop.remove_writer(descriptor)


def sqlstate(result: PGresult) -> bytes:
    """Five characters; empty if the statement succeeded."""
    return result.error_field(DiagnosticField.SQLSTATE) or b""


def check(result: PGresult) -> None:
    """Raises StoreUnavailable if the server refused the statement."""
    if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        state = sqlstate(result).decode()
        raise StoreUnavailable(f"{state} {result.get_error_message()}".strip())


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
