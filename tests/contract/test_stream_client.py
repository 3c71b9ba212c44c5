"""StreamClient and `durian watch` against the real gateway, Redis and folds."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ops.backoff import Backoff
from ops.stream import inbox
from ops.stream.balance import BalanceClock
from ops.stream.client import StreamClient
from ops.stream.codec import Encoding
from ops.stream.following import Change
from schemas.commands import PlaceOrder, SettleAccrual
from schemas.events import Side
from schemas.wire import Since
from tests.fixtures._gateway_line import DEADLINE_SECONDS, Line, running_line

pytestmark = pytest.mark.services
ROOT = Path(__file__).parents[2]
MARKET = "DUR-CNY"
CHANNELS = (
    *("pulse", "mining", "account", "balance"),
    *(f"{kind}.{MARKET}" for kind in ("ticker", "trades", "depth", "burns")),
    *(f"kline.{MARKET}.{interval}" for interval in ("1m", "1h")),
)
# Snapshots of the pool and of a balance know more than the last publication: the pool is published
# once a minute, a balance once a second, and both may change meanwhile.
COMPARABLE = tuple(channel for channel in CHANNELS if channel not in ("mining", "balance"))
Story = Callable[[Line], Awaitable[None]]


def run(view_redis: str, directory: Path, story: Story) -> None:
    async def told() -> None:
        async with running_line(view_redis, directory, ("stream",)) as line:
            line.fund("maker", "taker")
            await line.views.project()
            await story(line)

    asyncio.run(told())


def place(line: Line, user_id: str, side: Side, number: int, *, price: int = 0) -> None:
    line.engine.accept(
        PlaceOrder(
            user_id=user_id,
            client_order_id=f"{user_id}-{number}",
            market_id=MARKET,
            side=side,
            order_type="limit",
            price_minor=10**8 + (price or number) * 10**4,
            quantity_minor=10**8,
        )
    )


async def some_seconds(line: Line, first: int, count: int) -> None:
    """In each a trade and an order that rests; candles close on the way."""
    for number in range(first, first + count):
        place(line, "maker", "sell", number)
        place(line, "taker", "buy", number)
        place(line, "maker", "sell", 10_000 + number, price=5_000 + number % 7)
        line.engine.pass_seconds(20)
        await line.views.project()


def client_of(line: Line, user_id: str = "maker", **options: Any) -> StreamClient:
    return StreamClient(line.urls["stream"], token=lambda: line.token(user_id), **options)


async def until(client: StreamClient, happened: Callable[[Change], bool]) -> Change:
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for change in client:
            if happened(change):
                return change
    raise AssertionError("the stream ended")


async def reach(client: StreamClient, channel: str, position: Since | None) -> None:
    while client.position(channel) != position:
        await until(client, lambda change: change.channel == channel)


async def all_known(client: StreamClient, *channels: str) -> None:
    """Until there is a snapshot or recovery of each."""
    while not client.is_settled(*channels):
        await until(client, lambda change: change.kind in ("snapshot", "recovered"))


async def same_as_a_fresh_client(line: Line, client: StreamClient) -> None:
    async with client_of(line) as fresh:
        await fresh.subscribe(*COMPARABLE)
        await all_known(fresh, *COMPARABLE)
    for channel in COMPARABLE:
        await reach(client, channel, fresh.position(channel))
        assert client.state(channel) == fresh.state(channel), channel


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_a_state_that_was_merged_equals_a_fresh_snapshot(
    view_redis: str, tmp_path: Path, encoding: Encoding
) -> None:
    async def story(line: Line) -> None:
        async with client_of(line, encoding=encoding) as client:
            await client.subscribe(*CHANNELS)
            await all_known(client, *CHANNELS)
            await some_seconds(line, 1, 12)
            await same_as_a_fresh_client(line, client)
            assert client.counts.holes == 0
            assert client.counts.publications > 60

    run(view_redis, tmp_path, story)


def test_a_client_that_lags_is_spared_what_is_old_and_misses_nothing_else(
    view_redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads nothing for a while: whole states, closed candles and all trades come after it."""
    monkeypatch.setattr(inbox, "CHANGES_MAX", 5)
    rounds, trades_each = 100, 12

    async def story(line: Line) -> None:
        async with client_of(line) as client, client_of(line) as watcher:
            for each in (client, watcher):
                await each.subscribe(*CHANNELS)
                await all_known(each, *CHANNELS)
            watching = asyncio.create_task(tape_of(watcher, rounds * trades_each))
            for number in range(rounds):
                for trade in range(number * trades_each + 1, (number + 1) * trades_each + 1):
                    place(line, "maker", "sell", trade)
                    place(line, "taker", "buy", trade)
                place(line, "maker", "sell", 10_000 + number, price=5_000 + number % 7)
                line.engine.pass_seconds(20)
                await line.views.project()
            seen = await tape_of(client, rounds * trades_each)
            expected = await watching
            candle = f"kline.{MARKET}.1m"
            assert seen[f"trades.{MARKET}"] == expected[f"trades.{MARKET}"]
            assert len(seen["pulse"]) < len(expected["pulse"])
            assert closed(seen[candle]) == closed(expected[candle])
            await same_as_a_fresh_client(line, client)
            assert (client.counts.connections, client.counts.holes) == (1, 0)

    run(view_redis, tmp_path, story)


