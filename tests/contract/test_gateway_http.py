"""The HTTP services over real uvicorn, Redis and folds: what each endpoint answers, and refuses."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.accrual import accrued_minor
from schemas.amounts import format_amount, parse_amount
from tests.fixtures._gateway_line import DEADLINE_SECONDS, Line, running_line

pytestmark = pytest.mark.services
MARKET = "DUR-CNY"


def limit_order(side: str, price: str, quantity: str, key: str) -> dict[str, Any]:
    return {
        "market": MARKET,
        "side": side,
        "type": "limit",
        "price": price,
        "quantity": quantity,
        "client_order_id": key,
    }


class Client:
    """HTTP to a line's services, each request as somebody."""

    def __init__(self, line: Line, http: httpx.AsyncClient) -> None:
        self.line = line
        self._http = http

    async def call(
        self,
        method: str,
        service: str,
        path: str,
        *,
        who: tuple[str, str] | None = None,
        json: object = None,
        headers: dict[str, str] | None = None,
        query: dict[str, str | int] | None = None,
    ) -> httpx.Response:
        sent = {**(self.line.bearer(*who) if who else {}), **(headers or {})}
        return await self._http.request(
            method, f"{self.line.urls[service]}{path}", headers=sent, json=json, params=query
        )

    async def order(self, user_id: str, body: dict[str, Any]) -> httpx.Response:
        return await self.call("POST", "trading", "/v1/orders", who=(user_id, "user"), json=body)


def run(view_redis: str, directory: Path, story: Any) -> None:
    async def told() -> None:
        async with (
            running_line(view_redis, directory, ("contribution", "mining", "trading")) as line,
            httpx.AsyncClient() as http,
        ):
            await story(Client(line, http))

    asyncio.run(told())


