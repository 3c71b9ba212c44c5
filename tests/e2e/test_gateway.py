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

from gateway.routes_health import ALSO, NEEDED
from ops.stream.client import StreamClient
from ops.stream.errors import StreamRefused
from ops.stream.following import Change
from schemas.accrual import accrued_minor
from schemas.amounts import parse_amount
from schemas.wire import WireCode

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

    def token(self, user: str, role: str = "user") -> str:
        data = ("--data", str(self._directory))
        return durian("token", "--user", user, "--role", role, *data).strip()

    def bearer(self, user: str, role: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token(user, role)}"}

    def watch(self, *arguments: str) -> list[dict[str, Any]]:
        """What `durian watch --json` prints."""
        data = ("--data", str(self._directory))
        lines = durian("watch", *arguments, "--json", *data).splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("gateway") / "ledger"
    durian("up", "--detach", "--data", str(directory))
    try:
        yield Stack(directory)
    finally:
        durian("down", "--data", str(directory))


async def next_publication(client: StreamClient, channel: str) -> Change:
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for change in client:
            if (change.kind, change.channel) == ("publication", channel):
                return change
    raise AssertionError("the stream ended")


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


async def subscribe(client: StreamClient, names: tuple[str, ...]) -> None:
    """Until it is granted: a market of the last second may still be unknown to the stream."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                await client.subscribe(*names)
            except StreamRefused as refused:
                assert refused.code == WireCode.UNKNOWN_CHANNEL
                await asyncio.sleep(0.05)
            else:
                return


def test_an_order_reaches_stream_and_views(stack: Stack) -> None:
    async def story() -> None:
        token, trades = stack.token("buyer"), f"trades.{MARKET}"
        names = ("pulse", trades, "account", f"kline.{MARKET}.1m", f"burns.{MARKET}")
        async with (
            StreamClient(stack.urls["stream"], token=lambda: token) as client,
            httpx.AsyncClient(timeout=DEADLINE_SECONDS) as http,
        ):
            await subscribe(client, names)
            async with asyncio.timeout(DEADLINE_SECONDS):
                async for _ in client:
                    if client.is_settled(*names):
                        break
            taken = await place_and_take(stack, http)
            assert taken["status"] == "filled"
            published = await next_publication(client, trades)
            assert [published.data] == taken["trades"]
            while not client.state(f"kline.{MARKET}.1m"):
                await next_publication(client, f"kline.{MARKET}.1m")
            assert client.state(f"kline.{MARKET}.1m")["volume"] == "4.00000000"
            pulse = await next_publication(client, "pulse")
            after = await next_publication(client, "pulse")
            assert after.state["second"] == pulse.state["second"] + 1
            assert after.state["prices"] == {MARKET: "2.50000000"}
            await check_balances(stack, http)

    asyncio.run(story())


def test_watch_shows_a_balance_by_the_second(stack: Stack) -> None:
    lines = stack.watch("pulse", "account", "--user", "miner", "--count", "8")
    computed = [line["data"] for line in lines if line["kind"] == "computed"]
    assert len(computed) >= 2
    seconds = [balance["second"] for balance in computed]
    assert seconds == list(range(seconds[0], seconds[0] + len(seconds)))
    served = stack.watch("balance", "--user", "miner", "--count", "3")
    assert [line["channel"] for line in served] == ["balance"] * 3
    assert served[0]["data"].keys() == computed[0].keys()


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


@pytest.mark.parametrize("service", NEEDED)
def test_every_service_is_healthy_and_ready(stack: Stack, service: str) -> None:
    url = stack.urls[service].replace("ws://", "http://").removesuffix("/v1/stream")
    assert httpx.get(f"{url}/healthz").status_code == 200
    named = {*NEEDED[service], *ALSO[service]}
    assert httpx.get(f"{url}/readyz").json() == {"ready": True, "parts": dict.fromkeys(named, "ok")}