async def tape_of(client: StreamClient, trades: int) -> dict[str, list[Any]]:
    """What is published on each channel, merged where it has a state, until so many trades."""
    tape: dict[str, list[Any]] = {channel: [] for channel in CHANNELS}
    while len(tape[f"trades.{MARKET}"]) < trades:
        change = await until(client, lambda change: change.kind == "publication")
        shown = change.data if change.state is None else change.state
        tape[change.channel].append(shown)
    return tape


def closed(candles: list[Any]) -> list[Any]:
    return [candle for candle in candles if candle["closed"]]


def test_the_local_balance_equals_what_the_gateway_computes(
    view_redis: str, tmp_path: Path
) -> None:
    """Second by second, over trades, changes of weight and settlements."""

    async def story(line: Line) -> None:
        async with client_of(line, "taker") as client:
            await client.subscribe("mining", "pulse", "account", "balance")
            await all_known(client, "mining", "pulse", "account", "balance")
            pool = client.state("mining")
            clock = BalanceClock(pool["asset"], pool["scale"], [MARKET])
            compared, before = 0, ""
            for number in range(1, 16):
                # The account first, alone: the second after it is about the same account for both.
                place(line, "maker", "sell", number)
                place(line, "taker", "buy", number)
                if number % 5 == 0:
                    line.engine.accept(SettleAccrual(user_id="taker"))
                await line.views.project()
                await until(client, lambda change: change.channel == "account")
                line.engine.pass_seconds(1)
                await line.views.project()
                served = await until(client, at_second("balance", line.engine.second))
                await reach_second(client, line.engine.second)
                clock.take("pulse", client.state("pulse"))
                clock.take("account", client.state("account"))
                assert msgspec.to_builtins(clock.now()) == served.state
                compared += 1
                assert served.state["amount"] != before
                before = served.state["amount"]
            assert compared == 15

    run(view_redis, tmp_path, story)


def at_second(channel: str, second: int) -> Callable[[Change], bool]:
    return lambda change: change.channel == channel and change.offset == second


async def reach_second(client: StreamClient, second: int) -> None:
    while client.state("pulse")["second"] < second:
        await until(client, lambda change: change.channel == "pulse")


