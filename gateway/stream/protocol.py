"""A WebSocket of uvicorn (its `ws=`) that an application can take out of ASGI: detach().

Until then it is an ASGI connection like any other. Afterwards no task and no timer belong to it:
what comes are calls of an Endpoint, what goes are ready frames for the transport.
A close, whoever began it, is over within CLOSE_SECONDS_MAX: then the transport is aborted.
"""

import asyncio
from typing import Any, Protocol, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.stream import frames
from gateway.stream.asgi_socket import AsgiSocket

# uvicorn ends the process' connections; the stream tells its own why beforehand.
SERVICE_RESTART = 1012
ABNORMAL = 1006

WRITE_HIGH_BYTES = 16 * 1024
WRITE_LOW_BYTES = 4 * 1024
CLOSE_SECONDS_MAX = 5.0
# What a peer may still have had under way when we closed; beyond it, its own Close is not sought.
LATE_BYTES_MAX = 64 * 1024
LATE_EVENTS_MAX = 100

_PING = frames.frame(frames.PING, b"")


class Endpoint(Protocol):
    """Who a detached connection belongs to. None of these may raise or wait."""

    def received(self, message: str | bytes) -> None:
        """A whole message, text as str. None come once either side has begun to close."""

    def controlled(self) -> None:
        """A ping or pong came; pings are answered already."""

    def writable(self) -> None:
        """More than WRITE_HIGH_BYTES were buffered and now less than WRITE_LOW_BYTES are."""

    def ended(self, code: int) -> None:
        """Once, when the connection is gone. code: the first Close's, peer's or ours; or 1006."""


class _Nobody:
    """The Endpoint of a connection that is gone; nothing happens to it any more."""

    def received(self, message: str | bytes) -> None: ...
    def controlled(self) -> None: ...
    def writable(self) -> None: ...
    def ended(self, code: int) -> None: ...


_NOBODY = _Nobody()


class StreamProtocol(asyncio.Protocol):
    """heard: set by anything that comes; its owner resets it.

    is_closing: either side has begun to close, or the transport is gone.
    """

    __slots__ = (
        "_asgi",
        "_close_code",
        "_connections",
        "_deadline",
        "_endpoint",
        "_first",
        "_late_bytes",
        "_parser",
        "_transport",
        "heard",
        "is_closing",
    )

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        self.heard = True
        self.is_closing = False
        self._asgi: AsgiSocket | None = AsgiSocket(self, config, server_state, app_state)
        self._endpoint: Endpoint = self._asgi
        self._connections = cast(set[StreamProtocol], server_state.connections)
        self._parser = frames.FrameParser(config.ws_max_size)
        self._transport: asyncio.Transport
        self._close_code = ABNORMAL
        self._late_bytes = 0
        self._first = b""
        self._deadline: asyncio.TimerHandle | None = None

    # -- the owner's side ---------------------------------------------------------------------

    def detach(self, endpoint: Endpoint) -> None:
        """Take an accepted connection out of ASGI; the application returns soon.

        Messages that came before are received within this call, and so is an end.
        """
        asgi, self._asgi = self._asgi, None
        if asgi is None:
            assert self.is_closing, "detach once"
            endpoint.ended(self._close_code)
            return
        assert asgi.is_accepted, "accept first"
        self._endpoint = endpoint
        for message in asgi.release():
            if not self.is_closing:
                endpoint.received(message)

    def write(self, ready: bytes) -> None:
        """Frames, whole ones. Nothing happens once is_closing."""
        if not self.is_closing:
            if self._first:
                ready, self._first = self._first + ready, b""
            self._transport.write(ready)

    def write_first(self, ready: bytes) -> None:
        """What goes with the next write, or by itself when this turn of the loop is over: the
        answer to the handshake, which is one segment with a greeting that way.
        """
        self._first = ready
        asyncio.get_running_loop().call_soon(self._write_first)

    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet; 0 when the transport is gone."""
        return self._transport.get_write_buffer_size()

    def ping(self) -> None:
        self.write(_PING)

    def close(self, code: int, reason: str = "") -> None:
        """Send a Close and await the peer's. reason: at most 123 bytes."""
        if not self.is_closing:
            self.write(frames.close_frame(code, reason))
            self._begin_to_close(code)

    def abort(self) -> None:
        """Gone at once, with what is buffered."""
        self.is_closing = True
        self._transport.abort()

    # -- the transport's side -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._transport.set_write_buffer_limits(WRITE_HIGH_BYTES, WRITE_LOW_BYTES)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        if self._asgi is not None and self._asgi.is_new:
            self._asgi.begin(data, self._transport)
            return
        if self.is_closing:
            # Who floods is not parsed until the deadline.
            self._late_bytes += len(data)
            if self._late_bytes > LATE_BYTES_MAX:
                return
        late = 0
        for event in self._parser.feed(data):
            if self.is_closing:
                late += 1
                if late > LATE_EVENTS_MAX:
                    self._parser.stop()
                    return
            if not isinstance(event, str | bytes):
                self._control(event)
            elif not self.is_closing:
                self._endpoint.received(event)

    def eof_received(self) -> bool | None:
        # None: the transport closes itself, once everything has been sent.
        self._begin_to_close(self._close_code)
        return None

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        self._endpoint.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closing = True
        self._connections.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        # Those refer to it as well, and would keep each other until the next full collection.
        endpoint, self._endpoint, self._asgi = self._endpoint, _NOBODY, None
        endpoint.ended(self._close_code)

    def shutdown(self) -> None:
        """uvicorn stops serving."""
        if self._asgi is not None and not self._asgi.is_accepted:
            self._asgi.give_up()
            return
        self.close(SERVICE_RESTART)
        self._hang_up()

    def _write_first(self) -> None:
        if self._first:
            self.write(b"")

    # -- closing ------------------------------------------------------------------------------

    def finish(self, last: bytes) -> None:
        """Send what ends the connection, and no more is written or read."""
        if not self.is_closing:
            self._transport.write(last)
            self._begin_to_close(ABNORMAL)
        self._hang_up()

    def _control(self, event: frames.Ping | frames.Pong | frames.Close | frames.Fault) -> None:
        match event:
            case frames.Ping():
                # A peer that does not read has no use for more pongs.
                if self.buffered() < WRITE_HIGH_BYTES:
                    self.write(frames.frame(frames.PONG, event.payload))
                self._told()
            case frames.Pong():
                self._told()
            case frames.Close():
                self.close(event.code)
                self._transport.close()
            case frames.Fault():
                self.close(event.code, event.reason)
                self._hang_up()

    def _told(self) -> None:
        if not self.is_closing:
            self._endpoint.controlled()

    def _begin_to_close(self, code: int) -> None:
        if self.is_closing:
            return
        self.is_closing = True
        self._close_code = code
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(CLOSE_SECONDS_MAX, self._transport.abort)

    def _hang_up(self) -> None:
        # Closing while the peer still sends would reset the connection, and our last words with it.
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()
