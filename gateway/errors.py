"""Faults and refusals of this room, and the one table from code to HTTP status.

GatewayError
├── Refusal              the client gets this code, status and text
├── EngineUnavailable    no answer; outcome says whether the command may have happened
├── EngineMisread        the engine's answer could not be read: a bug on one of the two sides
├── LeaderUnknown        nobody can say which engine leads now
├── ViewsUnavailable     Redis did not answer
└── DatabaseUnavailable  PostgreSQL did not answer; code says what is kept in it
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Literal

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ExceptionHandler

from schemas.rejections import RejectionCode
from schemas.wire import Problem, WireCode

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1
# Of a path that nothing is at: as much of it as helps to see what was meant.
PATH_CHARS_MAX = 200

Outcome = Literal["not_sent", "unknown"]
Details = Mapping[str, str | int]

_STATUS: dict[str, HTTPStatus] = {
    WireCode.INVALID_REQUEST: HTTPStatus.BAD_REQUEST,
    WireCode.INVALID_IDEMPOTENCY_KEY: HTTPStatus.BAD_REQUEST,
    WireCode.PAYLOAD_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    WireCode.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    WireCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    WireCode.ORIGIN_NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    WireCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    WireCode.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    WireCode.ENGINE_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    WireCode.VIEWS_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    WireCode.TOO_MANY_CONNECTIONS: HTTPStatus.SERVICE_UNAVAILABLE,
    WireCode.GOING_AWAY: HTTPStatus.SERVICE_UNAVAILABLE,
    WireCode.TOO_MANY_REQUESTS: HTTPStatus.TOO_MANY_REQUESTS,
    WireCode.UPGRADE_REQUIRED: HTTPStatus.UPGRADE_REQUIRED,
    WireCode.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    # The request's own condition is not met; whoever counts 5xx must not be woken by it.
    WireCode.VIEWS_BEHIND: HTTPStatus.CONFLICT,
    WireCode.HISTORY_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    WireCode.ACCOUNTS_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    WireCode.DESK_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    WireCode.INVALID_CREDENTIALS: HTTPStatus.UNAUTHORIZED,
    WireCode.SIGN_IN_DELAYED: HTTPStatus.TOO_MANY_REQUESTS,
    WireCode.SECOND_FACTOR_REQUIRED: HTTPStatus.UNAUTHORIZED,
    WireCode.SECOND_FACTOR_INVALID: HTTPStatus.UNAUTHORIZED,
    WireCode.REFRESH_TOKEN_INVALID: HTTPStatus.UNAUTHORIZED,
    WireCode.REFRESH_TOKEN_REUSED: HTTPStatus.UNAUTHORIZED,
    WireCode.NAME_TAKEN: HTTPStatus.CONFLICT,
    WireCode.UNKNOWN_USER: HTTPStatus.NOT_FOUND,
    WireCode.UNKNOWN_SESSION: HTTPStatus.NOT_FOUND,
    WireCode.UNKNOWN_WITHDRAWAL: HTTPStatus.NOT_FOUND,
    WireCode.UNKNOWN_APPROVAL: HTTPStatus.NOT_FOUND,
    WireCode.ALREADY_DECIDED: HTTPStatus.CONFLICT,
    WireCode.SAME_PERSON: HTTPStatus.FORBIDDEN,
    WireCode.CHANGE_IN_PROGRESS: HTTPStatus.CONFLICT,
    WireCode.UNKNOWN_JOB: HTTPStatus.NOT_FOUND,
    WireCode.JOB_RUNNING: HTTPStatus.CONFLICT,
    WireCode.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    RejectionCode.OVERLOADED: HTTPStatus.SERVICE_UNAVAILABLE,
    RejectionCode.LEDGER_ALREADY_OPEN: HTTPStatus.CONFLICT,
    RejectionCode.LEDGER_NOT_OPEN: HTTPStatus.SERVICE_UNAVAILABLE,
    RejectionCode.UNKNOWN_ASSET: HTTPStatus.NOT_FOUND,
    RejectionCode.MARKET_ALREADY_OPEN: HTTPStatus.CONFLICT,
    RejectionCode.UNKNOWN_MARKET: HTTPStatus.NOT_FOUND,
    RejectionCode.ACCOUNT_ALREADY_OPEN: HTTPStatus.CONFLICT,
    RejectionCode.UNKNOWN_ACCOUNT: HTTPStatus.NOT_FOUND,
    RejectionCode.DUPLICATE_REFERENCE: HTTPStatus.CONFLICT,
    RejectionCode.DUPLICATE_GRANT: HTTPStatus.CONFLICT,
    RejectionCode.DUPLICATE_CLIENT_ORDER_ID: HTTPStatus.CONFLICT,
    RejectionCode.UNKNOWN_ORDER: HTTPStatus.NOT_FOUND,
    RejectionCode.UNKNOWN_GRANT: HTTPStatus.NOT_FOUND,
}


class GatewayError(Exception):
    """Root of this room's faults."""


