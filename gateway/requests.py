"""What readings of requests share: amounts into minor units, complaints that name the field."""

from starlette.requests import Request

from gateway.errors import Refusal
from gateway.ports import Resources
from schemas.amounts import AmountError, parse_amount
from schemas.wire import WireCode


def resources(request: Request) -> Resources:
    found = request.app.state.resources
    assert isinstance(found, Resources)
    return found


def invalid(message: str, field: str | None = None) -> Refusal:
    """field: the one at fault, as clients call it."""
    return Refusal(WireCode.INVALID_REQUEST, message, {"field": field} if field else {})


def amount(text: str, scale: int, field: str) -> int:
    """Minor units of an amount in a request. Raises Refusal(invalid_request)."""
    try:
        return parse_amount(text, scale)
    except AmountError as exc:
        raise invalid(str(exc), field) from exc
