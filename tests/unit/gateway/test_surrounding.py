"""gateway.surrounding: what every answer gets, what is counted and told, and who is refused."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import admission
from gateway.access import GRANTS, Principal
from gateway.access_log import AccessLog
from gateway.admission import Admission
from gateway.admission import principal as principal_of
from gateway.errors import Refusal, exception_handlers
from gateway.headers import Secured, shared_with
from gateway.http_figures import HttpFigures
from gateway.limits import Limits, Rate, Rates
from gateway.metrics import GatewayMetrics
from gateway.surrounding import Surrounding
from gateway.tracing import mark_replayed
from schemas.wire import WireCode
from tests.fixtures._served_protocol import until

NOW = 1_700_000_000.25
SECRET = "eyJplanted.secret"
SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class Tokens:
    """Knows users by their names: token "user:alice" is of role user."""

    def verify_header(self, authorization: str | None) -> Principal:
        if authorization is None or not authorization.startswith("Bearer "):
            raise Refusal(WireCode.UNAUTHORIZED, "Send Authorization: Bearer <token>.")
        role, _, user_id = authorization[len("Bearer ") :].partition(":")
        if role not in GRANTS:
            raise Refusal(WireCode.UNAUTHORIZED, "The token is not valid.")
        return Principal(user_id=user_id, role=role, expires_second=0)  # type: ignore[arg-type]


class Service:
    """An app of three routes with all that is around it, and what it told."""

    def __init__(self, rates: Rates, origins: tuple[str, ...] = ()) -> None:
        self.lines: list[dict[str, Any]] = []
        self.metrics = GatewayMetrics(lambda: True)
        self.hold = asyncio.Event()
        tokens: Any = Tokens()

        async def mine(request: Request) -> Response:
            return Response(principal_of(request, tokens).user_id)

        async def repeat(request: Request) -> Response:
            mark_replayed(request)
            await request.body()
            return Response(b"x" * 7, 201, {"cache-control": "public, max-age=5"})

        async def wait(request: Request) -> Response:
            await self.hold.wait()
            return Response()

        async def fail(request: Request) -> Response:
            raise RuntimeError("broken")

        app = Starlette(
            routes=[
                Route("/v1/mine/{thing}", mine, methods=["GET"]),
                Route("/v1/things", repeat, methods=["POST"]),
                Route("/v1/things", mine, methods=["GET"]),
                Route("/v1/wait", wait, methods=["GET"]),
                Route("/v1/fail", fail, methods=["GET"]),
                Route("/healthz", repeat, methods=["GET"]),
            ],
            exception_handlers=exception_handlers(),
        )
        app.router.redirect_slashes = False
        admitted = Admission(
            app,
            service="trading",
            tokens=tokens,
            limits=Limits(rates, lambda: 0.0),
            figures=self.metrics.http,
        )
        surrounding = Surrounding(
            shared_with(admitted, origins),
            service="trading",
            answered=self.metrics.http.answered,
            access_log=AccessLog(self._wrote, now=lambda: NOW, part="gateway"),
        )
        transport = httpx.ASGITransport(
            surrounding, raise_app_exceptions=False, client=("203.0.113.77", 5)
        )
        self.client = httpx.AsyncClient(transport=transport, base_url="http://here")

    def _wrote(self, lines: bytes) -> None:
        assert lines.endswith(b"\n")
        self.lines += [msgspec.json.decode(line) for line in lines.splitlines()]

    def figure(self, name: str, **labels: str) -> float:
        found = self.metrics._registry.get_sample_value(name, labels)
        return found or 0.0


PLENTY = Rates.per_second(user=1_000, staff=1_000, address=1_000)


def run(
    story: Callable[[Service], Awaitable[None]],
    rates: Rates = PLENTY,
    origins: tuple[str, ...] = (),
) -> None:
    async def told() -> None:
        service = Service(rates, origins)
        async with service.client, asyncio.timeout(10):
            await story(service)

    asyncio.run(told())


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/things", 401),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/things/", 404),
        ("GET", "//v1/things", 404),
        ("PUT", "/v1/things", 405),
        ("GET", "/v1/fail", 500),
    ],
)
def test_every_answer_is_a_problem_with_all_headers(method: str, path: str, status: int) -> None:
    async def story(service: Service) -> None:
        answer = await service.client.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert SECURITY.items() <= dict(answer.headers).items()
        assert len(answer.headers["x-request-id"]) == 32
        assert answer.headers["ratelimit"] == '"address";r=1999;t=1'
        if status == 405:
            assert answer.headers["allow"] == "GET, HEAD, POST"

    run(story)


def test_documents_of_the_stream_have_the_headers_too() -> None:
    async def page(request: Request) -> Response:
        return Response(headers={"content-security-policy": "default-src 'self'"})

    async def ask() -> httpx.Response:
        app = Secured(Starlette(routes=[Route("/docs", page, methods=["GET"])]))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get("/docs")

    headers = asyncio.run(ask()).headers
    assert headers.get_list("content-security-policy") == ["default-src 'self'"]
    assert (headers["x-frame-options"], headers["cache-control"]) == ("DENY", "no-store")


def test_what_an_answer_says_itself_stays() -> None:
    async def story(service: Service) -> None:
        answer = await service.client.post("/v1/things")
        assert answer.headers.get_list("cache-control") == ["public, max-age=5"]
        assert answer.headers["idempotency-replayed"] == "true"
        assert answer.headers["x-frame-options"] == "DENY"

    run(story)


def test_one_line_for_each_request_without_anything_secret() -> None:
    async def story(service: Service) -> None:
        headers = {**bearer("operator:bob"), "cookie": SECRET, "x-request-id": "abc"}
        path = f"/v1/mine/{SECRET}?code={SECRET}"
        assert (await service.client.get(path, headers=headers)).text == "bob"
        await service.client.post(f"/v1/things?token={SECRET}", content=f'{{"a": "{SECRET}"}}')
        await service.client.get(f"/{SECRET}", headers=bearer(SECRET))
        await service.client.get("/healthz")
        await until(lambda: len(service.lines) == 3)
        first, second, third = service.lines
        assert first.pop("ms") >= 0
        assert first == {
            "at": "2023-11-14T22:13:20.250+00:00",
            "logger": "access",
            "part": "gateway",
            "service": "trading",
            "method": "GET",
            "route": "/v1/mine/{thing}",
            "status": 200,
            "bytes": 3,
            "user": "bob",
            "role": "operator",
            "network": "203.0.113.0/24",
            "trace": "abc",
            "replayed": False,
        }
        assert (second["route"], second["user"], second["replayed"]) == ("/v1/things", "", True)
        assert (third["route"], third["status"], third["user"]) == ("", 404, "")
        assert SECRET not in str(service.lines)

    run(story)


def test_failures_are_in_the_log_as_well(caplog: pytest.LogCaptureFixture) -> None:
    async def story(service: Service) -> None:
        with caplog.at_level(logging.INFO, "gateway"):
            await service.client.get(f"/v1/fail?code={SECRET}", headers={"x-request-id": "abc"})
            await service.client.get("/v1/nothing")

    run(story)
    (record,) = [each for each in caplog.records if each.name == "gateway.surrounding"]
    assert record.getMessage().startswith("GET /v1/fail 500")
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("gateway")]
    assert SECRET not in "\n".join(ours)


def test_requests_are_counted_by_route() -> None:
    async def story(service: Service) -> None:
        for number in range(3):
            await service.client.get(f"/v1/mine/{number}", headers=bearer("user:a"))
        await service.client.get("/v1/mine/1")
        await service.client.request("BREW", "/v1/nothing")
        labels = {"service": "trading", "method": "GET", "route": "/v1/mine/{thing}"}
        assert service.figure("durian_http_requests_total", **labels, status="200") == 3
        assert service.figure("durian_http_requests_total", **labels, status="401") == 1
        assert service.figure("durian_http_request_seconds_count", **labels) == 4
        odd = {"service": "trading", "method": "other", "route": "none", "status": "404"}
        assert service.figure("durian_http_requests_total", **odd) == 1

    run(story)


def test_each_caller_has_its_own_limit() -> None:
    one = Rate(per_second=1, burst=2)
    rates = Rates(user=one, staff=Rate(per_second=0, burst=0), address=one)

    async def story(service: Service) -> None:
        async def statuses(token: str | None, path: str = "/v1/things") -> list[int]:
            headers = bearer(token) if token else {}
            return [(await service.client.get(path, headers=headers)).status_code for _ in range(3)]

        assert await statuses("user:alice") == [200, 200, 429]
        assert await statuses("user:bob") == [200, 200, 429]
        assert await statuses("operator:carol") == [200, 200, 200]
        # Whoever guesses tokens or paths counts for the address it comes from.
        assert await statuses("guessed") == [401, 401, 429]
        assert await statuses(None, "/v1/nothing") == [429, 429, 429]
        assert await statuses(None, "/healthz") == [201, 201, 201]
        refused = await service.client.get("/v1/things", headers=bearer("user:alice"))
        assert refused.json()["code"] == "too_many_requests"
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit"] == '"user";r=0;t=3'
        assert service.figure("durian_http_limited_total", service="trading", caller="user") == 3
        assert service.figure("durian_http_limited_total", service="trading", caller="address") == 4

    run(story, rates)


def test_so_many_may_be_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "IN_FLIGHT_MAX", 2)

    async def story(service: Service) -> None:
        held = [asyncio.create_task(service.client.get("/v1/wait")) for _ in range(2)]
        await until(lambda: service.figure("durian_http_in_flight", service="trading") == 2)
        refused = await service.client.get("/v1/things")
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_connections")
        assert (await service.client.get("/healthz")).status_code == 201
        service.hold.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200, 200]
        assert service.figure("durian_http_in_flight", service="trading") == 0
        assert service.figure("durian_http_limited_total", service="trading", caller="all") == 1

    run(story)


def test_one_caller_does_not_take_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as by sending bodies that never end."""
    monkeypatch.setattr(admission, "IN_FLIGHT_OF_CALLER_MAX", 2)

    async def story(service: Service) -> None:
        async def wait(token: str) -> httpx.Response:
            return await service.client.get("/v1/wait", headers=bearer(token))

        held = [asyncio.create_task(wait("user:greedy")) for _ in range(2)]
        await until(lambda: service.figure("durian_http_in_flight", service="trading") == 2)
        refused = await wait("user:greedy")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert (await service.client.get("/v1/things", headers=bearer("user:b"))).text == "b"
        service.hold.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200, 200]
        assert (await wait("user:greedy")).status_code == 200

    run(story)


