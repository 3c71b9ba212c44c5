"""Channels depth and balance over real uvicorn, Redis and folds."""

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from schemas.commands import CancelAllOrders, SettleAccrual
from schemas.events import Side
from tests.fixtures._gateway_line import DEADLINE_SECONDS, Line, receive, running_line, send
from tests.fixtures._traded_line import MARKET
from tests.fixtures._traded_line import place as place_order

pytestmark = pytest.mark.services
DEPTH = f"depth.{MARKET}"
# So many publications of 200 levels are several times what buffers take.
MANY = 100
Story = Callable[[Line], Awaitable[None]]


def run(view_redis: str, directory: Path, story: Story) -> None:
    async def told() -> None:
        async with running_line(view_redis, directory, ("stream",)) as line:
            await story(line)

    asyncio.run(told())


def place(line: Line, number: int, *, user_id: str = "maker", side: Side = "sell") -> None:
    place_order(line, user_id, side, number)


async def subscribe(ws: ClientConnection, name: str, **since: object) -> None:
    asked = {"ch": name, **({"since": since} if since else {})}
    await send(ws, {"op": "subscribe", "id": 1, "channels": [asked]})


class Book:
    """A client's book as docs/protocol.md says to keep it."""

    def __init__(self) -> None:
        self.offset = -1
        self.sides: dict[str, dict[str, str]] = {}

    def take(self, message: dict[str, Any]) -> None:
        content = message["data"]
        if message["op"] == "snapshot":
            self.sides = {side: dict(content[side]) for side in ("bids", "asks")}
        else:
            assert content["previous"] == self.offset
            for side, levels in self.sides.items():
                levels.update(content[side])
                gone = [price for price, quantity in levels.items() if quantity == "0"]
                for price in gone:
                    del levels[price]
        self.offset = message["offset"]


async def any_of(ws: ClientConnection, name: str) -> dict[str, Any]:
    """The next snapshot or publication of a channel."""
    while True:
        async with asyncio.timeout(DEADLINE_SECONDS):
            message: dict[str, Any] = msgspec.json.decode(await ws.recv())
        if message.get("ch") == name:
            return message


def test_depth_begins_empty_and_follows_every_change(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        line.fund("maker", "taker")
        await line.views.project()
        async with connect(line.urls["stream"]) as ws:
            await subscribe(ws, DEPTH)
            snapshot = await receive(ws, "snapshot", DEPTH)
            assert (snapshot["offset"], snapshot["data"]) == (0, {"bids": [], "asks": []})
            book = Book()
            book.take(snapshot)
            for number in (1, 2, 3):
                place(line, number)
                await line.views.project()
                book.take(await receive(ws, "pub", DEPTH))
            assert book.sides["asks"]["1.00010000"] == "1.00000000"
            place(line, 1, user_id="taker", side="buy")
            await line.views.project()
            book.take(await receive(ws, "pub", DEPTH))
            assert list(book.sides["asks"]) == ["1.00020000", "1.00030000"]
            async with connect(line.urls["stream"]) as late:
                await subscribe(late, DEPTH)
                fresh = Book()
                fresh.take(await receive(late, "snapshot", DEPTH))
                assert (fresh.offset, fresh.sides) == (book.offset, book.sides)

    run(view_redis, tmp_path, story)


def test_depth_resumes_where_it_was_cut(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        line.fund("maker")
        place(line, 1)
        await line.views.project()
        async with connect(line.urls["stream"]) as ws:
            await subscribe(ws, DEPTH)
            snapshot = await receive(ws, "snapshot", DEPTH)
            place(line, 2)
            await line.views.project()
            known = await receive(ws, "pub", DEPTH)
            missed = []
            for number in (3, 4):
                place(line, number)
                await line.views.project()
                missed.append(await receive(ws, "pub", DEPTH))
            async with connect(line.urls["stream"]) as again:
                place_of = {"epoch": snapshot["epoch"], "offset": known["offset"]}
                await subscribe(again, DEPTH, **place_of)
                assert [await receive(again, "pub", DEPTH) for _ in missed] == missed
                assert (await receive(again, "recovered"))["offset"] == missed[-1]["offset"]

    run(view_redis, tmp_path, story)


def test_balance_counts_by_the_second_and_settling_does_not_show(
    view_redis: str, tmp_path: Path
) -> None:
    async def story(line: Line) -> None:
        line.fund("maker")
        line.engine.pass_seconds(1)
        await line.views.project()
        header = {"authorization": f"Bearer {line.token('maker')}"}
        async with connect(line.urls["stream"], additional_headers=header) as ws:
            await subscribe(ws, "balance")
            snapshot = await receive(ws, "snapshot", "balance")
            assert snapshot["offset"] == snapshot["data"]["second"] == line.engine.second
            shown = [snapshot["data"]]
            for number in range(4):
                if number == 2:
                    line.engine.accept(SettleAccrual(user_id="maker"))
                line.engine.pass_seconds(1)
                await line.views.project()
                pub = await receive(ws, "pub", "balance")
                assert pub["offset"] == pub["data"]["second"] == line.engine.second
                shown.append(pub["data"])
        amounts = [minor(each["amount"]) for each in shown]
        steps = [after - before for before, after in itertools.pairwise(amounts)]
        assert min(steps) > 0
        assert max(steps) - min(steps) <= 1, "the only miner gets every second's whole reward"
        assert minor(shown[4]["accrued"]) < minor(shown[2]["accrued"])
        assert {each["asset"] for each in shown} == {"DUR"}

    run(view_redis, tmp_path, story)


def another_book(line: Line, number: int) -> None:
    """A hundred levels, none of them where one was before."""
    if number:
        line.engine.accept(CancelAllOrders(user_id="maker", market_id=MARKET))
    for level in range(100):
        place(line, number * 100 + level)


def test_a_slow_reader_of_depth_is_spared_and_then_shown_the_book_anew(
    view_redis: str, tmp_path: Path
) -> None:
    async def story(line: Line) -> None:
        line.fund("maker")
        await line.views.project()
        url = line.urls["stream"]
        host, port = url.removeprefix("ws://").split("/")[0].split(":")
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        narrow.connect((host, int(port)))
        narrow.setblocking(False)
        async with connect(url, sock=narrow, max_queue=1) as slow, connect(url) as quick:
            for ws in (slow, quick):
                await subscribe(ws, DEPTH)
            told, seen = Book(), Book()
            told.take(await receive(slow, "snapshot", DEPTH))
            seen.take(await receive(quick, "snapshot", DEPTH))
            for number in range(MANY):
                another_book(line, number)
                await line.views.project()
                seen.take(await receive(quick, "pub", DEPTH))
            messages = 0
            while told.offset < seen.offset:
                told.take(await any_of(slow, DEPTH))
                messages += 1
            assert messages < MANY
            assert told.sides == seen.sides

    run(view_redis, tmp_path, story)


def minor(amount: str) -> int:
    return int(amount.replace(".", ""))
