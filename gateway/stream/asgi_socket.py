"""The time of a WebSocket within ASGI: its handshake, and all of it if nobody detaches it.

Holds all that a connection needs only until then: scope, task, and messages not yet received.
Source: the ASGI specification's WebSocket messages, version 2.4.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, Protocol, cast
from urllib.parse import unquote

from starlette.types import Message, Scope
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected, get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from gateway.stream import frames, handshake

log = logging.getLogger("uvicorn.error")

# Where an application finds what it can detach: scope["extensions"][EXTENSION].
EXTENSION = "durian.stream"
NORMAL = 1000
INTERNAL_ERROR = 1011
# With so many not received, the client waits.
MESSAGES_WAITING_MAX = 32
# With so much not sent, the application waits; more than what the transport calls writable() for.
BUFFERED_BYTES_MAX = 64 * 1024


class Link(Protocol):
    """What is needed of a StreamProtocol, which describes it."""

    is_closing: bool

    def write(self, ready: bytes) -> None: ...
    def write_first(self, ready: bytes) -> None: ...
    def buffered(self) -> int: ...
    def close(self, code: int, reason: str = "") -> None: ...
    def finish(self, last: bytes) -> None: ...


class AsgiSocket:
    """The Endpoint of a connection until it is detached.

    is_new: no request has come yet. is_accepted: the application has accepted it.
    """

    def __init__(
        self, link: Link, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        self.is_new = True
        self.is_accepted = False
        self._link = link
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._transport: asyncio.Transport
        self._request: handshake.Request
        self._denial: Message | None = None
        self._denial_body = b""
        self._is_connect_told = False
        self._waiting: deque[str | bytes] = deque()
        self._disconnect: Message | None = None
        self._changed = asyncio.Event()
        self._is_released = False

    def begin(self, data: bytes, transport: asyncio.Transport) -> None:
        """data: one whole request. Starts the application."""
        self.is_new = False
        self._transport = transport
        request = handshake.read_request(data.partition(b"\r\n\r\n")[0])
        if isinstance(request, handshake.Refused):
            self._link.finish(handshake.refusing(request, self._server_state.default_headers))
            return
        self._request = request
        app: Any = self._config.loaded_app
        running: Coroutine[Any, Any, None] = app(self._scope(request), self._receive, self._send)
        task = asyncio.get_running_loop().create_task(running)
        self._server_state.tasks.add(task)
        task.add_done_callback(self._app_ended)

    def release(self) -> list[str | bytes]:
        """What nobody has received; from here on others receive."""
        self._is_released = True
        self._transport.resume_reading()
        return list(self._waiting)

    def give_up(self) -> None:
        """The server stops before the application has answered."""
        self._link.finish(handshake.denying(HTTPStatus.SERVICE_UNAVAILABLE, [], b""))

    # -- an Endpoint --------------------------------------------------------------------------

    def received(self, message: str | bytes) -> None:
        self._waiting.append(message)
        self._changed.set()
        if len(self._waiting) >= MESSAGES_WAITING_MAX:
            self._transport.pause_reading()

    def controlled(self) -> None:
        pass

    def writable(self) -> None:
        self._changed.set()

    def ended(self, code: int) -> None:
        self._disconnect = {"type": "websocket.disconnect", "code": code, "reason": ""}
        self._changed.set()

    # -- the application's side ---------------------------------------------------------------

    async def _receive(self) -> Message:
        if not self._is_connect_told:
            self._is_connect_told = True
            return {"type": "websocket.connect"}
        while not self._waiting:
            if self._disconnect is not None:
                return self._disconnect
            await self._change()
        message = self._waiting.popleft()
        if not self._waiting:
            self._transport.resume_reading()
        kind = "text" if isinstance(message, str) else "bytes"
        return {"type": "websocket.receive", kind: message}

    async def _send(self, message: Message) -> None:
        while self._disconnect is None and self._link.buffered() > BUFFERED_BYTES_MAX:
            await self._change()
        # Whoever sends after an end is told so by an OSError, as ASGI has it.
        if self._link.is_closing:
            raise ClientDisconnected
        if self._denial is not None:
            self._deny(self._denial, message)
        elif self.is_accepted:
            self._send_accepted(message)
        else:
            self._answer(message)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _answer(self, message: Message) -> None:
        match message["type"]:
            case "websocket.accept":
                headers = [*self._server_state.default_headers, *message.get("headers", ())]
                subprotocol = message.get("subprotocol")
                self._link.write_first(handshake.accepting(self._request, subprotocol, headers))
                self.is_accepted = True
            case "websocket.close":
                headers = self._server_state.default_headers
                self._link.finish(handshake.denying(HTTPStatus.FORBIDDEN, headers, b""))
            case "websocket.http.response.start":
                self._denial = message
            case other:
                raise RuntimeError(f"{other} before websocket.accept")

    def _deny(self, start: Message, message: Message) -> None:
        if message["type"] != "websocket.http.response.body":
            raise RuntimeError(f"{message['type']} within a denial's body")
        self._denial_body += message.get("body", b"")
        if not message.get("more_body", False):
            headers = [*self._server_state.default_headers, *start.get("headers", ())]
            self._link.finish(handshake.denying(start["status"], headers, self._denial_body))

    def _send_accepted(self, message: Message) -> None:
        match message["type"]:
            case "websocket.send":
                text, content = message.get("text"), message.get("bytes")
                if content is None:
                    self._link.write(frames.frame(frames.TEXT, cast(str, text).encode()))
                else:
                    self._link.write(frames.frame(frames.BINARY, content))
            case "websocket.close":
                self._link.close(message.get("code", NORMAL), message.get("reason") or "")
            case other:
                raise RuntimeError(f"{other} after websocket.accept")

    def _app_ended(self, task: "asyncio.Task[None]") -> None:
        self._server_state.tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None and not isinstance(fault, ClientDisconnected):
            log.error("Exception in ASGI application", exc_info=fault)
        elif self._is_released:
            return
        has_failed = fault is not None or task.cancelled()
        if self.is_accepted:
            self._link.close(INTERNAL_ERROR if has_failed else NORMAL)
        else:
            self._link.finish(handshake.denying(HTTPStatus.INTERNAL_SERVER_ERROR, [], b""))

    def _scope(self, request: handshake.Request) -> Scope:
        path, _, query = request.target.partition(b"?")
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(self._transport) else "ws",
            "server": get_local_addr(self._transport),
            "client": get_remote_addr(self._transport),
            "root_path": self._config.root_path,
            "path": self._config.root_path + unquote(path.decode("latin-1")),
            "raw_path": self._config.root_path.encode() + path,
            "query_string": query,
            "headers": request.headers,
            "subprotocols": request.subprotocols,
            "state": self._app_state.copy(),
            "extensions": {EXTENSION: self._link, "websocket.http.response": {}},
        }
