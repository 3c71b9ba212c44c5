"""ops/nginx/durian.conf: every path of every service reaches that service, and nothing else does.

Which endpoints there are is asked of the services; which service got a request says the service, a
small one of our own in its place.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from gateway.services import ENDPOINTS
from tests.fixtures.nginx_front import PORTS, Front, fronted

pytestmark = pytest.mark.services
INSIDE = {"/healthz", "/readyz", "/metrics"}
DOCUMENTS = {"/docs": "", "/openapi.json": "openapi.json"}
SIGN_IN_AT_ONCE = 20


@contextlib.asynccontextmanager
async def named_services() -> AsyncIterator[dict[str, int]]:
    """Ports by service; each answers its name and the request's first line."""
    async with contextlib.AsyncExitStack() as stack:
        ports = {}
        for name in PORTS:
            server = await asyncio.start_server(answering(name), "127.0.0.1", 0)
            await stack.enter_async_context(server)
            ports[name] = server.sockets[0].getsockname()[1]
        yield ports


def answering(
    name: str,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        await reader.readexactly(int(length[1]) if length else 0)
        body = f"{name} {head.split(b' HTTP/', 1)[0].decode()}".encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/plain\r\n"
            b"x-content-type-options: nosniff\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        writer.write(body)
        writer.close()

    return answer


def run(
    nginx: str,
    certificate: Path,
    directory: Path,
    story: Callable[[httpx.AsyncClient, Front], Awaitable[None]],
    **changes: str,
) -> None:
    async def told() -> None:
        async with named_services() as ports:
            with fronted(nginx, certificate, directory, ports, **changes) as front:
                async with httpx.AsyncClient(verify=front.trust, base_url=front.https) as client:
                    await story(client, front)

    asyncio.run(told())


PLENTY = {
    "rate=50r/s": "rate=9999r/s",
    "rate=2r/s": "rate=9999r/s",
    "burst=20 ": "burst=9999 ",
    "burst=100 ": "burst=9999 ",
}


def test_every_endpoint_is_reached(nginx: str, certificate: Path, tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, front: Front) -> None:
        for service, endpoints in ENDPOINTS.items():
            for endpoint in endpoints:
                if endpoint.path in INSIDE or endpoint.path in DOCUMENTS:
                    continue
                path = re.sub(r"\{\w+\}", "a%2Fb", endpoint.path)
                answer = await client.request(endpoint.method, f"{path}?x=%20y")
                assert answer.text == f"{service} {endpoint.method} {path}?x=%20y"

    run(nginx, certificate, tmp_path, story, **PLENTY)


def test_each_service_has_its_documents(nginx: str, certificate: Path, tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, front: Front) -> None:
        for service in ENDPOINTS:
            for path, name in DOCUMENTS.items():
                answer = await client.get(f"/docs/{service}/{name}")
                assert answer.text == f"{service} GET {path}"
            moved = await client.get(f"/docs/{service}")
            assert (moved.status_code, moved.headers["location"]) == (308, f"/docs/{service}/")

    run(nginx, certificate, tmp_path, story, **PLENTY)


def test_what_is_inside_stays_inside(nginx: str, certificate: Path, tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, front: Front) -> None:
        for path in (
            *INSIDE,
            "/",
            "/openapi.json",
            "/docs/nothing/",
            "/docs/trading/../../metrics",
        ):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["x-content-type-options"] == "nosniff"

    run(nginx, certificate, tmp_path, story)


def test_what_nginx_refuses_is_a_problem(nginx: str, certificate: Path, tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, front: Front) -> None:
        large = b"x" * (64 * 1024 + 1)
        refused = await client.post("/v1/orders", content=large)
        assert (refused.status_code, refused.json()["code"]) == (413, "payload_too_large")
        taken = await client.post("/v1/contributions/import", content=large)
        assert taken.text == "contribution POST /v1/contributions/import"
        for path in ("/v1/" + "y" * 20_000, "/v1/%"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")

    run(nginx, certificate, tmp_path, story)


def test_a_service_that_is_away(nginx: str, certificate: Path, tmp_path: Path) -> None:
    with (
        fronted(nginx, certificate, tmp_path, {name: 9 for name in PORTS}) as front,
        httpx.Client(verify=front.trust, base_url=front.https) as client,
    ):
        answer = client.get("/v1/markets")
        assert (answer.status_code, answer.json()["code"]) == (503, "going_away")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["strict-transport-security"] == "max-age=63072000"


def test_guessing_is_slower_than_reading(nginx: str, certificate: Path, tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, front: Front) -> None:
        async def statuses(method: str, path: str, count: int) -> list[int]:
            answers = [await client.request(method, path) for _ in range(count)]
            return [answer.status_code for answer in answers]

        guessed = await statuses("POST", "/v1/login", 3 * SIGN_IN_AT_ONCE)
        assert guessed[:SIGN_IN_AT_ONCE] == [200] * SIGN_IN_AT_ONCE
        assert guessed.count(429) >= SIGN_IN_AT_ONCE
        refused = await client.post("/v1/password/reset")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert refused.headers["retry-after"] == "1"
        assert await statuses("GET", "/v1/me", 3 * SIGN_IN_AT_ONCE) == [200] * 3 * SIGN_IN_AT_ONCE

    run(nginx, certificate, tmp_path, story)
