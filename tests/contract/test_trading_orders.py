"""Orders and fills over HTTP with a real log behind: each list is whole, however it is paged."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.commands import CancelOrder, PlaceOrder, ReplaceOrder
from tests.fixtures._gateway_line import Line, running_line
from tests.fixtures._http_client import MARKET, Client, limit_order
from tests.fixtures._log_copy import LogCopy
from tests.fixtures.postgres import LedgerDatabase

pytestmark = pytest.mark.services
USERS = ("ann", "bob")


class Trading(Client):
    """copy: of the engine's log."""

    def __init__(self, line: Line, http: httpx.AsyncClient, copy: LogCopy) -> None:
        super().__init__(line, http, "trading")
        self._copy = copy

    async def settle(self) -> None:
        """The log and the views have all that happened."""
        await self._copy.append()
        await self.line.views.project()

    async def pages(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = await self.ask("GET", path, **query, **cursor)
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            cursor = {"cursor": page["next_cursor"]}


Story = Callable[[Trading], Awaitable[None]]


def run(view_redis: str, directory: Path, database: LedgerDatabase, story: Story) -> None:
    async def told() -> None:
        async with (
            running_line(
                view_redis, directory, ("trading",), postgres_url=database.reader_url
            ) as line,
            httpx.AsyncClient() as http,
        ):
            copy = LogCopy(database, line.engine)
            try:
                line.fund(*USERS)
                client = Trading(line, http, copy)
                await client.settle()
                await story(client)
            finally:
                copy.close()

    asyncio.run(told())


def test_an_order_is_replaced_in_its_place_or_anew(
    view_redis: str, tmp_path: Path, ledger_database: LedgerDatabase
) -> None:
    async def story(client: Trading) -> None:
        await client.order("ann", limit_order("sell", "2", "10", "a1"))
        smaller = {"price": "2", "quantity": "4"}
        # Neither views nor log know the order yet; then the log does, then the views.
        path = "/v1/orders/1"
        asked = {"who": "ann", "body": smaller, "key": "k1"}
        assert await client.refused("PATCH", path, **asked) == (404, "unknown_order")
        await client.settle()
        shrunk = await client.ask("PATCH", path, **asked)
        assert shrunk == {
            "replaced_order_id": 1,
            "kept_place": True,
            "leaves_quantity": "4.00000000",
            "released_asset": "DUR",
            "released": "6.00000000",
            "order": None,
            "position": len(client.line.engine.log),
        }
        assert await client.ask("PATCH", path, **asked) == shrunk
        dearer = {"price": "3", "quantity": "5", "client_order_id": "a2"}
        anew = await client.ask("PATCH", path, who="ann", body=dearer)
        assert (anew["kept_place"], anew["released"]) == (False, "4.00000000")
        assert (anew["order"]["order_id"], anew["order"]["status"]) == (2, "open")
        await client.settle()
        stranger = await client.refused("PATCH", "/v1/orders/2", who="bob", body=smaller, key="b")
        assert stranger == (404, "unknown_order")
        gone = await client.refused("PATCH", path, who="ann", body=smaller, key="k2")
        assert gone == (404, "unknown_order")
        first = await client.ask("GET", path, who="ann")
        assert (first["order"]["status"], first["order"]["cancel_reason"]) == (
            "cancelled",
            "replaced",
        )

    run(view_redis, tmp_path, ledger_database, story)


def test_all_orders_are_cancelled_at_once(
    view_redis: str, tmp_path: Path, ledger_database: LedgerDatabase
) -> None:
    async def story(client: Trading) -> None:
        for number in range(3):
            await client.order("ann", limit_order("buy", "1", "1", f"a{number}"))
        gone = await client.ask("DELETE", "/v1/orders", who="ann", market=MARKET, key="c")
        assert [item["order_id"] for item in gone["items"]] == [1, 2, 3]
        assert {item["released"] for item in gone["items"]} == {"1.00000000"}
        assert await client.ask("DELETE", "/v1/orders", who="ann", market=MARKET, key="c") == gone
        none = await client.refused("DELETE", "/v1/orders", who="ann")
        assert none == (422, "no_open_orders")
        await client.settle()
        assert (await client.ask("GET", "/v1/orders", who="ann"))["items"] == []

    run(view_redis, tmp_path, ledger_database, story)


def test_market_orders_by_budget_and_orders_that_only_make(
    view_redis: str, tmp_path: Path, ledger_database: LedgerDatabase
) -> None:
    async def story(client: Trading) -> None:
        await client.order("ann", limit_order("sell", "2", "10", "a1"))
        budget = {"market": MARKET, "side": "buy", "type": "market", "time_in_force": "ioc"}
        body = {**budget, "quote_budget": "5", "client_order_id": "b1"}
        bought = await client.order("bob", body)
        assert (bought["status"], bought["filled_quantity"]) == ("filled", "2.50000000")
        taking = {**limit_order("buy", "2", "1", "b2"), "post_only": True}
        refused = await client.refused("POST", "/v1/orders", who="bob", body=taking)
        assert refused == (422, "post_only_would_trade")
        both = {**body, "quantity": "1", "client_order_id": "b3"}
        invalid = await client.refused("POST", "/v1/orders", who="bob", body=both)
        assert invalid == (422, "invalid_order")

    run(view_redis, tmp_path, ledger_database, story)


def _at_random(line: Line, chance: random.Random, number: int) -> None:
    """Something a user may do with orders; refused at times."""
    user_id = chance.choice(USERS)
    mine = [order.order_id for order in line.engine.state.orders.values()]
    price, quantity = chance.randint(95, 105) * 10**6, chance.randint(1, 5) * 10**8
    kind = chance.random()
    if kind < 0.15 and mine:
        line.engine.offer(CancelOrder(user_id=user_id, order_id=chance.choice(mine)))
    elif kind < 0.35 and mine:
        line.engine.offer(
            ReplaceOrder(
                user_id=user_id,
                order_id=chance.choice(mine),
                new_client_order_id=f"r{number}",
                price_minor=price,
                quantity_minor=quantity,
            )
        )
    else:
        line.engine.offer(
            PlaceOrder(
                user_id=user_id,
                client_order_id=f"c{number}",
                market_id=MARKET,
                side=chance.choice(("buy", "sell")),
                order_type="limit",
                price_minor=price,
                quantity_minor=quantity,
            )
        )


@pytest.mark.parametrize("seed", [1, 2])
def test_lists_are_whole_however_they_are_paged(
    view_redis: str, tmp_path: Path, ledger_database: LedgerDatabase, seed: int
) -> None:
    async def story(client: Trading) -> None:
        chance = random.Random(seed)
        for number in range(600):
            _at_random(client.line, chance, number)
        await client.settle()
        for user_id in USERS:
            await _check_lists(client, user_id)

    run(view_redis, tmp_path, ledger_database, story)


async def _check_lists(client: Trading, user_id: str) -> None:
    who = {"who": user_id}
    every = await client.pages("/v1/orders", **who, state="all", limit=1_000)
    numbers = [order["order_id"] for order in every]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) > 100
    shown = await client.pages("/v1/orders", **who, state="open", limit=1_000)
    assert shown == [
        order for order in every if order["cancel_reason"] is None and order["status"] != "filled"
    ]
    closed = await client.pages("/v1/orders", **who, state="closed", limit=1_000)
    assert closed == [order for order in every if order not in shown]
    for limit in (7, 100):
        for state, expected in (("all", every), ("open", shown), ("closed", closed)):
            assert await client.pages("/v1/orders", **who, state=state, limit=limit) == expected
    fills = await client.pages("/v1/fills", **who, limit=1_000)
    assert len(fills) > 100
    for limit in (13, 99, 500):
        assert await client.pages("/v1/fills", **who, limit=limit) == fills
    assert await client.pages("/v1/fills", **who, limit=13, market=MARKET) == fills
    for order in chosen(every):
        one = await client.ask("GET", f"/v1/orders/{order['order_id']}", **who)
        assert one["order"] == order
        its = [fill for fill in fills if fill["order_id"] == order["order_id"]]
        assert one["fills"] == its[::-1]
        assert await client.pages("/v1/fills", **who, order_id=order["order_id"]) == its


