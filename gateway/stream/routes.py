"""/v1/stream: accepts connections, ticks them once a second, and ends them when the process drains.

Starlette routes, authenticates and accepts; then the route hands the connection to the protocol
below ASGI and returns.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from gateway import routes_health
from gateway.cancelling import end_all
from gateway.errors import Refusal, ViewsUnavailable, exception_handlers, problem_response
from gateway.headers import Secured
from gateway.ports import Resources
from gateway.stream import connection as limits
from gateway.stream import origins, routes_documents
from gateway.stream.asgi_socket import EXTENSION
from gateway.stream.close_codes import CloseCode
from gateway.stream.connection import Connection, Surroundings
from gateway.stream.encodings import SUBPROTOCOLS, Encoding, encoded
from gateway.stream.feeds import FEEDS_BY_HOME, FeedReader
from gateway.stream.protocol import CLOSE_SECONDS_MAX, StreamProtocol
from gateway.stream.pump import Pump
from gateway.stream.session import (
    ASKED_CHANNELS_MAX,
    MESSAGE_BYTES_MAX,
    MESSAGES_PER_SECOND_MAX,
    SUBSCRIPTIONS_MAX,
    Session,
)
from gateway.stream.snapshots import SnapshotDesk, SnapshotReader
from gateway.tracing import Correlated
from schemas.wire import (
    STREAM_VERSION,
    Draining,
    Fresh,
    Hello,
    ServerMessage,
    Stale,
    StreamLimits,
    WireCode,
)

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
TICK_SLICE = 500
MARKETS_SECONDS = 1.0
# Clients that name markets which do not exist must not have Redis read for each message.
LOOK_SECONDS_MIN = 0.2
CONNECTIONS_MAX = 50_000
# A drain closes so many a second, so that those who reconnect do not come all at once.
DRAIN_CLOSES_PER_SECOND = 1_000
DRAIN_SECONDS_MAX = 15.0
DRAIN_SLICES_PER_SECOND = 20
RECONNECT_SECONDS = 2.0
# Of all connections together, each of which may have limits.UNREAD_BYTES_MAX.
UNREAD_TOTAL_MAX = 256 << 20

LIMITS = StreamLimits(
    message_bytes=MESSAGE_BYTES_MAX,
    messages_per_second=MESSAGES_PER_SECOND_MAX,
    subscriptions=SUBSCRIPTIONS_MAX,
    channels_per_10_seconds=ASKED_CHANNELS_MAX,
    unread_bytes=limits.UNREAD_BYTES_MAX,
    ping_seconds=limits.PING_SECONDS,
    pong_seconds=limits.PONG_SECONDS,
)


class Stream:
    """The connections of one process, and the hub, the pump and the feeds that they share.

    To be made in the loop that it runs in.
    """

    def __init__(
        self,
        resources: Resources,
        *,
        allowed_origins: Collection[str] = (),
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._resources = resources
        self._allowed_origins = frozenset(allowed_origins)
        self._connections_max = connections_max
        self._snapshots = SnapshotReader(resources.views, resources.catalogue)
        self._desk = SnapshotDesk(self._snapshots, self._fail)
        self._connections: dict[Connection, None] = {}
        self._stale_readers: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_draining = False
        self._emptied = asyncio.Event()
        # Done, with an exception, once a part of this ended that should not: nothing works then.
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hellos = [encoded(_hello(None), encoding) for encoding in Encoding]
        figures = resources.metrics.stream
        figures.connections = lambda: len(self._connections)
        hub = self._desk.hub
        figures.subscriptions = hub.subscriptions
        figures.snapshots = lambda: hub.snapshots
        figures.recovered = lambda: hub.recovered
        self._figures = figures
        self._pump = Pump(figures.swept)
        self._around = Surroundings(
            hub=self._desk.hub,
            pump=self._pump,
            figures=figures,
            look_for_markets=self._look_for_markets,
            spawn=self._spawn_for_client,
            ended=self._ended,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Feeds are read, frames sent and tokens expire inside the block."""
        for number, feeds in enumerate(FEEDS_BY_HOME):
            reader = FeedReader(
                views=self._resources.views,
                feeds=feeds,
                hub=self._desk.hub,
                snapshots=self._snapshots,
                settled=self._pump.settled,
                on_stale=functools.partial(self._mark_stale, number),
            )
            self._spawn(reader.run(), self._fail)
        self._spawn(self._pump.run(), self._fail)
        self._spawn(self._tick(), self._fail)
        self._spawn(self._keep_markets(), self._fail)
        try:
            yield
        finally:
            await end_all(self._tasks)
            await self._desk.close()

    async def drain(self) -> None:
        """Refuse new connections; tell the others to go elsewhere, and close them, spread out.

        Takes a second for each DRAIN_CLOSES_PER_SECOND connections, DRAIN_SECONDS_MAX at most, and
        what the slowest of them need to answer the close, CLOSE_SECONDS_MAX at most.
        """
        self._is_draining = True
        count = len(self._connections)
        if count == 0:
            return
        seconds = min(count / DRAIN_CLOSES_PER_SECOND, DRAIN_SECONDS_MAX)
        self._tell_all(
            Draining(
                closes_within_ms=int(seconds * 1_000),
                reconnect_within_ms=int(max(seconds, RECONNECT_SECONDS) * 1_000),
            )
        )
        await self._close_all(seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await self._emptied.wait()

    async def serve(self, websocket: WebSocket) -> None:
        """The route. The connection goes on below ASGI when this returns."""
        try:
            session, encoding = self._admit(websocket)
        except Refusal as refusal:
            self._figures.refused[refusal.code] += 1
            await websocket.send_denial_response(
                problem_response(refusal.code, refusal.detail, refusal.details)
            )
            return
        offered = websocket.scope["subprotocols"]
        chosen = next((name for name in offered if name in SUBPROTOCOLS), None)
        await websocket.accept(subprotocol=chosen)
        protocol: StreamProtocol = websocket.scope["extensions"][EXTENSION]
        connection = Connection(
            protocol=protocol, session=session, encoding=encoding, around=self._around
        )
        self._figures.accepted += 1
        self._connections[connection] = None
        self._welcome(connection, session)
        protocol.detach(connection)
        connection.flush()

    def _admit(self, websocket: WebSocket) -> tuple[Session, Encoding]:
        # Raises Refusal.
        headers = websocket.headers
        if self._is_draining:
            raise Refusal(WireCode.GOING_AWAY, "This gateway is going away; connect again.")
        if len(self._connections) >= self._connections_max:
            raise Refusal(WireCode.TOO_MANY_CONNECTIONS, "This gateway is full; try another.")
        origin, host = headers.get("origin"), headers.get("host", "")
        if not origins.is_allowed(origin, host=host, allowed=self._allowed_origins):
            text = f"Pages of {origin} may not connect; an operator allows them: DURIAN_ORIGINS."
            raise Refusal(WireCode.ORIGIN_NOT_ALLOWED, text)
        authorization = headers.get("authorization")
        tokens = self._resources.tokens
        principal = tokens.verify_header(authorization) if authorization is not None else None
        offered = websocket.scope["subprotocols"]
        encoding = next(
            (SUBPROTOCOLS[name] for name in offered if name in SUBPROTOCOLS), Encoding.JSON
        )
        session = Session(
            verify=tokens.verify,
            has_market=self._resources.catalogue.has_market,
            principal=principal,
            encoding=encoding,
        )
        return session, encoding

    def _welcome(self, connection: Connection, session: Session) -> None:
        encoding, principal = connection.encoding, session.principal
        if principal is None:
            connection.push(self._hellos[encoding])
        else:
            connection.push(encoded(_hello(principal.expires_second), encoding))
        if self._stale_readers:
            connection.push(encoded(Stale(), encoding))

    def _ended(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        if self._is_draining and not self._connections:
            self._emptied.set()

    def _mark_stale(self, reader: int, is_stale: bool) -> None:
        was_stale = bool(self._stale_readers)
        (self._stale_readers.add if is_stale else self._stale_readers.discard)(reader)
        self._figures.is_stale = bool(self._stale_readers)
        if was_stale != self._figures.is_stale:
            self._tell_all(Stale() if self._figures.is_stale else Fresh())

    def _tell_all(self, message: ServerMessage) -> None:
        told = [encoded(message, encoding) for encoding in Encoding]
        for connection in list(self._connections):
            connection.push(told[connection.encoding])

    async def _close_all(self, seconds: float) -> None:
        connections = list(self._connections)
        for part in _parts(connections, max(1, int(seconds * DRAIN_SLICES_PER_SECOND))):
            for connection in part:
                connection.close(CloseCode.GOING_AWAY)
            await asyncio.sleep(1 / DRAIN_SLICES_PER_SECOND)

    def _spawn(
        self, work: Coroutine[Any, Any, None], failed: Callable[[BaseException], None]
    ) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._end_of_work, failed))

    def _spawn_for_client(self, work: Coroutine[Any, Any, None]) -> None:
        # One client's message must not end the others' process.
        self._spawn(work, _tell_clients_failure)

    def _end_of_work(
        self, failed: Callable[[BaseException], None], task: asyncio.Task[None]
    ) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()):
            failed(fault)

    def _fail(self, fault: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(fault)

    async def _look_for_markets(self) -> None:
        with contextlib.suppress(ViewsUnavailable):
            await self._resources.catalogue.look_again(pause=LOOK_SECONDS_MIN)

    async def _keep_markets(self) -> None:
        # Sessions ask the catalogue for markets without waiting, so it is kept fresh for them.
        while True:
            await self._look_for_markets()
            await asyncio.sleep(MARKETS_SECONDS)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now_second = self._resources.now_second()
            connections = list(self._connections)
            unread = 0
            for first in range(0, len(connections), TICK_SLICE):
                for connection in connections[first : first + TICK_SLICE]:
                    connection.tick(now_second)
                    unread += connection.unread()
                await asyncio.sleep(0)
            if unread > UNREAD_TOTAL_MAX:
                close_slowest(connections, unread - UNREAD_TOTAL_MAX)


def create_stream_app(stream: Stream, resources: Resources) -> ASGIApp:
    app = Starlette(
        routes=[
            *routes_health.ROUTES,
            *routes_documents.ROUTES,
            WebSocketRoute("/v1/stream", stream.serve),
            Route("/v1/stream", tell_of_upgrade, methods=["GET"]),
        ],
        exception_handlers=exception_handlers(),
    )
    app.router.redirect_slashes = False
    app.state.resources = resources
    return Correlated(Secured(app))


def close_slowest(connections: list[Connection], excess: int) -> None:
    """Close those with the most unread, until so many bytes are no longer waited for."""
    for connection in sorted(connections, key=Connection.unread, reverse=True):
        if excess <= 0:
            return
        excess -= connection.unread()
        connection.close(CloseCode.SLOW_CONSUMER)


async def tell_of_upgrade(request: Request) -> Response:
    """What a plain GET of the stream is told."""
    return problem_response(
        WireCode.UPGRADE_REQUIRED,
        "This is a WebSocket: connect with Upgrade: websocket and a subprotocol of /docs.",
        headers={"upgrade": "websocket", "connection": "upgrade"},
    )


def _tell_clients_failure(fault: BaseException) -> None:
    logger.error("a client's message failed", exc_info=fault)


def _hello(expires_at: int | None) -> Hello:
    return Hello(version=STREAM_VERSION, limits=LIMITS, expires_at=expires_at)


def _parts(connections: list[Connection], count: int) -> Iterable[list[Connection]]:
    size = -(-len(connections) // count)
    return (connections[first : first + size] for first in range(0, len(connections), size))
