"""Which codes, and so which statuses, an endpoint may refuse with: those of its kind and its own.

A code that an endpoint can give and that is missing here is a mistake: the fuzzer finds it.
"""

from collections.abc import Iterator
from typing import Final

from gateway.endpoint import Endpoint, Reading
from gateway.errors import status_of
from schemas.rejections import RejectionCode
from schemas.wire import WireCode

# Of every command: it waits for its turn, may be tried again, and may find nobody to do it.
_COMMAND: Final = (
    WireCode.INVALID_IDEMPOTENCY_KEY,
    RejectionCode.IDEMPOTENCY_KEY_REUSED,
    RejectionCode.OVERLOADED,
    RejectionCode.LEDGER_NOT_OPEN,
    WireCode.ENGINE_UNAVAILABLE,
)
_BODY: Final = (WireCode.PAYLOAD_TOO_LARGE, WireCode.UNSUPPORTED_MEDIA_TYPE)
_VIEWS: Final = (WireCode.VIEWS_UNAVAILABLE, WireCode.HISTORY_UNAVAILABLE)


def codes_of(endpoint: Endpoint) -> dict[int, tuple[str, ...]]:
    """The codes by HTTP status, lowest status first."""
    found: dict[int, dict[str, None]] = {}
    for code in (*_of_kind(endpoint), *endpoint.refuses):
        found.setdefault(int(status_of(code)), {})[str(code)] = None
    return {status: tuple(found[status]) for status in sorted(found)}


def _of_kind(endpoint: Endpoint) -> Iterator[str]:
    # There is always a query, and what is not asked for is refused in it.
    yield WireCode.INVALID_REQUEST
    if endpoint.access.own is not None:
        yield from (WireCode.UNAUTHORIZED, WireCode.FORBIDDEN)
    if "{" in endpoint.path:
        # A slash in what stands for a parameter makes it another path.
        yield WireCode.NOT_FOUND
    if endpoint.body is not None:
        yield from _BODY
    if endpoint.is_command:
        yield from _COMMAND
    if endpoint.path.startswith("/v1"):
        yield WireCode.TOO_MANY_REQUESTS
        yield from _VIEWS
    if issubclass(endpoint.parameters, Reading):
        yield WireCode.VIEWS_BEHIND
    yield WireCode.INTERNAL_ERROR
