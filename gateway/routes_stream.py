"""/v1/stream: accepts connections, and ends them all when the process drains."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from gateway import routes_health
from gateway.auth import Principal
from gateway.close_codes import CloseCode
from gateway.connection import Connection
from gateway.errors import Refusal, ViewsUnavailable, exception_handlers, problem_response
from gateway.feeds import FEEDS_BY_HOME, FeedReader
from gateway.outbox import Outbox
from gateway.ports import Resources
from gateway.session import Session
from gateway.snapshots import SnapshotDesk, SnapshotReader
from gateway.tracing import Correlated
from schemas.wire import SUBPROTOCOL_JSON, WireCode

SWEEP_SECONDS = 1.0
# Clients that name markets which do not exist must not have Redis read for each message.
LOOK_SECONDS_MIN = 0.2
DRAIN_SECONDS = 3.0
DRAIN_SLICE = 100


class Stream:
    """The connections of one process and the hub they share."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._snapshots = SnapshotReader(resources.views, resources.catalogue)
        self._desk = SnapshotDesk(self._snapshots)
        self._connections: set[Connection] = set()
        self._is_draining = False
        self._emptied = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Feeds are read and tokens expire inside the block."""
        readers = [
            FeedReader(
                views=self._resources.views,
                feeds=feeds,
                hub=self._desk.hub,
                snapshots=self._snapshots,
            )
            for feeds in FEEDS_BY_HOME
        ]
        tasks = [asyncio.create_task(reader.run(), name="feeds") for reader in readers]
        tasks.append(asyncio.create_task(self._sweep(), name="sweep"))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._desk.close()

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Refuse new connections and tell the others to reconnect, spread over `seconds`."""
        self._is_draining = True
        connections = list(self._connections)
        if not connections:
            return
        for first in range(0, len(connections), DRAIN_SLICE):
            for connection in connections[first : first + DRAIN_SLICE]:
                connection.close(CloseCode.GOING_AWAY)
            await asyncio.sleep(seconds / 2 * DRAIN_SLICE / max(len(connections), DRAIN_SLICE * 10))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds / 2):
                await self._emptied.wait()

    async def serve(self, websocket: WebSocket) -> None:
        if self._is_draining:
            await websocket.send_denial_response(
                problem_response(WireCode.VIEWS_UNAVAILABLE, "Going away; connect again.")
            )
            return
        authorization = websocket.headers.get("authorization")
        principal: Principal | None = None
        if authorization is not None:
            try:
                principal = self._resources.tokens.verify_header(authorization)
            except Refusal as refusal:
                response = problem_response(refusal.code, refusal.detail)
                await websocket.send_denial_response(response)
                return
        offered = websocket.scope["subprotocols"]
        chosen = SUBPROTOCOL_JSON if SUBPROTOCOL_JSON in offered else None
        await websocket.accept(subprotocol=chosen)
        connection = Connection(
            websocket=websocket,
            session=self._session(principal),
            hub=self._desk.hub,
            outbox=Outbox(),
            look_for_markets=self._look_for_markets,
        )
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            if self._is_draining and not self._connections:
                self._emptied.set()

    def _session(self, principal: Principal | None) -> Session:
        return Session(
            verify=self._resources.tokens.verify,
            has_market=self._resources.catalogue.has_market,
            principal=principal,
        )

    async def _look_for_markets(self) -> None:
        with contextlib.suppress(ViewsUnavailable):
            await self._resources.catalogue.look_again(pause=LOOK_SECONDS_MIN)

    async def _sweep(self) -> None:
        while True:
            # Sessions ask the catalogue for markets without waiting, so it is kept fresh for them.
            await self._look_for_markets()
            await asyncio.sleep(SWEEP_SECONDS)
            now_second = self._resources.now_second()
            for connection in tuple(self._connections):
                connection.expire(now_second)


def create_stream_app(stream: Stream, resources: Resources) -> ASGIApp:
    app = Starlette(
        routes=[*routes_health.ROUTES, WebSocketRoute("/v1/stream", stream.serve)],
        exception_handlers=exception_handlers(),
    )
    app.state.resources = resources
    return Correlated(app)
