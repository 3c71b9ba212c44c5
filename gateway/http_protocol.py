"""uvicorn's HTTP protocol with limits to a request's head: how long it may be, and may take.

Without them one client can have any amount of header lines held for it, or keep a connection for
ever with half a request. A WebSocket's handshake is such a request, too.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.stream.handshake import denying

HEAD_BYTES_MAX = 32 * 1024
HEAD_SECONDS_MAX = 10.0


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's `http`. Whoever passes a limit is answered 431 or 408, and no more."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._is_in_head = True
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            # Of what follows a head in the same segment, too much is counted: at most one read.
            self._head_bytes += len(data)
            if self._deadline is None:
                self._await_head()
        super().data_received(data)
        if self._is_in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_header(self, name: bytes, value: bytes) -> None:
        # After a body, they are trailers: nobody reads them, and any number may come.
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._forget_deadline()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def _await_head(self) -> None:
        timeout = HTTPStatus.REQUEST_TIMEOUT
        self._deadline = self.loop.call_later(HEAD_SECONDS_MAX, self._refuse, timeout)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: HTTPStatus) -> None:
        self._forget_deadline()
        if self.transport.is_closing():
            return
        # Within another answer, which may be under way for a request before this one, say nothing.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(denying(status, [], b""))
        self.transport.close()
