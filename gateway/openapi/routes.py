"""GET /openapi.json, what a service offers for programs, and /docs, the same for people."""

import functools
from collections.abc import Callable, Sequence
from typing import Final

from starlette.responses import Response

from gateway.access import PUBLIC
from gateway.document_html import style_source
from gateway.endpoint import Call, Endpoint, NoBody
from gateway.openapi.document import document, encoded_document
from gateway.openapi.page import page
from gateway.routes_health import ProbeParameters

# Generated pages of other hosts may read the document; there is nothing private in it.
_HEADERS: Final = {"access-control-allow-origin": "*", "cache-control": "public, max-age=300"}


def endpoints(
    service: str, all_of_it: Callable[[], Sequence[Endpoint]]
) -> tuple[Endpoint, Endpoint]:
    """all_of_it: the service's endpoints, these included."""

    @functools.cache
    def encoded() -> bytes:
        return encoded_document(service, all_of_it())

    @functools.cache
    def shown() -> str:
        return page(document(service, all_of_it()))

    async def get_document(call: Call[ProbeParameters, NoBody]) -> Response:
        return Response(encoded(), headers=_HEADERS, media_type="application/json")

    async def get_page(call: Call[ProbeParameters, NoBody]) -> Response:
        policy = f"default-src 'none'; style-src {style_source()}"
        headers = {**_HEADERS, "content-security-policy": policy}
        return Response(shown(), headers=headers, media_type="text/html")

    return (
        Endpoint(
            method="GET",
            path="/openapi.json",
            handle=get_document,
            summary="This service, for programs: OpenAPI 3.1",
            access=PUBLIC,
            parameters=ProbeParameters,
            answer=dict,
        ),
        Endpoint(
            method="GET",
            path="/docs",
            handle=get_page,
            summary="This service, for people",
            access=PUBLIC,
            parameters=ProbeParameters,
            media_type="text/html",
        ),
    )
