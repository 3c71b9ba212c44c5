"""What is around every request, on all services with their real endpoints: whatever a client sends,
it gets a problem that it can read, and nothing that it said in confidence reaches a log.
"""

import asyncio
import io
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.services import ENDPOINTS, HTTP_SERVICES
from ops.config import Config
from ops.logs import configure_logs
from ops.servers import postgres
from ops.service_databases import provision_auth, provision_desk
from tests.fixtures._gateway_line import DEADLINE_SECONDS, Line, running_line

pytestmark = pytest.mark.services
PASSWORD = "services"
SECRETS = {
    "header": "s3cret-in-a-header",
    "query": "s3cret-in-a-query",
    "path": "s3cret-in-a-path",
    "body": "s3cret-in-a-body",
    "token": "eyJhbGciOiJFZERTQSJ9.s3cret-in-a-token.c2lnbmF0dXJl",
}


@pytest.fixture
def urls(postgres_server: str, database_names: Iterator[str]) -> dict[str, str]:
    """Databases of their own for auth and administration, as settings of a line."""
    found = {}
    for name, provision, role in (
        ("desk_url", provision_desk, postgres.DESK),
        ("auth_url", provision_auth, postgres.AUTH),
    ):
        owner_url = postgres_server.rpartition("/")[0] + f"/{next(database_names)}"
        provision(owner_url, password=PASSWORD)
        found[name] = postgres.with_role(owner_url, role=role, password=PASSWORD)
    return found


def run(
    view_redis: str,
    directory: Path,
    story: Callable[[Line, httpx.AsyncClient], Awaitable[None]],
    **settings: Any,
) -> None:
    async def told() -> None:
        names = HTTP_SERVICES if "auth_url" in settings else ("trading", "mining")
        async with (
            running_line(view_redis, directory, names, **settings) as line,
            httpx.AsyncClient(trust_env=False, timeout=DEADLINE_SECONDS) as client,
        ):
            await story(line, client)

    asyncio.run(told())


def some_path(template: str) -> str:
    return re.sub(r"\{\w+\}", "1", template)


def check_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]


def test_paths_and_methods_that_are_not_there(
    view_redis: str, tmp_path: Path, urls: dict[str, str]
) -> None:
    async def story(line: Line, client: httpx.AsyncClient) -> None:
        for service, endpoints in ENDPOINTS.items():
            url = line.urls[service]
            for path in {endpoint.path for endpoint in endpoints}:
                methods = {str(each.method) for each in endpoints if each.path == path}
                methods |= {"HEAD"} if "GET" in methods else set()
                for method in ("OPTIONS", "TRACE", "PUT"):
                    if method in methods:
                        continue
                    answer = await client.request(method, url + some_path(path))
                    check_problem(answer, 405, "method_not_allowed")
                    assert {*answer.headers["allow"].split(", ")} == methods, path
                for wrong in (f"{path}/", f"/{path}", f"{path}/more/and/more"):
                    answer = await client.get(url + some_path(wrong))
                    check_problem(answer, 404, "not_found")

    run(view_redis, tmp_path, story, **urls)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/v1/ticker?market=%00", 400),
        (b"/v1/ticker?market=%ff%fe", 400),
        (b"/v1/ticker?market=DUR-CNY&market=DUR-CNY", 400),
        (b"/v1/ticker?market=DUR-CNY&unknown=1", 400),
        (b"/v1/ticker?" + b"&".join(b"p%d=1" % number for number in range(2_000)), 400),
        (b"/v1/ticker?market=" + b"x" * 20_000, 400),
        (b"/v1/" + b"x" * 20_000, 404),
        (b"/v1/orders/%2e%2e%2f%2e%2e%2fmetrics", 404),
        (b"/v1/orders/..%5c..%5cmetrics", 401),
        (b"//evil.example/v1/ticker", 404),
        (b"/v1/ticker%3Fmarket=DUR-CNY", 404),
        (b"/%", 404),
        (b"/v1/ticker;a=b", 404),
        (b"/v1/TICKER?market=DUR-CNY", 404),
    ],
)
def test_odd_addresses(view_redis: str, tmp_path: Path, target: bytes, status: int) -> None:
    async def story(line: Line, client: httpx.AsyncClient) -> None:
        port = urlsplit(line.urls["trading"]).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET " + target + b" HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
        async with asyncio.timeout(DEADLINE_SECONDS):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 %d " % status), head
        assert b"application/problem+json" in head
        problem = json.loads(body)
        assert problem["status"] == status
        # An answer is never as large as what was sent.
        assert len(body) < 2_000

    run(view_redis, tmp_path, story)