def test_a_cut_client_gets_exactly_what_it_missed(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        channels = (f"trades.{MARKET}", f"burns.{MARKET}", f"kline.{MARKET}.1m")
        quick = Backoff(random.Random(1), first_s=0.01, longest_s=0.02)
        async with client_of(line) as watcher, client_of(line, backoff=quick) as client:
            for each in (watcher, client):
                await each.subscribe(*channels)
                await all_known(each, *channels)
            seen, number = list[Change](), 1
            for _ in range(3):
                assert client.cut()
                await some_seconds(line, number, 4)
                number += 4
                while not seen or seen[-1].data["trade_id"] < number - 1:
                    seen.append(await until(client, is_trade))
            expected = [await until(watcher, is_trade) for _ in seen]
            assert [each.data for each in seen] == [each.data for each in expected]
            assert (client.counts.connections, client.counts.holes) == (4, 0)
            assert client.counts.snapshots == len(channels)
            for channel in channels:
                await reach(client, channel, watcher.position(channel))

    run(view_redis, tmp_path, story)


def is_trade(change: Change) -> bool:
    return change.channel == f"trades.{MARKET}" and change.kind == "publication"


def test_a_token_is_renewed_on_the_open_connection(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        def token() -> str:
            return line.token("maker", lifetime_s=2)

        async with StreamClient(line.urls["stream"], token=token) as client:
            await client.subscribe("account", "pulse")
            async with asyncio.timeout(DEADLINE_SECONDS):
                while client.counts.tokens < 4:
                    line.engine.pass_seconds(1)
                    await line.views.project()
                    await until(client, at_second("pulse", line.engine.second))
            await client.ping()
            assert client.counts.connections == 1

    run(view_redis, tmp_path, story)


def test_a_client_moves_from_a_gateway_that_drains_to_the_next(
    view_redis: str, tmp_path: Path
) -> None:
    async def story(line: Line) -> None:
        quick = Backoff(random.Random(1), first_s=0.01, longest_s=0.02)
        async with client_of(line, backoff=quick) as client:
            await client.subscribe("pulse")
            await until(client, lambda change: change.kind == "snapshot")
            line.stop.set()
            lost = await until(client, lambda change: change.kind == "lost")
            assert lost.data == "going_away"

    run(view_redis, tmp_path, story)


class Watching:
    """A `durian watch` of its own process."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def start(
        self, *arguments: str, stdout: int = asyncio.subprocess.PIPE
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ops", "watch", "--url", self._line.urls["stream"]),
            *arguments,
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color"},
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
        )

    async def finish(self, *arguments: str) -> tuple[int | None, list[str], str]:
        """Exit code, lines of standard output, standard error."""
        process = await self.start(*arguments)
        async with asyncio.timeout(DEADLINE_SECONDS):
            out, err = await process.communicate()
        return process.returncode, out.decode().splitlines(), err.decode()


@contextlib.asynccontextmanager
async def passing_seconds(line: Line) -> AsyncIterator[None]:
    """Seconds of the ledger go by inside the block, faster than real ones."""

    async def pass_on() -> None:
        while True:
            line.engine.pass_seconds(1)
            await line.views.project()
            await asyncio.sleep(0.05)

    passing = asyncio.create_task(pass_on())
    try:
        yield
    finally:
        passing.cancel()
        await asyncio.gather(passing, return_exceptions=True)


def test_watch_prints_changes_and_the_local_balance(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        await some_seconds(line, 1, 1)
        watching, token = Watching(line), line.token("taker")
        asked = ("pulse", "account", f"depth.{MARKET}", "--token", token, "--count", "9")
        async with passing_seconds(line):
            code, lines, err = await watching.finish(*asked)
            assert (code, err, len(lines)) == (0, "", 9)
            for word in ("reward", "taker CNY", f"depth.{MARKET}", "(balance)", f"{MARKET} 1.0001"):
                assert any(word in each for each in lines), (word, lines)
            code, lines, err = await watching.finish(*asked, "--json", "--encoding", "msgpack")
            served = await watching.finish("balance", "--token", token, "--count", "1", "--json")
        assert (code, err, served[0]) == (0, "", 0)
        shown = [json.loads(each) for each in lines]
        channels = {each["channel"] for each in shown}
        assert channels == {"pulse", "account", f"depth.{MARKET}", "balance"}
        assert {each["kind"] for each in shown} == {"snapshot", "publication", "computed"}
        computed = next(each["data"] for each in shown if each["kind"] == "computed")
        balance = json.loads(served[1][0])["data"]
        assert computed.keys() == balance.keys()
        assert computed["amount"] < balance["amount"]
        assert balance["values"].keys() == {MARKET}

    run(view_redis, tmp_path, story)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("account",), 2, "channel account is private: say whose with --user"),
        (("nothing",), 2, "refuses nothing"),
        (("balance", "--token", "nonsense"), 2, "refuses us"),
        (("balance", "--user", "alice", "--token", "x"), 2, "exclude each other"),
        (("balance", "--user", "alice", "--data", "/nowhere"), 2, "no key to sign with"),
    ],
)
def test_watch_says_what_is_wrong_with_what_was_asked(
    view_redis: str, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    async def story(line: Line) -> None:
        ended, lines, err = await Watching(line).finish(*arguments)
        assert (ended, lines) == (code, [])
        assert said in err

    run(view_redis, tmp_path, story)


def test_watch_ends_cleanly_when_it_is_interrupted(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        process = await Watching(line).start("pulse")
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert b"pulse" in await process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")

    run(view_redis, tmp_path, story)


def test_watch_is_coloured_on_a_terminal(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        terminal, its_end = os.openpty()
        try:
            process = await Watching(line).start("mining", "--count", "1", stdout=its_end)
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert await process.wait() == 0
            shown = os.read(terminal, 4_096)
        finally:
            os.close(terminal)
            os.close(its_end)
        assert b"\x1b[" in shown
        assert shown.count(b"\n") == 1

    run(view_redis, tmp_path, story)
