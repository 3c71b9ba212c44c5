"""Builds the gateway from one Config and runs any set of its services in one process and loop."""

import asyncio
import contextlib
import functools
import gc
import logging
import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec
import uvicorn
from starlette.types import ASGIApp

from gateway.cancelling import end_all
from gateway.engine_client import EngineTimes
from gateway.errors import ViewsUnavailable
from gateway.http_protocol import HttpProtocol
from gateway.ports import Resources
from gateway.routes_health import OK, dependencies
from gateway.services import HTTP_SERVICES, HttpService, create_app
from gateway.stream.protocol import StreamProtocol
from gateway.stream.routes import Stream, create_stream_app
from gateway.stream.session import MESSAGE_BYTES_MAX
from ops.config import Config
from ops.errors import ServerUnavailable
from ops.gateway_resources import around, gateway_resources, unending_works
from ops.notify import Notifier
from ops.wiring import stop_on_signals

ServiceName = HttpService | Literal["stream"]
SERVICE_NAMES: Final[tuple[ServiceName, ...]] = (*HTTP_SERVICES, "stream")

log = logging.getLogger("durian")

# The kernel doubles it. What a slow client may have the kernel hold for it stays small.
SEND_BUFFER_BYTES = 32 * 1024
# How long sent bytes may stay unacknowledged, or the peer's window shut: then the kernel gives up.
USER_TIMEOUT_MS = 30_000
BACKLOG = 4_096
GRACE_SECONDS = 5
POLL_SECONDS = 0.05
# What a process opens beside its connections, with much to spare.
OTHER_FILES = 500
COLLECT_THRESHOLDS = (10_000, 20, 50)


_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """A service and the bound socket it will be served on."""

    service: ServiceName
    socket: socket.socket

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port


class _Server(uvicorn.Server):
    """One of several in a process: signals are the process's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop_accepting(self) -> None:
        for listening in self.servers:
            listening.close()


def bind(config: Config, names: Sequence[ServiceName]) -> list[Listener]:
    """Sockets of the named services at their configured ports. Raises ServerUnavailable."""
    return [
        Listener(
            service=name,
            socket=_bound(
                config.host,
                getattr(config.ports, name),
                is_shared=name == "stream" and config.stream_processes > 1,
            ),
        )
        for name in names
    ]


def _allow_many_files() -> None:
    """Each connection is a file; the usual soft limit of 1,024 is a default, not a policy."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _connections_max(config: Config) -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(min(config.stream_connections_max, files - OTHER_FILES), 1)


def _bound(host: str, port: int, *, is_shared: bool) -> socket.socket:
    # is_shared: several processes listen on the port, and the kernel deals out connections.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Accepted sockets inherit both.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if _USER_TIMEOUT is not None:
        listener.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, USER_TIMEOUT_MS)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise ServerUnavailable(f"cannot listen on {host}:{port}: {exc}") from exc
    return listener


async def run_services(config: Config, names: Sequence[ServiceName]) -> None:
    """Serve the named services until SIGTERM or SIGINT."""
    _allow_many_files()
    stop = asyncio.Event()
    stop_on_signals(stop.set)
    await serve(config, bind(config, names), stop, ready=_settle_memory)


async def serve(
    config: Config,
    listeners: Sequence[Listener],
    stop: asyncio.Event,
    times: EngineTimes | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until `stop`; ready once Redis and the engine have answered, a stream with markets.

    Then streams are told to reconnect elsewhere, requests under way get GRACE_SECONDS to end.
    ready: called when all is. Raises what ended a part that should never end, in the same orderly
    way.
    """
    notifier = Notifier(config.notify_socket)
    async with contextlib.AsyncExitStack() as stack:
        services = [listener.service for listener in listeners]
        resources = await stack.enter_async_context(gateway_resources(config, services, times))
        works = await stack.enter_async_context(unending_works(resources, services))
        surroundings = around(config)
        stream = Stream(
            resources,
            allowed_origins=config.origins.replace(",", " ").split(),
            connections_max=_connections_max(config),
        )
        if any(listener.service == "stream" for listener in listeners):
            await stack.enter_async_context(stream.running())
        apps: dict[ServiceName, Callable[[], ASGIApp]] = {
            "stream": functools.partial(create_stream_app, stream, resources),
            **{
                name: functools.partial(create_app, name, resources, surroundings)
                for name in HTTP_SERVICES
            },
        }
        servers = [_server(config, apps[listener.service]()) for listener in listeners]
        running = [
            asyncio.create_task(server.serve(sockets=[listener.socket]))
            for server, listener in zip(servers, listeners, strict=True)
        ]
        announcing = asyncio.create_task(_announce(resources, servers, listeners, notifier, ready))
        stopping = asyncio.create_task(stop.wait())
        ends: list[asyncio.Future[Any]] = [*running, *works, stopping, stream.failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        notifier.stopping()
        await end_all([announcing])
        for server, listener in zip(servers, listeners, strict=True):
            if listener.service == "stream":
                server.stop_accepting()
        await stream.drain()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*running)
        stopping.cancel()
        for unending in (*works, stream.failed):
            if unending.done():
                unending.result()


def _server(config: Config, app: ASGIApp) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=HttpProtocol,
            ws=StreamProtocol,
            ws_per_message_deflate=False,
            ws_max_size=MESSAGE_BYTES_MAX,
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            forwarded_allow_ips=config.proxies,
            backlog=BACKLOG,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )


def _settle_memory() -> None:
    """What is there now stays: a collection need not walk through it again and again.

    With the interpreter's own thresholds a wave of connections causes full collections of tens of
    milliseconds each.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_THRESHOLDS)


async def _announce(
    resources: Resources,
    servers: Sequence[_Server],
    listeners: Sequence[Listener],
    notifier: Notifier,
    ready: Callable[[], None],
) -> None:
    streams = any(listener.service == "stream" for listener in listeners)
    while True:
        parts = dict(await dependencies(resources))
        if streams and resources.catalogue.is_empty():
            # Whoever subscribes as soon as we are ready must not hear that there is no such market.
            parts["markets"] = "not known yet"
            with contextlib.suppress(ViewsUnavailable):
                await resources.catalogue.refresh()
        waiting = [f"{name} {state}" for name, state in parts.items() if state != OK]
        if not waiting and all(server.started for server in servers):
            break
        notifier.status(", ".join(waiting) or "starting")
        await asyncio.sleep(POLL_SECONDS)
    ready()
    addresses = ", ".join(f"{listener.service} {listener.port}" for listener in listeners)
    log.info("serving %s", addresses)
    notifier.ready(addresses)
