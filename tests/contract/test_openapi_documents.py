"""The services' OpenAPI documents against the specification's own JSON Schema, and as served.

Source of openapi/oas-3.1.schema.json: https://spec.openapis.org/oas/3.1/schema/ (Apache-2.0).
"""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest

from gateway.openapi.document import document, encoded_document
from gateway.services import ENDPOINTS, HTTP_SERVICES, HttpService
from tests.fixtures._gateway_line import running_line
from tests.fixtures.service_databases import ServiceDatabases

OFFICIAL = Path(__file__).parent / "openapi/oas-3.1.schema.json"


def complaints(told: Any) -> list[str]:
    official = jsonschema_rs.validator_for(msgspec.json.decode(OFFICIAL.read_bytes()))
    return [str(error) for error in official.iter_errors(told)]


@pytest.mark.parametrize("service", HTTP_SERVICES)
def test_a_document_is_openapi(service: HttpService) -> None:
    assert complaints(document(service, ENDPOINTS[service])) == []


@pytest.mark.parametrize("service", HTTP_SERVICES)
def test_its_schemas_are_json_schema(service: HttpService) -> None:
    told = document(service, ENDPOINTS[service])
    for name, schema in told["components"]["schemas"].items():
        whole = {**schema, "components": told["components"]}
        assert jsonschema_rs.meta.is_valid(whole), name
        jsonschema_rs.Draft202012Validator(whole)


def test_what_is_not_openapi_is_noticed() -> None:
    told = document("mining", ENDPOINTS["mining"])
    told["paths"]["/v1/mining/pool"]["get"]["responses"] = []
    assert complaints(told)


@pytest.mark.services
def test_document_and_page_are_served_and_need_nothing_else(
    view_redis: str, service_databases: ServiceDatabases, tmp_path: Path
) -> None:
    async def story() -> dict[str, tuple[httpx.Response, httpx.Response]]:
        settings = service_databases.settings()
        async with (
            running_line(view_redis, tmp_path, HTTP_SERVICES, **settings) as line,
            httpx.AsyncClient() as http,
        ):
            return {
                service: (
                    await http.get(f"{line.urls[service]}/openapi.json"),
                    await http.get(f"{line.urls[service]}/docs"),
                )
                for service in HTTP_SERVICES
            }

    for service, (told, page) in asyncio.run(story()).items():
        assert told.headers["content-type"] == "application/json"
        assert told.content == encoded_document(service, ENDPOINTS[service])  # type: ignore[index]
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        assert re.fullmatch(r"default-src 'none'; style-src 'sha256-[\w+/=]+'", policy)
        assert not re.search(r'(?:src|href)="(?!#|openapi\.json")', page.text)
