"""Correlation ids: every request has one, on its answer, in the log, and with its command.

The client's X-Request-Id is kept if it can be; else the trace id of its traceparent; else a new one
is made. Source of traceparent: W3C Trace Context, section 3.2.
"""

import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from schemas.frames import TRACE_CHARS_MAX

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
REPLAYED = "idempotency-replayed"
TRACE_BYTES = 16

_VISIBLE = re.compile(rf"[!-~]{{1,{TRACE_CHARS_MAX}}}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_NO_TRACE_ID = "0" * 32
_STARTS = {"http.response.start", "websocket.accept", "websocket.http.response.start"}


def trace_of(headers: Headers) -> str:
    """The correlation id of a request with these headers, 1 to 64 visible ASCII characters."""
    asked = headers.get(REQUEST_ID, "")
    if _VISIBLE.fullmatch(asked):
        return asked
    parent = _TRACEPARENT.fullmatch(headers.get(TRACEPARENT, ""))
    if parent is not None and parent[1] != _NO_TRACE_ID:
        return parent[1]
    return secrets.token_hex(TRACE_BYTES)


def trace(request: Request) -> str:
    """The correlation id that this request was given."""
    found: str = request.state.trace
    return found


def mark_replayed(request: Request) -> None:
    """Say in the answer's headers that it is a first answer, given once more."""
    request.state.is_replayed = True


class Correlated:
    """The app of a service, each of its requests under a correlation id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        state = scope.setdefault("state", {})
        state["trace"] = trace_of(Headers(scope=scope))

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] in _STARTS:
                status = message.get("status", 101)
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = state["trace"]
                if state.get("is_replayed"):
                    headers[REPLAYED] = "true"
            await send(message)

        with bound_contextvars(trace=state["trace"]):
            try:
                await self._app(scope, receive, send_marked)
            finally:
                _tell(scope, status, time.perf_counter() - began)


def _tell(scope: Scope, status: int, seconds: float) -> None:
    # Failures are what people ask about by id; a line for every good answer would only fill disks.
    level = logging.WARNING if status >= 500 else logging.DEBUG
    if logger.isEnabledFor(level):
        method = scope.get("method", "websocket")
        milliseconds = seconds * 1_000
        logger.log(level, "%s %s %d, %.1f ms", method, scope["path"], status, milliseconds)
