"""The chart feed as TradingView's library asks it: bars of a period, counted back, and none."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures._gateway_line import running_line
from tests.fixtures._http_client import MARKET, Client, limit_order
from tests.fixtures.tiny_engine import GENESIS_SECOND

pytestmark = pytest.mark.services
FIRST = GENESIS_SECOND // 60 * 60


def run(view_redis: str, directory: Path, story: Callable[[Client], Awaitable[None]]) -> None:
    async def told() -> None:
        async with (
            running_line(view_redis, directory, ("trading",)) as line,
            httpx.AsyncClient() as http,
        ):
            line.fund("maker", "taker")
            client = Client(line, http, "trading")
            await client.order("maker", limit_order("sell", "2.5", "10", "m"))
            await client.order("taker", limit_order("buy", "3", "0.5", "t1"))
            line.engine.pass_seconds(600)
            await client.order("taker", limit_order("buy", "3", "1", "t2"))
            await line.views.project()
            await story(client)

    asyncio.run(told())


async def bars(client: Client, **query: Any) -> dict[str, Any]:
    asked = {"symbol": MARKET, "resolution": "1", **query}
    return await client.ask("GET", "/v1/udf/history", **asked)


def test_what_a_chart_asks_before_it_draws(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        config = await client.ask("GET", "/v1/udf/config")
        assert config["supported_resolutions"] == ["1", "5", "15", "30", "60", "240", "1D", "1W"]
        time = await client.call("GET", "/v1/udf/time")
        assert time.headers["content-type"].startswith("text/plain")
        assert time.text.isdecimal()
        symbol = await client.ask("GET", "/v1/udf/symbols", symbol=MARKET)
        assert (symbol["minmov"], symbol["pricescale"]) == (1, 10_000)
        found = await client.call("GET", "/v1/udf/search", query="dur", type="", exchange="")
        assert [match["symbol"] for match in found.json()] == [MARKET]
        none = await client.call("GET", "/v1/udf/search", query="zzz")
        assert none.json() == []
        unknown = await client.refused("GET", "/v1/udf/symbols", symbol="X-Y")
        assert unknown == (404, "unknown_market")

    run(view_redis, tmp_path, story)


def test_bars_are_numbers_exact_to_the_last_digit(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        asked: dict[str, Any] = {"symbol": MARKET, "resolution": "1W", "from": 0}
        answer = await client.call("GET", "/v1/udf/history", **asked, to=FIRST + 7_200)
        assert b'"o":[2.50000000]' in answer.content
        assert b'"v":[1.50000000]' in answer.content
        every = await bars(client, **{"from": FIRST, "to": FIRST + 1_000})
        assert every["s"] == "ok"
        assert every["t"] == list(range(every["t"][0], every["t"][0] + 60 * len(every["t"]), 60))
        assert {len(every[name]) for name in "tohlcv"} == {11}
        assert every["o"] == [2.5] * 11
        assert every["v"] == [0.5, *[0] * 9, 1]

    run(view_redis, tmp_path, story)


def test_a_period_and_a_count(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        every = await bars(client, **{"from": 0, "to": FIRST + 1_000})
        last, first = every["t"][-1], every["t"][0]
        part = await bars(client, **{"from": first + 60, "to": first + 180})
        assert part["t"] == [first + 60, first + 120]
        counted = await bars(client, **{"from": last, "to": last + 60}, countback=3)
        assert counted["t"] == [last - 120, last - 60, last]
        later = await bars(client, **{"from": last + 600, "to": last + 900})
        assert later == {"s": "no_data", "nextTime": last}
        before = await bars(client, **{"from": -1_000, "to": first - 60})
        assert before == {"s": "no_data"}
        weeks = await bars(client, **{"from": 0, "to": FIRST + 1_000}, resolution="1W")
        assert len(weeks["t"]) == 1

    run(view_redis, tmp_path, story)
