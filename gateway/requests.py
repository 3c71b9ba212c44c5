"""Reading requests: bodies into structs, query parameters into values, amounts into minor units.

Every complaint is a Refusal(invalid_request) that names the field; nothing is defaulted silently.
"""

import re
import secrets
import time
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.access import Principal
from gateway.errors import EngineUnavailable, Refusal, problem_response
from gateway.ports import Resources
from gateway.tracing import mark_replayed, trace
from schemas.amounts import AmountError, parse_amount
from schemas.commands import LedgerCommand
from schemas.frames import KEY_CHARS_MAX, OWN_KEY_MARK, Accepted, Refused
from schemas.rejections import Rejection
from schemas.wire import WireCode

BODY_BYTES_MAX = 64 * 1024
ITEMS_DEFAULT = 500
ITEMS_MAX = 1_000
TIME_MS_MAX = 1 << 52
IDEMPOTENCY_HEADER = "idempotency-key"
OWN_KEY_BYTES = 16

T = TypeVar("T", bound=msgspec.Struct)
_KEY = re.compile(rf"(?!{OWN_KEY_MARK})[!-~]{{1,{KEY_CHARS_MAX}}}")
_encode = msgspec.json.Encoder().encode


def resources(request: Request) -> Resources:
    found = request.app.state.resources
    assert isinstance(found, Resources)
    return found


def principal(request: Request) -> Principal:
    """Who is asking. Raises Refusal(unauthorized)."""
    return resources(request).tokens.verify_header(request.headers.get("authorization"))


def answer(content: msgspec.Struct, status: int = 200) -> Response:
    return Response(_encode(content), status, media_type="application/json")


def refused(rejection: Rejection, details: dict[str, str | int]) -> Response:
    """The answer to a refused command; details come from gateway.rejections."""
    words = rejection.code.replace("_", " ")
    return problem_response(rejection.code, f"The ledger refused: {words}.", details)


async def read_body(request: Request, kind: type[T]) -> T:
    """The JSON body. Raises Refusal naming the path of the first field at fault."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > BODY_BYTES_MAX:
            raise Refusal(WireCode.PAYLOAD_TOO_LARGE, f"A body has at most {BODY_BYTES_MAX} bytes.")
    try:
        return msgspec.json.decode(received, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        message = str(exc)
        _, _, path = message.partition(" - at `$")
        field = path.rstrip("`").lstrip(".")
        raise invalid(message, field or None) from exc


def invalid(message: str, field: str | None = None) -> Refusal:
    return Refusal(WireCode.INVALID_REQUEST, message, {"field": field} if field else {})


def idempotency_key(request: Request) -> str:
    """The request's Idempotency-Key, "" without one. Raises Refusal(invalid_idempotency_key)."""
    keys = request.headers.getlist(IDEMPOTENCY_HEADER)
    if not keys:
        return ""
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise Refusal(
            WireCode.INVALID_IDEMPOTENCY_KEY,
            f"An Idempotency-Key is 1 to {KEY_CHARS_MAX} visible ASCII characters, given once, and"
            f" does not begin with {OWN_KEY_MARK}.",
        )
    return keys[0]


async def submit(request: Request, command: LedgerCommand) -> Accepted | Refused:
    """The engine's answer to a command, which is the first one again for a key known already.

    Raises EngineUnavailable, Refusal(invalid_idempotency_key).
    """
    # A key of our own lets the connection send the command again when an engine is lost.
    key = idempotency_key(request) or OWN_KEY_MARK + secrets.token_hex(OWN_KEY_BYTES)
    found, began = resources(request), time.perf_counter()
    outcome = "failed"
    try:
        reply = await found.engine.submit(command, key=key, trace=trace(request))
        outcome = "repeated" if reply.is_repeat else _outcome_of(reply)
    except EngineUnavailable as exc:
        outcome = exc.outcome
        raise
    finally:
        found.metrics.answered(
            command=str(command.__struct_config__.tag),
            outcome=outcome,
            seconds=time.perf_counter() - began,
        )
    if reply.is_repeat:
        mark_replayed(request)
    return reply


def _outcome_of(reply: Accepted | Refused) -> str:
    return "accepted" if isinstance(reply, Accepted) else str(reply.rejection.code)


def required_key(request: Request, body_key: str | None, field: str) -> str:
    """The client's own id of a command: from the body, or else from Idempotency-Key."""
    key = body_key or idempotency_key(request)
    if not key:
        raise invalid(f"Give {field}, or an Idempotency-Key header.", field)
    return key


def amount(text: str, scale: int, field: str) -> int:
    """Minor units of an amount in a request."""
    try:
        return parse_amount(text, scale)
    except AmountError as exc:
        raise invalid(str(exc), field) from exc


def query_text(request: Request, name: str) -> str:
    text = request.query_params.get(name)
    if not text:
        raise invalid(f"The query parameter {name} is missing.", name)
    return text


def query_int(request: Request, name: str, *, minimum: int, maximum: int) -> int | None:
    """None if the parameter is absent."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise invalid(f"{name} must be a whole number.", name)
    number = int(text)
    if not minimum <= number <= maximum:
        raise invalid(f"{name} must be from {minimum} to {maximum}.", name)
    return number


def query_limit(request: Request, default: int = ITEMS_DEFAULT) -> int:
    return query_int(request, "limit", minimum=1, maximum=ITEMS_MAX) or default


def query_period(request: Request) -> tuple[int | None, int | None]:
    """from (or cursor, which is where the page before ended) and to, Unix milliseconds."""
    from_ms = query_int(request, "from", minimum=0, maximum=TIME_MS_MAX)
    cursor = query_int(request, "cursor", minimum=0, maximum=TIME_MS_MAX)
    to_ms = query_int(request, "to", minimum=0, maximum=TIME_MS_MAX)
    return (from_ms if cursor is None else cursor), to_ms
