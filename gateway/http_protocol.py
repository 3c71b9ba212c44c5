"""uvicorn's HTTP protocol with limits to a request: how long its head may be, and how long head
and body may take.

Without them one client can have any amount of header lines held for it, or keep a connection for
ever with half a request. A WebSocket's handshake is such a request, too. How many bytes a body may
have is the endpoint's to say.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import PROBLEM_TYPE
from gateway.stream.handshake import denying
from schemas.wire import Problem, WireCode

HEAD_BYTES_MAX = 32 * 1024
HEAD_SECONDS_MAX = 10.0
BODY_SECONDS_MAX = 10.0
# So much of a body makes its time a second longer: a large one takes as long as a slow line needs,
# and no longer.
BODY_BYTES_PER_SECOND = 16 * 1024

_PROBLEM = [(b"content-type", PROBLEM_TYPE.encode())]
_DETAILS = {
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: f"A request's head has at most {HEAD_BYTES_MAX}"
    " bytes.",
    HTTPStatus.REQUEST_TIMEOUT: "The request took too long to come.",
}


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's `http`. Whoever passes a limit is answered 431 or 408, and no more; whoever speaks
    no HTTP, 400.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._is_in_head = True
        self._head_bytes = 0
        self._body_bytes = 0
        self._body_began = 0.0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await(HEAD_SECONDS_MAX, self._refuse_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            # Of what follows a head in the same segment, too much is counted: at most one read.
            self._head_bytes += len(data)
            if self._deadline is None:
                self._await(HEAD_SECONDS_MAX, self._refuse_late)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif not self._is_in_head:
            self._body_bytes += len(data)
            if self._deadline is None:
                self._await(BODY_SECONDS_MAX, self._look_at_body)

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST)

    def on_header(self, name: bytes, value: bytes) -> None:
        # After a body, they are trailers: nobody reads them, and any number may come.
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._body_began, self._body_bytes = self.loop.time(), 0
        self._forget_deadline()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_head, self._head_bytes = True, 0
        self._forget_deadline()
        super().on_message_complete()

    def _await(self, seconds: float, then: Callable[[], None]) -> None:
        self._deadline = self.loop.call_later(seconds, then)

    def _refuse_late(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _look_at_body(self) -> None:
        late = self.loop.time() - self._body_began - BODY_SECONDS_MAX
        allowed = self._body_bytes / BODY_BYTES_PER_SECOND
        if late >= allowed:
            self._refuse_late()
        else:
            self._await(allowed - late, self._look_at_body)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: HTTPStatus) -> None:
        self._forget_deadline()
        if self.transport.is_closing():
            return
        # Within another answer, which may be under way for a request before this one, say nothing.
        # A request of which the body is late has no answer yet; its route learns that nobody waits.
        if self._is_in_head and self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()
            return
        if self._is_in_head or not self.cycle.response_started:
            self.transport.write(denying(status, _PROBLEM, _problem(status)))
        self.transport.close()


def _problem(status: HTTPStatus) -> bytes:
    problem = Problem(
        title=status.phrase,
        status=status,
        code=WireCode.INVALID_REQUEST,
        detail=_DETAILS.get(status, "This is no HTTP that we understand."),
    )
    return msgspec.json.encode(problem)
