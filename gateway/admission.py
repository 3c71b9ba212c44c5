"""Before a request is routed: who asks, and may they ask so much?

Its token is checked once, here; routes that need a caller ask `principal`. One without a valid
token counts for its address, whatever it asks for and however it is answered.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access import Principal
from gateway.auth import TokenVerifier
from gateway.errors import Refusal, problem_response
from gateway.http_figures import HttpFigures
from gateway.limits import Allowance, Limits
from schemas.wire import WireCode

# Of one service of a process. Each holds its request's body and its place in some queue.
IN_FLIGHT_MAX: Final = 2_000
# Of one caller, so that nobody takes all places by sending bodies that take their time.
IN_FLIGHT_OF_CALLER_MAX: Final = 64
# Probes and scrapes come from inside, and must be answered when all else is refused.
UNLIMITED_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_CALLER: Final = "caller"
_AUTHORIZATION: Final = b"authorization"


def principal(request: Request, tokens: TokenVerifier) -> Principal:
    """Who is asking. Raises Refusal(unauthorized)."""
    found = request.scope["state"].get(_CALLER)
    if found is None:
        return tokens.verify_header(request.headers.get("authorization"))
    if isinstance(found, Refusal):
        raise found
    assert isinstance(found, Principal)
    return found


def known_caller(scope: Scope) -> Principal | None:
    """Whose valid token the request had, if it was looked at."""
    found = scope["state"].get(_CALLER)
    return found if isinstance(found, Principal) else None


def client_address(scope: Scope) -> str:
    """Of the client, or of the proxy if that is not trusted to say; "" over a Unix socket."""
    client: tuple[str, int] | None = scope.get("client")
    return client[0] if client else ""


class Admission:
    """The app of a service for those who may ask."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        service: str,
        tokens: TokenVerifier,
        limits: Limits,
        figures: HttpFigures,
    ) -> None:
        self._app = app
        self._service = service
        self._tokens = tokens
        self._limits = limits
        self._figures = figures
        self._in_flight = 0
        self._of_callers: dict[tuple[str, str], int] = {}
        self._shown = figures.in_flight(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED_PATHS:
            await self._app(scope, receive, send)
            return
        allowance = self._limits.take(self._identified(scope), client_address(scope))
        if allowance is not None:
            scope["state"]["ratelimit"] = self._limits.headers(allowance)
        refusal = self._refusal(allowance)
        if refusal is not None:
            answer = problem_response(
                refusal.code, refusal.detail, headers={"retry-after": str(refusal.retry_after)}
            )
            await answer(scope, receive, send)
            return
        with self._place(allowance):
            await self._app(scope, receive, send)

    def _refusal(self, allowance: Allowance | None) -> Refusal | None:
        if allowance is not None:
            if not allowance.is_granted:
                return self._too_many(allowance, "requests", allowance.retry_seconds)
            if self._of_callers.get(_caller(allowance), 0) >= IN_FLIGHT_OF_CALLER_MAX:
                return self._too_many(allowance, "requests at once", 1)
        if self._in_flight >= IN_FLIGHT_MAX:
            self._figures.limited(self._service, "all")
            return Refusal(
                WireCode.TOO_MANY_CONNECTIONS, "Too many requests are under way.", retry_after=1
            )
        return None

    @contextlib.contextmanager
    def _place(self, allowance: Allowance | None) -> Iterator[None]:
        caller = None if allowance is None else _caller(allowance)
        if caller is not None:
            self._of_callers[caller] = self._of_callers.get(caller, 0) + 1
        self._in_flight += 1
        self._shown.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            self._shown.set(self._in_flight)
            if caller is not None:
                self._of_callers[caller] -= 1
                if not self._of_callers[caller]:
                    del self._of_callers[caller]

    def _identified(self, scope: Scope) -> Principal | None:
        header = _authorization(scope["headers"])
        if header is None:
            return None
        try:
            found = self._tokens.verify_header(header)
        except Refusal as exc:
            scope["state"][_CALLER] = exc
            return None
        scope["state"][_CALLER] = found
        return found

    def _too_many(self, allowance: Allowance, what: str, wait_seconds: int) -> Refusal:
        self._figures.limited(self._service, allowance.kind)
        whose = "address" if allowance.kind == "address" else "account"
        return Refusal(
            WireCode.TOO_MANY_REQUESTS,
            f"Too many {what} from this {whose}; wait {wait_seconds} s.",
            retry_after=wait_seconds,
        )


def _caller(allowance: Allowance) -> tuple[str, str]:
    return allowance.kind, allowance.caller


def _authorization(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == _AUTHORIZATION:
            return value.decode("latin-1")
    return None
