"""What an endpoint is: one struct from which its route, its checks, its place in the OpenAPI
document and its row of the permission matrix are made.

A handler gets a Call whose parameters and body were checked against structs already, and returns
the struct to answer with; it refuses by raising Refusal.
"""

import functools
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import inspect as kinds
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import access, admission
from gateway.access import Access, Principal
from gateway.content import NUL, has_nul, require_media_type
from gateway.errors import Refusal
from gateway.idempotency_keys import key_in
from gateway.ports import Resources
from gateway.requests import invalid, resources
from schemas.wire import WireCode

BODY_BYTES_MAX: Final = 64 * 1024
ITEMS_DEFAULT: Final = 100
ITEMS_MAX: Final = 1_000
ID_CHARS_MAX: Final = 128

UserId = Annotated[
    str, msgspec.Meta(min_length=1, max_length=ID_CHARS_MAX, description="An opaque user id.")
]
TimeMs = Annotated[int, msgspec.Meta(ge=0, le=1 << 52, description="Unix milliseconds.")]
Limit = Annotated[
    int, msgspec.Meta(ge=1, le=ITEMS_MAX, description="How many items at most, 100 if not given.")
]
Position = Annotated[
    int,
    msgspec.Meta(
        ge=0,
        le=(1 << 53) - 1,
        description="A position that an answer to a command gave: wait until the views show it.",
    ),
]
_SPELLINGS: Final[Mapping[type[kinds.Type], re.Pattern[str]]] = {
    kinds.IntType: re.compile(r"-?(?:0|[1-9][0-9]{0,18})"),
    kinds.BoolType: re.compile("true|false"),
    kinds.EnumType: re.compile("(?!(?i:null)$).*", re.DOTALL),
    kinds.LiteralType: re.compile("(?!(?i:null)$).*", re.DOTALL),
}
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every endpoint's parameters are: those named in the path, all others in the query."""


class Reading(Parameters, frozen=True, kw_only=True):
    """Parameters of what is read from views."""

    min_position: Position | None = None


class RawBody(msgspec.Struct, frozen=True):
    """For endpoints whose body is not JSON; Endpoint.body_media_type says what it is."""

    content: bytes


class NoBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For endpoints that take none."""


P = TypeVar("P", bound=Parameters)
B = TypeVar("B", bound=msgspec.Struct)


class Call(Generic[P, B]):
    """One request that passed its endpoint's checks."""

    __slots__ = ("_principal", "body", "endpoint", "parameters", "request", "resources")

    def __init__(
        self,
        request: Request,
        endpoint: "Endpoint",
        *,
        principal: Principal | None,
        parameters: P,
        body: B,
    ) -> None:
        self.request = request
        self.endpoint = endpoint
        self.resources: Resources = resources(request)
        self.parameters = parameters
        self.body = body
        self._principal = principal

    @property
    def principal(self) -> Principal:
        """Who is asking; there is nobody at a public endpoint."""
        assert self._principal is not None, "a public endpoint asks who is calling"
        return self._principal

    def subject(self, user_id: str | None) -> str:
        """The user that this is about. Raises Refusal(forbidden), see gateway.access.subject."""
        return access.subject(self.principal, user_id, self.endpoint.access)


Handler = Callable[[Any], Awaitable[msgspec.Struct | Response]]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """path: a Starlette template without convertors, such as /v1/orders/{order_id}.

    parameters: names in the path are required and must be fields. body: None if none is read.
    needs_body: False lets a body be left out, which then is `body()`.
    answer: what a good answer holds; None for one without JSON, of media_type.
    is_command: changes something, so it takes an Idempotency-Key.
    summary: a few words for lists; the handler's docstring says the rest to clients.
    refuses: codes of what it can refuse beside what every endpoint of its kind does (see
    gateway.openapi.statuses); the document names no others.
    other_answers: what answers of other statuses hold, other than problems.
    """

    method: Method
    path: str
    handle: Handler
    summary: str
    access: Access
    parameters: type[Parameters] = Parameters
    body: type[msgspec.Struct] | None = None
    needs_body: bool = True
    answer: Any = None
    status: int = 200
    media_type: str = "application/json"
    is_command: bool = False
    body_media_type: str = "application/json"
    body_bytes_max: int = BODY_BYTES_MAX
    refuses: tuple[str, ...] = ()
    other_answers: Mapping[int, Any] = {}


