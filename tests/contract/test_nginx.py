"""ops/nginx/durian.conf run by a real nginx with a certificate of our own, before real services."""

import asyncio
import contextlib
import datetime
import ipaddress
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from gateway import connection
from ops.serving import SERVICE_NAMES, ServiceName
from tests.fixtures._gateway_line import DEADLINE_SECONDS, Line, receive, running_line, send
from tests.fixtures.foreign_clients import leave_out

pytestmark = pytest.mark.services
CONFIGURATION = Path(__file__).parents[2] / "ops" / "nginx" / "durian.conf"
STREAMS_PER_ADDRESS = 20
HANDSHAKES_AT_ONCE = 30
PORTS = {"contribution": 3020, "mining": 3021, "trading": 3022, "stream": 3025}


class Front:
    """A running nginx. https, wss: its addresses; plain: the one that redirects."""

    def __init__(self, certificate: Path, plain_port: int, tls_port: int) -> None:
        self.plain = f"http://localhost:{plain_port}"
        self.https = f"https://localhost:{tls_port}"
        self.wss = f"wss://localhost:{tls_port}/v1/stream"
        self.trust = ssl.create_default_context(cafile=str(certificate))

    def stream(self, **options: Any) -> connect:
        return connect(self.wss, ssl=self.trust, **options)


@pytest.fixture(scope="module")
def nginx() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    return found or leave_out("NO PROXY: nginx is not installed; run make setup")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key of localhost, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2126, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path_factory.mktemp("tls") / "localhost.pem"
    pem.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def configuration(changes: dict[str, str]) -> str:
    """The shipped file with these words replaced, each of which must be in it."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    for shipped, ours in changes.items():
        assert shipped in text, shipped
        text = text.replace(shipped, ours)
    return text


def main_file(directory: Path, included: str) -> Path:
    (directory / "durian.conf").write_text(included, encoding="utf-8")
    temporary = "\n".join(
        f"{kind}_temp_path {directory / kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Workers of a master that is root would be nobody's, who may not enter our directory.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    made = directory / "nginx.conf"
    made.write_text(
        f"{user}\ndaemon off;\nworker_processes 1;\npid {directory / 'pid'};\n"
        f"error_log {directory / 'error.log'};\nevents {{ worker_connections 512; }}\n"
        f"http {{\naccess_log off;\n{temporary}\ninclude {directory / 'durian.conf'};\n}}\n",
        encoding="utf-8",
    )
    return made


@contextlib.contextmanager
def fronted(
    nginx: str, certificate: Path, directory: Path, upstreams: dict[str, int], **changes: str
) -> Iterator[Front]:
    """upstreams: port by service. changes: further words of the file, by what they become."""
    plain_port, tls_port = free_ports(2)
    ours = {
        "listen 80;": f"listen 127.0.0.1:{plain_port};",
        "listen 443 ssl": f"listen 127.0.0.1:{tls_port} ssl",
        "server_name ledger.example;": "server_name localhost;",
        "/etc/ssl/durian/fullchain.pem": str(certificate),
        "/etc/ssl/durian/privkey.pem": str(certificate),
        **{f"127.0.0.1:{PORTS[name]}": f"127.0.0.1:{port}" for name, port in upstreams.items()},
        **changes,
    }
    made = main_file(directory, configuration(ours))
    early_log = ["-e", str(directory / "error.log"), "-p", str(directory), "-c", str(made)]
    checked = subprocess.run([nginx, "-t", *early_log], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr
    server = subprocess.Popen([nginx, *early_log])
    try:
        await_listening(tls_port)
        yield Front(certificate, plain_port, tls_port)
    finally:
        server.terminate()
        server.wait(DEADLINE_SECONDS)


def await_listening(port: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


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

    run(view_redis, tmp_path, story, SERVICE_NAMES)


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
    """The proxy's 75 s are 2 s here, and the gateway's 25 s are 1 s, or stay: then it is cut."""
    if pings:
        monkeypatch.setattr(connection, "PING_SECONDS", 1)

    async def story(line: Line, ports: dict[str, int]) -> None:
        shortened = {"proxy_read_timeout 75s;": "proxy_read_timeout 2s;"}
        with fronted(nginx, certificate, tmp_path, ports, **shortened) as front:
            async with front.stream(ping_interval=None) as ws:
                await receive(ws, "hello")
                if pings:
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(ws.recv(), 5)
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
