"""ops/nginx/durian.conf run by a real nginx with a certificate of our own, before real services."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from gateway.stream import connection
from ops.serving import ServiceName
from tests.fixtures._gateway_line import (
    DEADLINE_SECONDS,
    WITHOUT_DATABASES,
    Line,
    receive,
    running_line,
    send,
)
from tests.fixtures.nginx_front import Front, free_ports, fronted

pytestmark = pytest.mark.services
STREAMS_PER_ADDRESS = 20
HANDSHAKES_AT_ONCE = 30


def run(
    view_redis: str,
    directory: Path,
    story: Callable[[Line, dict[str, int]], Awaitable[None]],
    services: tuple[ServiceName, ...] = ("stream",),
) -> None:
    """Tell a story of a line and the ports of its services."""

    async def told() -> None:
        async with running_line(view_redis, directory / "line", services) as line:
            ports = {name: urlsplit(url).port or 0 for name, url in line.urls.items()}
            await story(line, ports)

    (directory / "line").mkdir()
    asyncio.run(told())


def test_one_origin_leads_to_every_service_over_tls(
    nginx: str, certificate: Path, view_redis: str, tmp_path: Path
) -> None:
    async def story(line: Line, ports: dict[str, int]) -> None:
        with fronted(nginx, certificate, tmp_path, ports) as front:
            async with httpx.AsyncClient(verify=front.trust, base_url=front.https) as client:
                for path in (
                    "/v1/contributions/summary",
                    "/v1/mining/pool",
                    "/v1/markets",
                    "/asyncapi.json",
                    "/docs",
                ):
                    answer = await client.get(path)
                    assert answer.status_code == 200, path
                    assert answer.headers["strict-transport-security"] == "max-age=63072000"
                    assert answer.headers["x-content-type-options"] == "nosniff"
                for path in ("/metrics", "/healthz", "/readyz", "/"):
                    assert (await client.get(path)).status_code == 404, path
                plain = await client.post(f"{front.plain}/v1/orders?x=1")
                assert plain.status_code == 308
                assert plain.headers["location"] == "https://localhost/v1/orders?x=1"

    run(view_redis, tmp_path, story, WITHOUT_DATABASES)


def test_a_stream_works_through_it_with_either_tls(
    nginx: str, certificate: Path, view_redis: str, tmp_path: Path
) -> None:
    async def story(line: Line, ports: dict[str, int]) -> None:
        with fronted(nginx, certificate, tmp_path, ports) as front:
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                front.trust.maximum_version = version
                async with front.stream(additional_headers=line.bearer("alice")) as ws:
                    assert "expires_at" in await receive(ws, "hello")
                    channels = [{"ch": "pulse"}, {"ch": "account"}]
                    await send(ws, {"op": "subscribe", "id": 1, "channels": channels})
                    assert (await receive(ws, "snapshot", "account"))["data"] is not None
                    line.engine.pass_seconds(1)
                    await line.views.project()
                    published = await receive(ws, "pub", "pulse")
                    assert published["offset"] == line.engine.second

    run(view_redis, tmp_path, story)


def test_pages_of_its_own_host_may_connect_and_others_not(
    nginx: str, certificate: Path, view_redis: str, tmp_path: Path
) -> None:
    async def story(line: Line, ports: dict[str, int]) -> None:
        with fronted(nginx, certificate, tmp_path, ports) as front:
            async with front.stream(origin=Origin(front.https)) as ws:
                await receive(ws, "hello")
            with pytest.raises(InvalidStatus) as refused:
                async with front.stream(origin=Origin("https://elsewhere.example")):
                    pass
            assert refused.value.response.status_code == 403

    run(view_redis, tmp_path, story)


@pytest.mark.parametrize("pings", [True, False])
def test_a_silent_stream_lives_by_the_gateways_pings(
    nginx: str,
    certificate: Path,
    view_redis: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pings: bool,
) -> None:
    """The proxy's 75 s are 4 s here, and the gateway's 25 s are 1 s, or stay: then it is cut."""
    if pings:
        monkeypatch.setattr(connection, "PING_SECONDS", 1)

    async def story(line: Line, ports: dict[str, int]) -> None:
        shortened = {"proxy_read_timeout 75s;": "proxy_read_timeout 4s;"}
        with fronted(nginx, certificate, tmp_path, ports, **shortened) as front:
            async with front.stream(ping_interval=None) as ws:
                await receive(ws, "hello")
                if pings:
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(ws.recv(), 6)
                    await send(ws, {"op": "ping", "id": 7})
                    assert (await receive(ws, "pong"))["id"] == 7
                else:
                    with pytest.raises(ConnectionClosed):
                        await asyncio.wait_for(ws.recv(), DEADLINE_SECONDS)

    run(view_redis, tmp_path, story)


def test_one_address_has_so_many_streams_and_so_many_handshakes(
    nginx: str, certificate: Path, view_redis: str, tmp_path: Path
) -> None:
    async def story(line: Line, ports: dict[str, int]) -> None:
        with fronted(nginx, certificate, tmp_path, ports) as front:
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(STREAMS_PER_ADDRESS):
                    ws = await stack.enter_async_context(front.stream())
                    await receive(ws, "hello")
                assert await refusal(front) == 429
            statuses = [await refusal(front) for _ in range(2 * HANDSHAKES_AT_ONCE)]
            assert {*statuses} == {101, 429}
            async with httpx.AsyncClient(verify=front.trust, base_url=front.https) as client:
                assert (await client.get("/docs")).status_code == 200

    run(view_redis, tmp_path, story)


async def refusal(front: Front) -> int:
    """The status of one more handshake; 101 if it is accepted."""
    try:
        async with front.stream():
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def test_services_are_told_who_asks_whatever_the_client_claims(
    nginx: str, certificate: Path, tmp_path: Path
) -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            with fronted(nginx, certificate, tmp_path, {"trading": port}) as front:
                claims = {"x-forwarded-for": "10.0.0.1", "x-real-ip": "10.0.0.1"}
                async with httpx.AsyncClient(verify=front.trust) as client:
                    answered = await client.get(f"{front.https}/v1/markets", headers=claims)
                assert answered.status_code == 200
                told = heads[0].decode().lower().splitlines()
                for line in (
                    "x-forwarded-for: 127.0.0.1",
                    "x-real-ip: 127.0.0.1",
                    "x-forwarded-proto: https",
                    f"host: {urlsplit(front.https).netloc}",
                    f"x-forwarded-host: {urlsplit(front.https).netloc}",
                ):
                    assert line in told
                assert not any(line.startswith(("upgrade:", "connection:")) for line in told)

    asyncio.run(story())


def test_a_gateway_that_goes_away_is_passed_over(
    nginx: str, certificate: Path, view_redis: str, tmp_path: Path
) -> None:
    """503 of a draining gateway, and no gateway at all, lead to the next one."""

    async def away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async def story(line: Line, ports: dict[str, int]) -> None:
        server = await asyncio.start_server(away, "127.0.0.1", 0)
        draining, (nobody,) = server.sockets[0].getsockname()[1], free_ports(1)
        shipped = "server 127.0.0.1:3025 max_fails=2 fail_timeout=5s;"
        several = "".join(
            f"server 127.0.0.1:{port} max_fails=2 fail_timeout=5s;"
            for port in (draining, nobody, ports["stream"])
        )
        async with server:
            with fronted(nginx, certificate, tmp_path, {}, **{shipped: several}) as front:
                for _ in range(5):
                    async with front.stream() as ws:
                        await receive(ws, "hello")

    run(view_redis, tmp_path, story)
