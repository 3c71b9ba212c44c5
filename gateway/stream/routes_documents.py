"""GET /asyncapi.json, what the stream speaks for programs, and /docs, the same for people."""

import functools

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.document_html import style_source
from gateway.stream.document import document, encoded_document
from gateway.stream.document_page import page

# Generated pages of other hosts may read the document; there is nothing private in it.
_HEADERS = {"access-control-allow-origin": "*", "cache-control": "public, max-age=300"}


async def get_document(request: Request) -> Response:
    return Response(_document(), headers=_HEADERS, media_type="application/json")


async def get_page(request: Request) -> Response:
    headers = {**_HEADERS, "content-security-policy": _policy()}
    return Response(_page(), headers=headers, media_type="text/html")


@functools.cache
def _document() -> bytes:
    return encoded_document()


@functools.cache
def _page() -> str:
    return page(document())


@functools.cache
def _policy() -> str:
    # Streams may be opened from the page's console: the first client of docs/protocol.md is.
    return f"default-src 'none'; connect-src ws: wss:; style-src {style_source()}"


ROUTES = (
    Route("/asyncapi.json", get_document, methods=["GET"]),
    Route("/docs", get_page, methods=["GET"]),
)
