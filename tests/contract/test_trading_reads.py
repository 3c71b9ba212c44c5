"""Reads of the trading service beside orders: rules, depth, tickers, burns, transactions."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.commands import HaltMarket
from tests.contract.test_history_queries import fill
from tests.fixtures._gateway_line import running_line
from tests.fixtures._http_client import MARKET, Client, limit_order
from tests.fixtures.history import HistoryDatabase

pytestmark = pytest.mark.services
Story = Callable[[Client], Awaitable[None]]


def run(view_redis: str, directory: Path, history_url: str, story: Story) -> None:
    async def told() -> None:
        async with (
            running_line(view_redis, directory, ("trading",), history_url=history_url) as line,
            httpx.AsyncClient() as http,
        ):
            line.fund("maker", "taker")
            client = Client(line, http, "trading")
            await line.views.project()
            await client.order("maker", limit_order("sell", "2.5", "10", "m1"))
            await client.order("maker", limit_order("sell", "2.6", "10", "m2"))
            await client.order("maker", limit_order("buy", "2.4", "10", "m3"))
            await client.order("taker", limit_order("buy", "3", "4", "t1"))
            await line.views.project()
            await story(client)

    asyncio.run(told())


def test_markets_and_their_books(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        (market,) = (await client.ask("GET", "/v1/markets"))["items"]
        assert await client.ask("GET", f"/v1/markets/{MARKET}") == market
        assert (market["burn_bps"], market["is_halted"], market["halt_reason"]) == (10, False, None)
        unknown = await client.refused("GET", "/v1/markets/X")
        assert unknown == (404, "unknown_market")
        depth = await client.ask("GET", "/v1/depth", market=MARKET, levels=1)
        assert depth["asks"] == [["2.50000000", "6.00000000"]]
        assert depth["bids"] == [["2.40000000", "10.00000000"]]
        assert len((await client.ask("GET", "/v1/depth", market=MARKET))["asks"]) == 2
        (ticker,) = (await client.ask("GET", "/v1/tickers"))["items"]
        assert ticker == await client.ask("GET", "/v1/ticker", market=MARKET)
        total = await client.ask("GET", "/v1/burns/total", asset="DUR")
        assert (total["total"], total["by_trades"]) == ("0.00400000", "0.00400000")
        one_of_two = await client.refused("GET", "/v1/burns")
        assert one_of_two == (400, "invalid_request")
        client.line.engine.accept(HaltMarket(market_id=MARKET, reason="maintenance"))
        await client.line.views.project()

        async def halted() -> dict[str, Any]:
            return await client.ask("GET", f"/v1/markets/{MARKET}")

        # The catalogue is some seconds old at most.
        async with asyncio.timeout(20):
            while True:
                if (await halted())["is_halted"]:
                    break
                await asyncio.sleep(0.2)
        assert (await halted())["halt_reason"] == "maintenance"

    run(view_redis, tmp_path, "", story)


def test_transactions_are_the_changes_of_the_balances(
    view_redis: str, tmp_path: Path, history_database: HistoryDatabase
) -> None:
    async def story(client: Client) -> None:
        await fill(history_database, client.line.engine.log)
        every = await client.ask("GET", "/v1/transactions", who="taker")
        assert every["next_cursor"] is None
        newest_first = [row["position"] for row in every["items"]]
        assert newest_first == sorted(newest_first, reverse=True)
        bought = [row for row in every["items"] if row["type"] == "trade_executed"]
        assert {row["asset"]: (row["available"], row["held"]) for row in bought} == {
            "DUR": ("3.99600000", "0.00000000"),
            "CNY": ("2.00000000", "-12.00000000"),
        }
        assert {(row["price"], row["quantity"], row["order_id"]) for row in bought} == {
            ("2.50000000", "4.00000000", 4)
        }
        asked = {"who": "taker", "type_": "trade_executed"}
        assert (await client.ask("GET", "/v1/transactions", **asked))["items"] == bought
        deposits = await client.ask("GET", "/v1/transactions", who="taker", asset="CNY", limit=1)
        assert len(deposits["items"]) == 1
        stranger = await client.refused("GET", "/v1/transactions", who="maker", user_id="taker")
        assert stranger == (403, "forbidden")

    run(view_redis, tmp_path, history_database.reader_url, story)


def test_without_a_history_there_are_no_transactions(view_redis: str, tmp_path: Path) -> None:
    async def story(client: Client) -> None:
        refused = await client.refused("GET", "/v1/transactions", who="taker")
        assert refused == (503, "history_unavailable")
        closed = await client.refused("GET", "/v1/orders", who="taker", state="closed")
        assert closed == (503, "history_unavailable")
        shown = await client.ask("GET", "/v1/orders", who="maker")
        assert [order["order_id"] for order in shown["items"]] == [3, 2, 1]
        (filled,) = (await client.ask("GET", "/v1/fills", who="taker"))["items"]
        assert (filled["role"], filled["fee_asset"]) == ("taker", "DUR")

    run(view_redis, tmp_path, "", story)
