"""A service's OpenAPI 3.1 document, generated from its endpoints and the structs they speak in.

Source: https://spec.openapis.org/oas/v3.1.0
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from gateway.access import MEANINGS, Scope
from gateway.endpoint import Endpoint, RawBody
from gateway.openapi.operations import Schemas, operation, problem, response_name, tag
from gateway.openapi.shapes import Node, schemas_of
from gateway.openapi.statuses import codes_of
from schemas.wire import Problem

VERSION: Final = "1.0.0"
ABOUT: Final[dict[str, str]] = {
    "auth": "Accounts: registration, signing in, tokens, sessions, second factor, passwords.",
    "contribution": "What users contribute, which is their share of what is mined.",
    "mining": "The pool, what each user mined in which second or minute, and settling it.",
    "trading": "Orders, balances, deposits and withdrawals; markets, prices and burns.",
    "admin": "For those who run it: users, markets, emission, approvals, records, jobs, health.",
}
_COMMON_WORDS: Final = """\
Amounts are decimal strings in whole units, times Unix milliseconds, `*_second` a Unix second; \
integers that can pass 2^53 are decimal strings.

Whatever is refused is answered with a problem (RFC 9457): switch on its `code`, show its `detail`.

A list is `{"items", "next_cursor"}`: pass `next_cursor` as `cursor` for what follows, until it is \
null. Every command takes an `Idempotency-Key`. `min_position` of a read makes it wait until it \
shows what a command's answer, with that `position`, did."""
_TEXT: Final = {"type": "string"}


def document(service: str, endpoints: Sequence[Endpoint]) -> Node:
    """The whole document, ready to be encoded as JSON."""
    schemas = _schemas(endpoints)
    used = [parameters for parameters in {endpoint.parameters for endpoint in endpoints}]
    hidden = {schemas.reference(shape)["$ref"].rpartition("/")[2] for shape in used}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Durian {service}",
            "version": VERSION,
            "description": f"{ABOUT.get(service, '')}\n\n{_COMMON_WORDS}".strip(),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "Where this document came from."}],
        "tags": [{"name": name} for name in sorted({tag(endpoint) for endpoint in endpoints})],
        "paths": _paths(endpoints, schemas),
        "components": {
            "schemas": {
                name: schema for name, schema in schemas.named.items() if name not in hidden
            },
            "responses": _lone_problems(endpoints),
            "headers": _HEADERS,
            "securitySchemes": {"bearer": _bearer()},
        },
    }


def encoded_document(service: str, endpoints: Sequence[Endpoint]) -> bytes:
    encoded = msgspec.json.encode(document(service, endpoints))
    return msgspec.json.format(encoded, indent=2) + b"\n"


_HEADERS: Final[Node] = {
    "RequestId": {
        "description": "The request's correlation id: yours if you sent one.",
        "schema": _TEXT,
    },
    "Replayed": {
        "description": "`true` if this is the first answer to the same request, given once more.",
        "schema": _TEXT,
    },
    "RetryAfter": {"description": "Seconds to wait before trying again.", "schema": _TEXT},
}


def _bearer() -> Node:
    scopes = "\n".join(f"- `{scope}`: {MEANINGS[scope]}" for scope in Scope)
    return {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": f"An access token of POST /v1/login. It carries scopes:\n\n{scopes}",
    }


def _schemas(endpoints: Sequence[Endpoint]) -> Schemas:
    shapes = list(dict.fromkeys(_shapes(endpoints)))
    found, named = schemas_of(shapes)
    return Schemas(dict(zip(shapes, found, strict=True)), named)


def _shapes(endpoints: Sequence[Endpoint]) -> Iterator[Any]:
    yield Problem
    for endpoint in endpoints:
        yield endpoint.parameters
        if endpoint.body not in (None, RawBody):
            yield endpoint.body
        if endpoint.answer is not None:
            yield endpoint.answer
        yield from endpoint.other_answers.values()


def _paths(endpoints: Sequence[Endpoint], schemas: Schemas) -> Node:
    names = operation_ids(endpoints)
    found: Node = {}
    for endpoint, name in zip(endpoints, names, strict=True):
        at_path = found.setdefault(endpoint.path, {})
        assert endpoint.method.lower() not in at_path, f"{endpoint.path} is there twice"
        at_path[endpoint.method.lower()] = operation(endpoint, schemas, operation_id=name)
    return found


def _lone_problems(endpoints: Sequence[Endpoint]) -> Node:
    """Answers of a status that has a single code at some endpoint."""
    lone = {
        (status, codes)
        for endpoint in endpoints
        for status, codes in codes_of(endpoint).items()
        if len(codes) == 1
    }
    return {response_name(codes[0]): problem(status, codes) for status, codes in sorted(lone)}


def operation_ids(endpoints: Sequence[Endpoint]) -> list[str]:
    """In order: the handler's name, or method and path where handlers share one."""
    names = [_spoken(getattr(endpoint.handle, "__name__", "")) for endpoint in endpoints]
    shared = {name for name, count in Counter(names).items() if count > 1 or not name}
    return [
        _spoken(f"{endpoint.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', endpoint.path)}")
        if name in shared
        else name
        for endpoint, name in zip(endpoints, names, strict=True)
    ]


def _spoken(snake: str) -> str:
    first, *rest = [word for word in snake.split("_") if word] or [""]
    return first + "".join(word.capitalize() for word in rest)
