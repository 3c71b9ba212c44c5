"""Headers that every answer has, and those by which pages of other hosts may read answers."""

from collections.abc import Collection, Sequence
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Pairs = Sequence[tuple[bytes, bytes]]

# Nothing that we answer is a page that may be framed, run scripts or be taken for something else;
# a page of documents says for itself what it needs.
SECURITY: Final[Pairs] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"accelerometer=(), camera=(), geolocation=(), microphone=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
# Only where the answer says nothing else.
DEFAULTS: Final[Pairs] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_DEFAULT_NAMES: Final = frozenset(name for name, _ in DEFAULTS)
_PLAIN: Final = (*SECURITY, *DEFAULTS)

CORS_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
CORS_REQUEST_HEADERS: Final = ("authorization", "idempotency-key", "x-request-id", "traceparent")
CORS_ANSWER_HEADERS: Final = (
    *("x-request-id", "idempotency-replayed", "retry-after"),
    *("ratelimit", "ratelimit-policy", "location"),
)
CORS_SECONDS: Final = 600


def secured(headers: Pairs) -> Pairs:
    """What an answer with these headers is to have besides."""
    said = {name for name, _ in headers if name in _DEFAULT_NAMES}
    if not said:
        return _PLAIN
    return (*SECURITY, *((name, text) for name, text in DEFAULTS if name not in said))


class Secured:
    """An app whose HTTP answers have these headers; what else it speaks is not touched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                message["headers"] = [*headers, *secured(headers)]
            await send(message)

        await self._app(scope, receive, send_secured)


def shared_with(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """The app, for pages of these origins too: "https://host[:port]", or "*" for all.

    No cookie is ever looked at, so pages need no credentials; they send their token themselves.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=tuple(origins),
        allow_methods=CORS_METHODS,
        allow_headers=CORS_REQUEST_HEADERS,
        expose_headers=CORS_ANSWER_HEADERS,
        max_age=CORS_SECONDS,
    )