class Refusal(GatewayError):
    """Not what the client asked for. detail: for people; details: for programs.

    retry_after: seconds, of the Retry-After header.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        details: Details | None = None,
        *,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.details = dict(details or {})
        self.retry_after = retry_after


class EngineUnavailable(GatewayError):
    """outcome: "not_sent" cannot have happened; "unknown" may have, so look before trying again."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome: Outcome = outcome


class EngineMisread(GatewayError):
    pass


class LeaderUnknown(GatewayError):
    pass


class ViewsUnavailable(GatewayError):
    """Redis did not answer, or the history's readers were not ready."""


class DatabaseUnavailable(GatewayError):
    """code: history_unavailable, accounts_unavailable or desk_unavailable."""

    def __init__(self, code: WireCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code


def status_of(code: str) -> HTTPStatus:
    """The HTTP status of any code; refused commands without a line of their own are 422."""
    return _STATUS.get(code, HTTPStatus.UNPROCESSABLE_ENTITY)


def problem_response(
    code: str,
    detail: str,
    details: Details | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    status = status_of(code)
    problem = Problem(
        title=status.phrase, status=status, code=code, detail=detail, details=dict(details or {})
    )
    sent = dict(headers or {})
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        sent.setdefault("retry-after", str(RETRY_AFTER_SECONDS))
    if status is HTTPStatus.UNAUTHORIZED:
        sent["www-authenticate"] = "Bearer"
    return Response(msgspec.json.encode(problem), status, sent, PROBLEM_TYPE)


def exception_handlers() -> dict[object, ExceptionHandler]:
    """What each service's app does with an exception that leaves a route."""
    return {
        Refusal: _refused,
        EngineUnavailable: _engine_unavailable,
        ViewsUnavailable: _views_unavailable,
        DatabaseUnavailable: _database_unavailable,
        HTTPException: _routing_failed,
        ClientDisconnect: _nobody_waits,
        Exception: _failed,
    }


def _refused(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, Refusal)
    headers = {} if exc.retry_after is None else {"retry-after": str(exc.retry_after)}
    return problem_response(exc.code, exc.detail, exc.details, headers)


def _engine_unavailable(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, EngineUnavailable)
    advice = {
        "not_sent": "The command was not sent; try again.",
        "unknown": "No answer came; the command may have happened. Send it again as it was,"
        " with its Idempotency-Key if it had one.",
    }
    return problem_response(
        WireCode.ENGINE_UNAVAILABLE, advice[exc.outcome], {"outcome": exc.outcome}
    )


def _views_unavailable(request: Request, exc: Exception) -> Response:
    return problem_response(WireCode.VIEWS_UNAVAILABLE, "The views do not answer; try again.")


def _database_unavailable(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, DatabaseUnavailable)
    return problem_response(exc.code, "A database does not answer; try again.")


def _routing_failed(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    code = {
        HTTPStatus.NOT_FOUND: WireCode.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED: WireCode.METHOD_NOT_ALLOWED,
    }.get(HTTPStatus(exc.status_code), WireCode.INVALID_REQUEST)
    headers = exc.headers
    if code == WireCode.METHOD_NOT_ALLOWED:
        headers = {"allow": _allowed(request)}
    asked = f"{request.method} {request.url.path[:PATH_CHARS_MAX]}"
    return problem_response(code, asked, headers=headers)


def _allowed(request: Request) -> str:
    # Of all routes with the path, which Starlette says of one of them only. Where several paths
    # match, the one with the fewest parameters is meant.
    scope = dict(request.scope)
    routes = [route for route in request.app.router.routes if isinstance(route, Route)]
    paths = [route.path for route in routes if route.matches(scope)[0] is not Match.NONE]
    path = min(paths, key=lambda path: path.count("{"))
    methods = {name for route in routes if route.path == path for name in route.methods or ()}
    return ", ".join(sorted(methods))


def _nobody_waits(request: Request, exc: Exception) -> Response:
    # The client left before its request was whole: no fault, and nobody to answer.
    return Response(status_code=HTTPStatus.BAD_REQUEST)


def _failed(request: Request, exc: Exception) -> Response:
    # The server re-raises after this answer, so the traceback reaches the log.
    return problem_response(WireCode.INTERNAL_ERROR, "The gateway failed; this is our fault.")