_encode = msgspec.json.Encoder().encode


def route(endpoint: Endpoint) -> Route:
    async def answer(request: Request) -> Response:
        found = await endpoint.handle(await _call(request, endpoint))
        if isinstance(found, Response):
            return found
        return Response(_encode(found), endpoint.status, media_type=endpoint.media_type)

    return Route(endpoint.path, answer, methods=[endpoint.method], name=endpoint.path)


def routes(endpoints: Sequence[Endpoint]) -> list[Route]:
    """The first that fits is taken, so those with more of their path spelled out come first."""
    return [route(endpoint) for endpoint in sorted(endpoints, key=_placeholders)]


def _placeholders(endpoint: Endpoint) -> list[bool]:
    return [part.startswith("{") for part in endpoint.path.split("/")]


async def _call(request: Request, endpoint: Endpoint) -> Call[Any, Any]:
    # Who is asking comes first: a stranger learns nothing of what would have been wrong.
    principal = None
    if endpoint.access.own is not None:
        principal = admission.principal(request, resources(request).tokens)
        access.require_scope(principal, endpoint.access.own)
    if endpoint.is_command:
        key_in(request.headers)
    parameters = _parameters(request, endpoint.parameters)
    body: msgspec.Struct = NoBody()
    if endpoint.body is not None:
        body = await _body(request, endpoint, endpoint.body)
    return Call(request, endpoint, principal=principal, parameters=parameters, body=body)


def _parameters(request: Request, kind: type[Parameters]) -> Parameters:
    given: dict[str, str] = {}
    for name, text in request.query_params.multi_items():
        if name in given:
            raise invalid(f"{name} is given twice.", name)
        given[name] = text
    for name, text in request.path_params.items():
        if name in given:
            raise invalid(f"{name} is part of the path.", name)
        given[name] = text
    spellings = _spellings(kind)
    for name, text in given.items():
        if name in spellings and not spellings[name].fullmatch(text):
            raise invalid(f"{name} is not written like one.", name)
    for name, text in given.items():
        if NUL in text:
            raise invalid("Text must be without U+0000.", name)
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as exc:
        raise invalid(*_named(str(exc))) from exc


@functools.cache
def _spellings(kind: type[Parameters]) -> Mapping[str, re.Pattern[str]]:
    """How whole numbers, booleans and one of a few words are written, by field name.

    msgspec alone would read 1e2 as a number, FALSE as a boolean, and null as none.
    """
    found = kinds.type_info(kind)
    assert isinstance(found, kinds.StructType)
    return {
        field.encode_name: _SPELLINGS[type(part)]
        for field in found.fields
        for part in _alternatives(field.type)
        if type(part) in _SPELLINGS
    }


def _alternatives(found: kinds.Type) -> Iterator[kinds.Type]:
    match found:
        case kinds.Metadata(type=inner):
            yield from _alternatives(inner)
        case kinds.UnionType(types=parts):
            for part in parts:
                yield from _alternatives(part)
        case _:
            yield found


async def _body(request: Request, endpoint: Endpoint, kind: type[msgspec.Struct]) -> msgspec.Struct:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > endpoint.body_bytes_max:
            raise Refusal(
                WireCode.PAYLOAD_TOO_LARGE, f"A body has at most {endpoint.body_bytes_max} bytes."
            )
    if not received and not endpoint.needs_body:
        return kind()
    if received:
        require_media_type(request.headers, endpoint.body_media_type)
    if kind is RawBody:
        return RawBody(bytes(received))
    if has_nul(received):
        raise invalid("Text must be without U+0000.")
    try:
        return msgspec.json.decode(received, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise invalid(*_named(str(exc))) from exc


def _named(message: str) -> tuple[str, str | None]:
    # msgspec says where: "... - at `$.price`"
    _, _, path = message.partition(" - at `$")
    return message, path.rstrip("`").lstrip(".") or None