def test_bodies_that_are_none(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line, client: httpx.AsyncClient) -> None:
        url, who = f"{line.urls['trading']}/v1/orders", line.bearer("u")

        async def post(content: bytes, media_type: str | None, **more: str) -> httpx.Response:
            headers = {**who, **more, **({"content-type": media_type} if media_type else {})}
            return await client.post(url, content=content, headers=headers)

        fields = {"market": "DUR-CNY", "side": "buy", "type": "limit", "quantity": "1"}
        order = json.dumps({**fields, "price": "1", "client_order_id": "o"})
        for media_type in (None, "text/plain", "application/x-www-form-urlencoded", "application"):
            check_problem(await post(order.encode(), media_type), 415, "unsupported_media_type")
        zipped = await post(b"\x1f\x8b", "application/json", **{"content-encoding": "gzip"})
        check_problem(zipped, 415, "unsupported_media_type")
        for content in (
            b"",
            b"null",
            b"[]",
            b"{",
            b"\xff\xfe{}",
            order.encode("utf-16"),
            order.replace("DUR", "\\u0000").encode(),
            order.replace("DUR", "\\ud800").encode(),
            b"[" * 50_000,
            b'{"a":' * 10_000,
        ):
            check_problem(await post(content, "application/json"), 400, "invalid_request")
        for media_type in ("application/json; charset=utf-8", "Application/JSON"):
            assert (await post(order.encode(), media_type)).status_code not in (400, 415)
        check_problem(await post(b" " * 70_000, "application/json"), 413, "payload_too_large")

    run(view_redis, tmp_path, story)


def test_secrets_reach_no_log(
    view_redis: str, tmp_path: Path, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At level debug, of every endpoint, with secrets wherever a client can put one."""
    told = io.StringIO()
    access_log = tmp_path / "access.log"

    async def story(line: Line, client: httpx.AsyncClient) -> None:
        configure_logs(Config(log_level="debug", log_format="json"), stream=told)
        headers = {
            "authorization": f"Bearer {SECRETS['token']}",
            "cookie": SECRETS["header"],
            "x-secret": SECRETS["header"],
            "idempotency-key": SECRETS["header"],
        }
        body = {name: SECRETS["body"] for name in ("password", "login", "refresh_token", "totp")}
        for service, endpoints in ENDPOINTS.items():
            for endpoint in endpoints:
                path = re.sub(r"\{\w+\}", SECRETS["path"], endpoint.path)
                for sent in (headers, {**headers, **line.bearer("u", "admin")}):
                    await client.request(
                        endpoint.method,
                        f"{line.urls[service]}{path}",
                        params={"token": SECRETS["query"], "password": SECRETS["query"]},
                        headers=sent,
                        json=body,
                    )
        login = {"login": "nobody", "password": SECRETS["body"]}
        await client.post(f"{line.urls['auth']}/v1/login", json=login)

    run(view_redis, tmp_path / "line", story, access_log=str(access_log), **urls)
    lines = access_log.read_text()
    probes = ("/healthz", "/readyz", "/metrics")
    told_of = [each for some in ENDPOINTS.values() for each in some if each.path not in probes]
    assert lines.count("\n") >= 2 * len(told_of)
    for where, secret in SECRETS.items():
        assert secret not in lines, where
        # httpx, the test's own client, tells the addresses that it asks.
        ours = [line for line in told.getvalue().splitlines() if '"logger": "http' not in line]
        assert secret not in "\n".join(ours), where


def test_reading_waits_for_what_was_written(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line, client: httpx.AsyncClient) -> None:
        line.fund("u")
        wanted = len(line.engine.log)
        query: dict[str, str | int] = {"min_position": wanted}
        url, who = f"{line.urls['trading']}/v1/balances", line.bearer("u")
        late = await client.get(url, params=query, headers=who)
        check_problem(late, 409, "views_behind")
        assert late.json()["details"]["wanted"] == wanted
        assert late.headers["retry-after"] == "1"
        asked = [asyncio.create_task(client.get(url, params=query, headers=who)) for _ in range(20)]
        await line.views.project()
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        assert all(answer.json()["items"] for answer in answers)
        # Nothing of this concerns the market, or somebody else: their views are as far anyway.
        for path in ("/v1/markets?", "/v1/balances?user_id=somebody&"):
            boss = line.bearer("boss", "operator")
            found = await client.get(
                f"{line.urls['trading']}{path}min_position={wanted}", headers=boss
            )
            assert found.status_code == 200, found.text
        pool = await client.get(f"{line.urls['mining']}/v1/mining/pool?min_position={wanted}")
        assert pool.status_code == 200
        far = await client.get(url, params={"min_position": (1 << 53) - 1}, headers=who)
        check_problem(far, 409, "views_behind")

    run(view_redis, tmp_path, story)


def test_limits_of_a_running_service(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line, client: httpx.AsyncClient) -> None:
        url = f"{line.urls['trading']}/v1/markets"
        # As nginx says who asks; from elsewhere nobody is believed.
        one, other = ({"x-forwarded-for": address} for address in ("203.0.113.1", "203.0.113.2"))
        answers = await asyncio.gather(*(client.get(url, headers=one) for _ in range(20)))
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(429) >= 5, statuses
        refused = answers[statuses.index(429)]
        check_problem(refused, 429, "too_many_requests")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit-policy"] == '"address";q=4;w=2'
        assert (await client.get(url, headers=other)).status_code == 200
        user = {**one, **line.bearer("u")}
        assert (await client.get(url, headers=user)).headers["ratelimit"].startswith('"user";')

    run(view_redis, tmp_path, story, requests_address=2, requests_user=100)


def test_who_is_no_proxy_of_ours_is_not_believed(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line, client: httpx.AsyncClient) -> None:
        url = f"{line.urls['trading']}/v1/markets"
        claims = [{"x-forwarded-for": f"203.0.113.{number}"} for number in range(20)]
        answers = await asyncio.gather(*(client.get(url, headers=claim) for claim in claims))
        assert [answer.status_code for answer in answers].count(429) >= 5

    run(view_redis, tmp_path, story, requests_address=2, proxies="192.0.2.1")