def test_pages_of_other_hosts() -> None:
    page = "https://app.example"

    async def story(service: Service) -> None:
        asking = {
            "origin": page,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, content-type, idempotency-key",
        }
        asked = await service.client.options("/v1/things", headers=asking)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == page
        assert "access-control-allow-credentials" not in asked.headers
        answer = await service.client.post("/v1/things", headers={"origin": page})
        assert answer.headers["access-control-allow-origin"] == page
        exposed = answer.headers["access-control-expose-headers"]
        assert {"x-request-id", "idempotency-replayed", "retry-after"} <= {*exposed.split(", ")}
        for origin in ("https://evil.example", "null", f"{page}.evil.example"):
            refused = await service.client.options(
                "/v1/things", headers={**asking, "origin": origin}
            )
            assert refused.status_code == 400
            assert "access-control-allow-origin" not in refused.headers
            plain = await service.client.post("/v1/things", headers={"origin": origin})
            assert "access-control-allow-origin" not in plain.headers

    run(story, origins=(page,))


def test_figures_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up labels is what costs: the second request of a kind finds its counter."""
    metrics = GatewayMetrics(lambda: True)
    figures: HttpFigures = metrics.http
    for _ in range(3):
        figures.answered(service="s", method="GET", route="/r", status=200, seconds=0.1)
    assert len(figures._counters) == len(figures._histograms) == 1
