"""OpenAPI documents of made-up endpoints, and that those of the real ones hold together."""

import re
from typing import Annotated, Any

import msgspec
import pytest
from starlette.responses import Response

from gateway.access import PUBLIC, Access, Scope
from gateway.endpoint import Call, Endpoint, NoBody, Parameters, RawBody, Reading
from gateway.openapi.document import document, encoded_document, operation_ids
from gateway.openapi.examples import example_of
from gateway.openapi.page import curl, page
from gateway.services import ENDPOINTS
from schemas.rejections import RejectionCode


class Nap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """minutes: how long."""

    minutes: Annotated[int, msgspec.Meta(ge=1, examples=[20])]


class ByCat(Reading, frozen=True, kw_only=True):
    """limit: how many at most."""

    cat_id: Annotated[str, msgspec.Meta(pattern="^[a-z]+$", examples=["tom"])]
    limit: Annotated[int, msgspec.Meta(ge=1, le=9)] = 3


async def begin_nap(call: Call[ByCat, Nap]) -> Nap:
    """Starts a nap."""
    return call.body


async def get_cats(call: Call[Parameters, NoBody]) -> Response:
    return Response()


NAP = Endpoint(
    method="POST",
    path="/v1/cats/{cat_id}/naps",
    handle=begin_nap,
    summary="Begin a nap",
    access=Access(Scope.TRADE, Scope.TRADE_OTHERS),
    parameters=ByCat,
    body=Nap,
    answer=Nap,
    status=201,
    is_command=True,
    refuses=(RejectionCode.ACCOUNT_FROZEN,),
)
CATS = Endpoint(
    method="GET",
    path="/v1/cats",
    handle=get_cats,
    summary="All cats",
    access=PUBLIC,
    media_type="text/plain",
)


def nap() -> dict[str, Any]:
    found: dict[str, Any] = document("cats", [NAP, CATS])["paths"]["/v1/cats/{cat_id}/naps"]["post"]
    return found


def test_an_operation_says_what_it_takes() -> None:
    parameters = {found["name"]: found for found in nap()["parameters"]}
    assert list(parameters) == ["cat_id", "min_position", "limit", "Idempotency-Key"]
    assert parameters["cat_id"]["in"] == "path"
    assert parameters["cat_id"]["required"]
    assert parameters["limit"]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 9,
        "default": 3,
    }
    assert parameters["limit"]["description"] == "How many at most."
    assert parameters["Idempotency-Key"]["in"] == "header"
    body = nap()["requestBody"]
    assert body["content"]["application/json"] == {
        "schema": {"$ref": "#/components/schemas/Nap"},
        "example": {"minutes": 20},
    }


def test_an_operation_says_what_it_answers_and_refuses() -> None:
    answers = nap()["responses"]
    assert list(answers) == sorted(answers)
    assert "content" in answers["201"]
    refused = answers["422"]["content"]["application/problem+json"]["schema"]["allOf"][1]
    assert refused["properties"]["code"]["enum"] == ["idempotency_key_reused", "account_frozen"]
    assert answers["413"] == {"$ref": "#/components/responses/PayloadTooLarge"}
    assert "retry-after" in answers["503"]["headers"]


def test_an_operation_says_who_may() -> None:
    assert nap()["security"] == [{"bearer": ["trade"]}]
    assert nap()["x-roles"] == {
        "own": ["user", "operator", "admin"],
        "others": ["operator", "admin"],
    }
    public = document("cats", [CATS])["paths"]["/v1/cats"]["get"]
    assert public["security"] == []
    assert "401" not in public["responses"]


def test_operations_of_one_handler_are_named_by_their_paths() -> None:
    other = msgspec.structs.replace(CATS, path="/v1/dogs")
    assert operation_ids([NAP, CATS, other]) == ["beginNap", "getV1Cats", "getV1Dogs"]


def test_a_body_that_is_no_json_is_described_by_its_type() -> None:
    sheet = msgspec.structs.replace(NAP, body=RawBody, body_media_type="text/csv")
    found = document("cats", [sheet])["paths"][NAP.path]["post"]["requestBody"]["content"]
    assert found == {"text/csv": {"schema": {"type": "string", "maxLength": 65536}}}


def test_the_page_shows_a_command_line() -> None:
    line = curl("POST", NAP.path, nap())
    assert '"$URL/v1/cats/tom/naps"' in line
    assert "-d '{\"minutes\": 20}'" in line
    assert "begin_nap" not in page(document("cats", [NAP, CATS]))


@pytest.mark.parametrize("service", ENDPOINTS)
def test_references_and_links_lead_somewhere(service: str) -> None:
    endpoints = ENDPOINTS[service]  # type: ignore[index]  # its own keys
    told = document(service, endpoints)
    for target in set(
        re.findall(r'"\$ref": ?"#/([^"]+)"', encoded_document(service, endpoints).decode())
    ):
        found = told
        for part in target.split("/"):
            found = found[part]
    shown = page(told)
    assert set(re.findall(r'href="#([^"]+)"', shown)) <= set(re.findall(r'id="([^"]+)"', shown))
    assert "<script" not in shown
    for endpoint in endpoints:
        assert f"<code>{endpoint.path}</code>" in shown


@pytest.mark.parametrize("service", ENDPOINTS)
def test_every_operation_is_described_and_its_examples_are_taken(service: str) -> None:
    endpoints = ENDPOINTS[service]  # type: ignore[index]  # its own keys
    told = document(service, endpoints)
    for endpoint in endpoints:
        where = f"{endpoint.method} {endpoint.path}"
        assert endpoint.summary, where
        operation = told["paths"][endpoint.path][endpoint.method.lower()]
        if endpoint.body not in (None, RawBody):
            assert endpoint.body is not None
            example = operation["requestBody"]["content"]["application/json"]["example"]
            msgspec.convert(example, endpoint.body)
        given = {
            parameter["name"]: parameter["example"]
            for parameter in operation.get("parameters", ())
            if parameter["required"]
        }
        msgspec.convert(given, endpoint.parameters)


def test_examples_fit_their_schemas() -> None:
    assert example_of("side", {"enum": ["sell", "buy"]}) == "buy"
    assert example_of("x", {"type": "integer", "minimum": 5}) == 5
    assert example_of("x", {"anyOf": [{"type": "null"}]}) is None
    assert example_of("x", {"type": "array", "minItems": 1, "items": {"type": "string"}}) == [
        "example-1"
    ]
