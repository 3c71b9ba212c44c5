"""Who may do what: each endpoint by each role, about oneself and about others, over real HTTP.

The table is written by hand; what is derived from the endpoints must be the same.
"""

import asyncio
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx
import msgspec
import pytest

from gateway.access import ROLES, Role
from gateway.endpoint import Endpoint, RawBody
from gateway.openapi.document import document
from gateway.openapi.permissions import names_user, permissions
from gateway.services import ENDPOINTS, HTTP_SERVICES, HttpService
from schemas.commands import PlaceOrder
from tests.contract.permission_table import TABLE
from tests.fixtures._gateway_line import Line, running_line
from tests.fixtures.service_databases import ServiceDatabases

SELF, SOMEBODY = "self", "somebody"
SHEET = b"user_id,grant_id,source,weight,expires\n"
AUTH_CODES = {"unauthorized", "forbidden"}

Caller = Role | Literal["nobody"]
LETTERS: dict[str, Role] = {"u": "user", "a": "auditor", "o": "operator", "A": "admin"}


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of the matrix, and whether it is allowed."""

    service: HttpService
    endpoint: Endpoint
    caller: Caller
    about: str
    is_allowed: bool

    def __str__(self) -> str:
        return f"{self.caller} about {self.about}: {self.endpoint.method} {self.endpoint.path}"


def test_what_is_derived_is_what_was_meant() -> None:
    derived = {
        f"{found.method} {found.service} {found.path}": (
            _letters(found.own),
            _letters(found.others),
        )
        for found in permissions(ENDPOINTS)
    }
    meant = {
        f"{method} {service} {path}": (own, others)
        for service, rows in TABLE.items()
        for method, path, own, others in rows
    }
    assert derived == meant


def _letters(roles: frozenset[Role] | None) -> str:
    if roles is None:
        return "all"
    return "".join(letter for letter, role in LETTERS.items() if role in roles) or "-"


def cells(service: HttpService) -> Iterator[Try]:
    for endpoint, row in zip(
        ENDPOINTS[service], permissions({service: ENDPOINTS[service]}), strict=True
    ):
        callers: tuple[Caller, ...] = ("nobody", *ROLES)
        subjects = (SELF, SOMEBODY) if names_user(endpoint) else (SELF,)
        for caller, about in itertools.product(callers, subjects):
            roles = row.own if about == SELF else row.others
            yield Try(
                service=service,
                endpoint=endpoint,
                caller=caller,
                about=about,
                is_allowed=roles is None or caller in roles,
            )


def test_every_cell_is_tried() -> None:
    for service in HTTP_SERVICES:
        assert len({str(cell) for cell in cells(service)}) >= 5 * len(ENDPOINTS[service])


@pytest.mark.services
@pytest.mark.parametrize("service", HTTP_SERVICES)
def test_every_cell_over_http(
    view_redis: str, service_databases: ServiceDatabases, tmp_path: Path, service: HttpService
) -> None:
    tried = sorted(cells(service), key=lambda cell: cell.is_allowed)
    refused = [cell for cell in tried if not cell.is_allowed]
    allowed = [cell for cell in tried if cell.is_allowed]

    async def story() -> list[str]:
        settings = service_databases.settings()
        async with (
            running_line(view_redis, tmp_path, (service,), **settings) as line,
            httpx.AsyncClient() as http,
        ):
            line.fund(*(f"{SELF}-{role}" for role in ROLES), SOMEBODY)
            _trade(line)
            await line.views.project()
            before = (len(line.engine.log), service_databases.rows())
            wrong = [await _wrong(http, line, cell) for cell in refused]
            after = (len(line.engine.log), service_databases.rows())
            assert after == before, "what was refused has changed something"
            wrong += [await _wrong(http, line, cell) for cell in allowed]
            return [words for words in wrong if words]

    assert asyncio.run(story()) == []


def _trade(line: Line) -> None:
    for user_id, side in ((SOMEBODY, "sell"), (f"{SELF}-user", "buy")):
        line.engine.accept(
            PlaceOrder(
                user_id=user_id,
                client_order_id="first",
                market_id="DUR-CNY",
                side=side,  # type: ignore[arg-type]  # literals above
                order_type="limit",
                price_minor=10**8,
                quantity_minor=10**8,
            )
        )


async def _wrong(http: httpx.AsyncClient, line: Line, cell: Try) -> str:
    """What is not as the matrix says, "" if nothing."""
    answer = await http.send(_request(line, cell))
    code = answer.json().get("code") if "problem" in answer.headers["content-type"] else ""
    if not cell.is_allowed:
        expected = (401, "unauthorized") if cell.caller == "nobody" else (403, "forbidden")
        is_right = (answer.status_code, code) == expected
    else:
        # Whether the request makes sense is another matter; who may name another user is looked at
        # after what the request says, so there it has to be well-formed.
        never = (400, 405, 415, 500) if cell.about == SOMEBODY else (405, 415, 500)
        is_right = code not in AUTH_CODES and answer.status_code not in never
    return "" if is_right else f"{cell}: {answer.status_code} {answer.text[:200]}"


@functools.cache
def _paths(service: HttpService) -> dict[str, Any]:
    found: dict[str, Any] = document(service, ENDPOINTS[service])["paths"]
    return found


def _request(line: Line, cell: Try) -> httpx.Request:
    """With the document's examples for all that is required."""
    endpoint = cell.endpoint
    who = f"{SELF}-{cell.caller}"
    user_id = who if cell.about == SELF else SOMEBODY
    operation = _paths(cell.service)[endpoint.path][endpoint.method.lower()]
    given = {
        parameter["name"]: parameter["example"]
        for parameter in operation.get("parameters", ())
        if parameter["required"]
    }
    path = endpoint.path
    if "user_id" in endpoint.parameters.__struct_fields__:
        given["user_id"] = user_id
    for name in [name for name in given if f"{{{name}}}" in path]:
        path = path.replace(f"{{{name}}}", quote(str(given.pop(name)), safe=""))
    headers = {} if cell.caller == "nobody" else line.bearer(who, cell.caller)
    if endpoint.is_command:
        headers["idempotency-key"] = f"{who}-about-{cell.about}"
    return httpx.Request(
        endpoint.method,
        f"{line.urls[cell.service]}{path}",
        params=given,
        headers={**headers, **_content_type(endpoint)},
        content=_body(endpoint, operation, user_id),
    )


def _content_type(endpoint: Endpoint) -> dict[str, str]:
    return {"content-type": endpoint.body_media_type} if endpoint.body else {}


def _body(endpoint: Endpoint, operation: dict[str, Any], user_id: str) -> bytes | None:
    if endpoint.body is None:
        return None
    if endpoint.body is RawBody:
        return SHEET
    body = operation["requestBody"]["content"]["application/json"]["example"]
    if "user_id" in endpoint.body.__struct_fields__:
        body = {**body, "user_id": user_id}
    return msgspec.json.encode(body)
