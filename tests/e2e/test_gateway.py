"""A whole running stack by public HTTP and WebSocket alone: an order's way to a phone."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from schemas.accrual import accrued_minor
from schemas.amounts import parse_amount

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
MARKET = "DUR-CNY"
DEADLINE_SECONDS = 30.0


def durian(*arguments: str) -> str:
    """Standard output of one `durian` command, which must succeed."""
    ran = subprocess.run(
        [sys.executable, "-m", "ops", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-4_000:]
    return ran.stdout


class Stack:
    """A running stack's public addresses."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        parts = json.loads(durian("status", "--json", "--data", str(directory)))["parts"]
        self.urls = {name: part["url"] for name, part in parts.items() if "url" in part}

    def bearer(self, user: str, role: str) -> dict[str, str]:
        token = durian("token", "--user", user, "--role", role, "--data", str(self._directory))
        return {"authorization": f"Bearer {token.strip()}"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("gateway") / "ledger"
    durian("up", "--detach", "--data", str(directory))
    try:
        yield Stack(directory)
    finally:
        durian("down", "--data", str(directory))


async def next_message(ws: ClientConnection, op: str, ch: str) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            message: dict[str, Any] = json.loads(await ws.recv())
            if (message["op"], message.get("ch")) == (op, ch):
                return message


async def post(http: httpx.AsyncClient, url: str, who: dict[str, str], **body: str) -> Any:
    answer = await http.post(url, headers=who, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def place_and_take(stack: Stack, http: httpx.AsyncClient) -> dict[str, Any]:
    """A miner sells 10 DUR at 2.5 CNY, a buyer takes 4; what the buyer was answered."""
    operator = stack.bearer("boss", "operator")
    miner, buyer = stack.bearer("miner", "user"), stack.bearer("buyer", "user")
    trading = stack.urls["trading"]
    for user, asset in (("miner", "DUR"), ("buyer", "CNY")):
        deposit = {"user_id": user, "asset": asset, "amount": "1000", "reference": f"first-{user}"}
        await post(http, f"{trading}/v1/deposits", operator, **deposit)
    grant = {"user_id": "miner", "source": "device", "weight": "3", "grant_id": "g1"}
    await post(http, f"{stack.urls['contribution']}/v1/contributions", operator, **grant)
    order = {"market": MARKET, "type": "limit", "price": "2.5", "client_order_id": "one"}
    orders = f"{trading}/v1/orders"
    await post(http, orders, miner, **order, side="sell", quantity="10")
    taken: dict[str, Any] = await post(http, orders, buyer, **order, side="buy", quantity="4")
    return taken


async def subscribe(ws: ClientConnection, names: tuple[str, ...]) -> None:
    """Until it is granted: a market of the last second may still be unknown to the stream."""
    asked = [{"ch": name} for name in names]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            await ws.send(json.dumps({"op": "subscribe", "id": 1, "channels": asked}))
            answer = json.loads(await ws.recv())
            if answer["op"] == "ack":
                return
            assert answer["code"] == "unknown_channel", answer
            await asyncio.sleep(0.05)


def test_an_order_reaches_stream_and_views(stack: Stack) -> None:
    async def story() -> None:
        header, trades = stack.bearer("buyer", "user"), f"trades.{MARKET}"
        names = ("pulse", trades, "account", f"kline.{MARKET}.1m", f"burns.{MARKET}")
        async with (
            connect(stack.urls["stream"], additional_headers=header) as ws,
            httpx.AsyncClient(timeout=DEADLINE_SECONDS) as http,
        ):
            await subscribe(ws, names)
            await next_message(ws, "snapshot", trades)
            taken = await place_and_take(stack, http)
            assert taken["status"] == "filled"
            published = await next_message(ws, "pub", trades)
            assert [published["data"]] == taken["trades"]
            candle = await next_message(ws, "pub", f"kline.{MARKET}.1m")
            assert candle["data"]["volume"] == "4.00000000"
            pulse = await next_message(ws, "pub", "pulse")
            after = await next_message(ws, "pub", "pulse")
            assert after["data"]["second"] == pulse["data"]["second"] + 1
            await check_balances(stack, http)

    asyncio.run(story())


async def check_balances(stack: Stack, http: httpx.AsyncClient) -> None:
    buyer, miner = stack.bearer("buyer", "user"), stack.bearer("miner", "user")
    held = (await http.get(f"{stack.urls['trading']}/v1/balances", headers=buyer)).json()["items"]
    assert {each["asset"]: each["available"] for each in held} == {
        "CNY": "990.00000000",
        "DUR": "3.99600000",
    }
    share = (await http.get(f"{stack.urls['mining']}/v1/mining/me", headers=miner)).json()
    computed = accrued_minor(
        weight=int(share["weight"]),
        index=int(share["index"]),
        entry_index=int(share["entry_index"]),
        entry_fraction=int(share["entry_fraction"]),
    )
    assert parse_amount(share["accrued"], share["scale"]) == computed > 0
    page = {"market": MARKET, "interval": "1m"}
    candles = (await http.get(f"{stack.urls['trading']}/v1/klines", params=page)).json()["items"]
    assert candles[0]["trade_count"] == 1
    burns = (await http.get(f"{stack.urls['trading']}/v1/burns", params={"market": MARKET})).json()
    assert burns["cumulative"] == "0.00400000"


@pytest.mark.parametrize("service", ["contribution", "mining", "trading", "stream"])
def test_every_service_is_healthy_and_ready(stack: Stack, service: str) -> None:
    url = stack.urls[service].replace("ws://", "http://").removesuffix("/v1/stream")
    assert httpx.get(f"{url}/healthz").status_code == 200
    assert httpx.get(f"{url}/readyz").json() == {
        "ready": True,
        "parts": {"redis": "ok", "engine": "ok"},
    }