def chosen(orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return orders[::25]


def test_trades_go_back_beyond_what_the_views_keep(
    view_redis: str, tmp_path: Path, ledger_database: LedgerDatabase
) -> None:
    async def story(client: Trading) -> None:
        for number in range(1_100):
            for user_id, side in (("ann", "sell"), ("bob", "buy")):
                client.line.engine.accept(
                    PlaceOrder(
                        user_id=user_id,
                        client_order_id=f"{number}",
                        market_id=MARKET,
                        side="sell" if side == "sell" else "buy",
                        order_type="limit",
                        price_minor=10**8,
                        quantity_minor=10**8,
                    )
                )
        await client.settle()
        found: list[int] = []
        query: dict[str, str | int] = {"market": MARKET, "limit": 300}
        while True:
            page = await client.ask("GET", "/v1/trades", **query)
            found = [trade["trade_id"] for trade in page["items"]] + found
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        assert found == list(range(1, 1_101))

    run(view_redis, tmp_path, ledger_database, story)


def test_nobody_sees_others_orders(
    view_redis: str, tmp_path: Path, ledger_database: LedgerDatabase
) -> None:
    async def story(client: Trading) -> None:
        await client.order("ann", limit_order("sell", "2", "10", "a1"))
        await client.settle()
        path = "/v1/orders/1"
        assert await client.refused("GET", path, who="bob") == (404, "unknown_order")
        assert await client.refused("GET", path, who="bob", user_id="ann") == (403, "forbidden")
        seen = await client.ask("GET", path, who="eve", role="auditor")
        assert (seen["user_id"], seen["order"]["order_id"]) == ("ann", 1)
        listed = await client.ask("GET", "/v1/orders", who="eve", role="auditor", user_id="ann")
        assert [order["order_id"] for order in listed["items"]] == [1]
        assert await client.refused("GET", "/v1/fills", who="bob", user_id="ann") == (
            403,
            "forbidden",
        )

    run(view_redis, tmp_path, ledger_database, story)
