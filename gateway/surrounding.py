"""What is around every service's app: correlation, limits, headers, figures and the access log.

Plain ASGI, from the outside in: `Surrounding` (what every answer gets, and is told of), CORS,
admission, the app.
"""

import logging
import time
from collections.abc import Callable, Collection
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from gateway.access_log import AccessLog, Line, network_of
from gateway.admission import UNLIMITED_PATHS, Admission, client_address, known_caller
from gateway.headers import secured, shared_with
from gateway.limits import Limits
from gateway.ports import Resources
from gateway.tracing import REPLAYED, REQUEST_ID, trace_of

logger = logging.getLogger(__name__)

# What nginx calls it, too: nobody was there any more to be answered.
CLIENT_LEFT: Final = 499
_REQUEST_ID: Final = REQUEST_ID.encode()
_REPLAYED: Final = (REPLAYED.encode(), b"true")


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What the services of a process share. origins: of pages that may read answers."""

    origins: Collection[str] = ()
    limits: Limits = msgspec.field(default_factory=Limits)
    access_log: AccessLog | None = None


def surrounded(app: Starlette, service: str, resources: Resources, around: Around) -> ASGIApp:
    # A path with a slash too many is another path; a redirect would repeat the client's Host.
    app.router.redirect_slashes = False
    figures = resources.metrics.http
    admission = Admission(
        app, service=service, tokens=resources.tokens, limits=around.limits, figures=figures
    )
    return Surrounding(
        shared_with(admission, around.origins),
        service=service,
        answered=figures.answered,
        access_log=around.access_log,
    )


class _Answer:
    """What became of one request so far."""

    __slots__ = ("began", "bytes", "status")

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.status = 0
        self.bytes = 0


class Surrounding:
    """answered: gateway.http_figures.HttpFigures.answered."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        service: str,
        answered: Callable[..., None],
        access_log: AccessLog | None,
    ) -> None:
        self._app = app
        self._service = service
        self._answered = answered
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        trace = state["trace"] = trace_of(Headers(scope=scope))
        answer = _Answer()

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                headers = message.get("headers", ())
                marks = [(_REQUEST_ID, trace.encode()), *state.get("ratelimit", ())]
                if state.get("is_replayed"):
                    marks.append(_REPLAYED)
                message["headers"] = [*headers, *secured(headers), *marks]
            else:
                answer.bytes += len(message.get("body", b""))
            await send(message)

        with bound_contextvars(trace=trace):
            try:
                await self._app(scope, receive, send_marked)
            finally:
                self._tell(scope, answer)

    def _tell(self, scope: Scope, answer: _Answer) -> None:
        seconds = time.perf_counter() - answer.began
        status = answer.status or CLIENT_LEFT
        route = getattr(scope.get("route"), "path", "")
        method = scope["method"]
        self._answered(
            service=self._service,
            method=method,
            route=route,
            status=status,
            seconds=seconds,
        )
        # Failures are what people ask about by id, with or without an access log.
        if status >= 500:
            logger.warning("%s %s %d, %.1f ms", method, route, status, seconds * 1_000)
        log = self._access_log
        if log is None or scope["path"] in UNLIMITED_PATHS:
            return
        caller = known_caller(scope)
        log.tell(
            Line(
                at=log.timestamp(),
                part=log.part,
                service=self._service,
                method=method,
                route=route,
                status=status,
                ms=round(seconds * 1_000, 2),
                bytes=answer.bytes,
                user=caller.user_id if caller else "",
                role=caller.role if caller else "",
                network=network_of(client_address(scope)),
                trace=scope["state"]["trace"],
                replayed=bool(scope["state"].get("is_replayed")),
            )
        )