def test_an_order_from_placement_to_its_candle(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        client.line.fund("maker", "taker")
        resting = await client.order("maker", limit_order("sell", "2.5", "10", "m1"))
        assert resting.status_code == 201
        assert resting.json() == {
            "order_id": 1,
            "client_order_id": "m1",
            "user_id": "maker",
            "market": MARKET,
            "side": "sell",
            "status": "open",
            "quantity": "10.00000000",
            "filled_quantity": "0.00000000",
            "leaves_quantity": "10.00000000",
            "average_price": None,
            "trades": [],
            "position": len(client.line.engine.log),
        }
        await client.order("maker", limit_order("sell", "2.6", "10", "m2"))
        filled = (await client.order("taker", limit_order("buy", "3", "15", "t1"))).json()
        assert filled["status"] == "filled"
        # (10 x 2.5 + 5 x 2.6) / 15 = 2.53333333…, rounded down
        assert filled["average_price"] == "2.53333333"
        assert [trade["quantity"] for trade in filled["trades"]] == ["10.00000000", "5.00000000"]
        assert [trade["burned"] for trade in filled["trades"]] == ["0.01000000", "0.00500000"]
        client.line.engine.pass_seconds(130)
        await client.line.views.project()
        await check_market_data(client, filled["trades"])
        cancelled = await client.call("DELETE", "trading", "/v1/orders/2", who=("maker", "user"))
        assert cancelled.json() == {
            "order_id": 2,
            "status": "cancelled",
            "leaves_quantity": "5.00000000",
            "released_asset": "DUR",
            "released": "5.00000000",
            "position": len(client.line.engine.log),
        }

    run(view_redis, tmp_path, story)


async def check_market_data(client: Client, trades: list[dict[str, Any]]) -> None:
    shown = (await client.call("GET", "trading", "/v1/trades", query={"market": MARKET})).json()[
        "items"
    ]
    assert shown == trades
    ticker = await market_data(client, "ticker")
    assert (ticker["last"], ticker["volume"]) == ("2.60000000", "15.00000000")
    page = await candles(client, limit=2)
    assert [candle["closed"] for candle in page["items"]] == [True, False]
    every = await candles(client, **{"from": 0})
    assert len(every["items"]) == 3
    assert every["next_cursor"] is None
    first = every["items"][0]
    assert (first["open"], first["high"], first["close"]) == (
        "2.50000000",
        "2.60000000",
        "2.60000000",
    )
    assert first["burned"] == "0.01500000"
    paged = await candles(client, **{"from": 0}, limit=2)
    assert paged["items"] == every["items"][:2]
    rest = await candles(client, cursor=int(paged["next_cursor"]))
    assert rest["items"] == every["items"][2:]
    inclusive = {"from": first["open_time"], "to": every["items"][1]["open_time"]}
    assert (await candles(client, **inclusive))["items"] == [first]
    burns = (
        await client.call("GET", "trading", "/v1/burns", query={"market": MARKET, "limit": 2})
    ).json()
    assert [record["burned"] for record in burns["items"]] == ["0.00000000", "0.00000000"]
    assert burns["cumulative"] == "0.01500000"


async def candles(client: Client, **query: str | int) -> dict[str, Any]:
    return await market_data(client, "klines", interval="1m", **query)


async def market_data(client: Client, kind: str, **query: str | int) -> dict[str, Any]:
    asked = {"market": MARKET, **query}
    found = await client.call("GET", "trading", f"/v1/{kind}", query=asked)
    assert found.status_code == 200, found.text
    answer: dict[str, Any] = found.json()
    return answer


@pytest.mark.parametrize("interval", ["1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w"])
def test_the_newest_candle_of_each_interval_is_found(
    view_redis: str, tmp_path: Path, interval: str
) -> None:
    async def story(client: Client) -> None:
        client.line.fund("maker", "taker")
        await client.order("maker", limit_order("sell", "2", "1", "m"))
        await client.order("taker", limit_order("buy", "2", "1", "t"))
        client.line.engine.pass_seconds(8_000)
        await client.line.views.project()
        answer = await client.call(
            "GET",
            "trading",
            "/v1/klines",
            query={"market": MARKET, "interval": interval, "limit": 1},
        )
        (candle,) = answer.json()["items"]
        assert candle["open_time"] <= client.line.engine.second * 1_000 <= candle["close_time"]
        assert candle["closed"] is False

    run(view_redis, tmp_path, story)


def test_mining_and_contributions(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        granted = await client.call(
            "POST",
            "contribution",
            "/v1/contributions",
            who=("boss", "operator"),
            json={"user_id": "u1", "source": "device", "weight": "7"},
            headers={"Idempotency-Key": "g1"},
        )
        assert granted.status_code == 201
        assert granted.json()["grant"]["grant_id"] == "g1"
        client.line.engine.pass_seconds(10)
        await client.line.views.project()
        me = (await client.call("GET", "mining", "/v1/mining/me", who=("u1", "user"))).json()
        accrued = accrued_minor(
            weight=int(me["weight"]),
            index=int(me["index"]),
            entry_index=int(me["entry_index"]),
            entry_fraction=int(me["entry_fraction"]),
        )
        assert me["accrued"] == format_amount(accrued, 8)
        assert parse_amount(me["accrued"], 8) in (10_00000000, 9_99999999)
        pool = (await client.call("GET", "mining", "/v1/mining/pool")).json()
        assert (pool["weight_total"], pool["reward_per_second"]) == ("7", "1.00000000")
        settled = await client.call("POST", "mining", "/v1/mining/settle", who=("u1", "user"))
        assert settled.json()["amount"] == me["accrued"]
        again = await client.call("POST", "mining", "/v1/mining/settle", who=("u1", "user"))
        assert (again.status_code, again.json()["code"]) == (422, "nothing_to_settle")
        await client.line.views.project()
        mine = await client.call("GET", "contribution", "/v1/contributions/u1", who=("u1", "user"))
        assert mine.json()["grants"] == [granted.json()["grant"]]
        summary = (await client.call("GET", "contribution", "/v1/contributions/summary")).json()
        assert summary == {
            "weight_total": "7",
            "miners": 1,
            "top": [{"user_id": "u1", "weight": "7"}],
        }
        balances = await client.call("GET", "trading", "/v1/balances", who=("u1", "user"))
        assert [held["available"] for held in balances.json()["items"]] == [me["accrued"]]

    run(view_redis, tmp_path, story)


async def expect(
    client: Client, status: int, code: str, method: str, path: str, **rest: Any
) -> dict[str, Any]:
    """The details of a problem that the trading service must answer with."""
    answer = await client.call(method, "trading", path, **rest)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    details: dict[str, Any] = answer.json()["details"]
    return details


@pytest.mark.parametrize(
    ("changed", "status", "code", "details"),
    [
        (
            {"user_id": "someone"},
            403,
            "forbidden",
            {"scope": "trade:others", "allowed": "operator admin"},
        ),
        ({"side": "up"}, 400, "invalid_request", {"field": "side"}),
        ({"colour": 1}, 400, "invalid_request", {}),
        ({"price": "1e3"}, 400, "invalid_request", {"field": "price"}),
        ({"quantity": "0.000000001"}, 400, "invalid_request", {"field": "quantity"}),
        ({"client_order_id": None}, 400, "invalid_request", {"field": "client_order_id"}),
        ({"market": "X-Y"}, 404, "unknown_market", {"market": "X-Y"}),
        ({"price": "2.50001"}, 422, "price_off_tick", {"tick": "0.00010000"}),
        (
            {"quantity": "100000000"},
            422,
            "insufficient_funds",
            {"asset": "CNY", "needed": "250000000.00000000", "available": "999997.50000000"},
        ),
        ({"client_order_id": "first"}, 409, "duplicate_client_order_id", {"order_id": 1}),
        ({"market": "x" * 100_000}, 413, "payload_too_large", {}),
    ],
)
def test_an_order_is_refused_with_code_and_details(
    view_redis: str,
    tmp_path: Path,
    changed: dict[str, Any],
    status: int,
    code: str,
    details: dict[str, Any],
) -> None:
    async def story(client: Client) -> None:
        client.line.fund("u1")
        first = await client.order("u1", limit_order("buy", "2.5", "1", "first"))
        assert first.status_code == 201
        body = {**limit_order("buy", "2.5", "1", "second"), **changed}
        found = await expect(
            client, status, code, "POST", "/v1/orders", who=("u1", "user"), json=body
        )
        assert found == details

    run(view_redis, tmp_path, story)


def test_requests_are_refused_with_a_stable_code(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        order = limit_order("buy", "2.5", "1", "o1")
        deposit = {"user_id": "u1", "asset": "CNY", "amount": "5", "reference": "r1"}
        user, operator, orders = ("u1", "user"), ("boss", "operator"), "/v1/orders"
        await expect(client, 401, "unauthorized", "POST", orders, json=order)
        await expect(client, 403, "forbidden", "POST", orders, who=("a", "auditor"), json=order)
        await expect(client, 403, "forbidden", "POST", "/v1/deposits", who=user, json=deposit)
        booked = await client.call("POST", "trading", "/v1/deposits", who=operator, json=deposit)
        assert (booked.status_code, booked.json()["amount"]) == (201, "5.00000000")
        again = await expect(
            client, 409, "duplicate_reference", "POST", "/v1/deposits", who=operator, json=deposit
        )
        assert again == {"reference": "r1"}
        await expect(client, 404, "unknown_order", "DELETE", "/v1/orders/7", who=user)
        await expect(client, 400, "invalid_request", "DELETE", "/v1/orders/x", who=user)
        await expect(client, 404, "not_found", "GET", "/v1/nothing")
        await expect(client, 405, "method_not_allowed", "PUT", orders)
        await expect(client, 404, "not_found", "GET", "/v1/ticker", query={"market": MARKET})
        await expect(client, 404, "unknown_market", "GET", "/v1/ticker", query={"market": "X"})
        klines = {"market": MARKET, "interval": "1m"}
        for bad in ({"limit": 0}, {"limit": 1_001}, {"from": "soon"}, {"interval": "2m"}):
            query = {**klines, **bad}
            await expect(client, 400, "invalid_request", "GET", "/v1/klines", query=query)

    run(view_redis, tmp_path, story)


def test_a_command_is_carried_over_to_the_next_connection(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        client.line.fund("u1")
        engine = client.line.engine
        engine.is_mute = True
        asked = [
            asyncio.create_task(client.order("u1", limit_order("buy", "1", "1", f"o{n}")))
            for n in range(20)
        ]
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                if len(engine.requests) == len(asked):
                    break
                await asyncio.sleep(0.005)
        engine.is_mute = False
        engine.cut()
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {201}
        assert {answer.headers["idempotency-replayed"] for answer in answers} == {"true"}
        assert len({answer.json()["order_id"] for answer in answers}) == 20

    run(view_redis, tmp_path, story)


def test_an_answer_that_never_comes_is_reported_as_unknown(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        client.line.fund("u1")
        client.line.engine.is_mute = True
        order = limit_order("buy", "1", "1", "o")
        body = {"who": ("u1", "user"), "json": order}
        details = await expect(client, 503, "engine_unavailable", "POST", "/v1/orders", **body)
        assert details == {"outcome": "unknown"}
        client.line.engine.is_mute = False
        again = await client.order("u1", order)
        assert (again.status_code, again.json()["code"]) == (409, "duplicate_client_order_id")

    run(view_redis, tmp_path, story)


def test_a_repeated_key_gets_the_first_answer(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        client.line.fund("u1")

        async def order(key: str, quantity: str, client_order_id: str | None) -> httpx.Response:
            body = limit_order("buy", "1", quantity, "")
            body["client_order_id"] = client_order_id
            return await client.call(
                "POST",
                "trading",
                "/v1/orders",
                who=("u1", "user"),
                json=body,
                headers={"Idempotency-Key": key},
            )

        first = await order("k1", "1", "o1")
        assert (first.status_code, first.headers.get("idempotency-replayed")) == (201, None)
        size = len(client.line.engine.log)
        again = await order("k1", "1", "o1")
        assert (again.status_code, again.json()) == (201, first.json())
        assert again.headers["idempotency-replayed"] == "true"
        reused = await order("k1", "2", "o1")
        assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
        assert len(client.line.engine.log) == size
        by_key_alone = await order("k2", "1", None)
        assert by_key_alone.json()["client_order_id"] == "k2"
        refused = await order("k3", "1", "o1")
        again = await order("k3", "1", "o1")
        assert (refused.status_code, again.status_code) == (409, 409)
        assert again.headers["idempotency-replayed"] == "true"
        for bad in ("", "a b", "~k", "k" * 129):
            answer = await order(bad, "1", "o9")
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")
        assert (await order("k" * 128, "1", "o9")).status_code == 201

    run(view_redis, tmp_path, story)


def test_cancelling_takes_a_key_too(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        client.line.fund("u1")
        await client.order("u1", limit_order("buy", "1", "1", "o1"))
        cancels = [
            await client.call(
                "DELETE",
                "trading",
                "/v1/orders/1",
                who=("u1", "user"),
                headers={"Idempotency-Key": key},
            )
            for key in ("c1", "c1", "c2")
        ]
        assert [answer.status_code for answer in cancels] == [200, 200, 404]
        assert cancels[0].json() == cancels[1].json()

    run(view_redis, tmp_path, story)


def test_every_answer_has_a_request_id_and_the_engine_gets_it(
    view_redis: str, tmp_path: Path
) -> None:
    async def story(client: Client) -> None:
        client.line.fund("u1")
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

        async def settle(headers: dict[str, str]) -> str:
            who, path = ("u1", "user"), "/v1/mining/settle"
            answer = await client.call("POST", "mining", path, who=who, headers=headers)
            sent: str = answer.headers["x-request-id"]
            assert client.line.engine.requests[-1].trace == sent
            return sent

        assert await settle({"X-Request-Id": "abc-1", "traceparent": parent}) == "abc-1"
        assert await settle({"traceparent": parent}) == parent[3:35]
        made = [await settle({}), await settle({"X-Request-Id": "x" * 65, "traceparent": "00-0"})]
        assert len({*made}) == 2
        assert {len(trace) for trace in made} == {32}
        missing = await client.call("GET", "mining", "/v1/nothing")
        assert missing.headers["x-request-id"]

    run(view_redis, tmp_path, story)


def test_metrics_count_commands_by_outcome(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        client.line.fund("u1")
        await client.order("u1", limit_order("buy", "1", "1", "o1"))
        await client.order("u1", limit_order("buy", "1", "1", "o1"))
        answer = await client.call("GET", "mining", "/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        lines = set(answer.text.splitlines())
        name = 'durian_gateway_commands_total{command="place_order",outcome="%s"} 1.0'
        assert {name % "accepted", name % "duplicate_client_order_id"} <= lines
        assert "durian_gateway_engine_connected 1.0" in lines

    run(view_redis, tmp_path, story)


def test_readiness_names_what_is_down(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        client.line.engine.hang_up()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                answer = await client.call("GET", "mining", "/readyz")
                if answer.status_code == 503:
                    break
                await asyncio.sleep(0.02)
        assert answer.json() == {
            "ready": False,
            "parts": {"redis": "ok", "engine": "not connected"},
        }
        assert (await client.call("GET", "mining", "/healthz")).status_code == 200
        await client.line.views.project()
        refused = await client.order("u1", limit_order("buy", "1", "1", "o"))
        assert (refused.status_code, refused.json()["details"]) == (503, {"outcome": "not_sent"})
        assert refused.headers["retry-after"] == "1"

    run(view_redis, tmp_path, story)
