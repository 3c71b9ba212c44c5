"""StreamClient against the real gateway, Redis and folds."""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
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
from schemas.commands import SettleAccrual
from schemas.wire import Since
from tests.fixtures._gateway_line import DEADLINE_SECONDS, Line
from tests.fixtures._traded_line import MARKET, place, run, some_seconds

pytestmark = pytest.mark.services
CHANNELS = (
    *("pulse", "mining", "account", "balance"),
    *(f"{kind}.{MARKET}" for kind in ("ticker", "trades", "depth", "burns")),
    *(f"kline.{MARKET}.{interval}" for interval in ("1m", "1h")),
)
# Snapshots of the pool and of a balance know more than the last publication: the pool is published
# once a minute, a balance once a second, and both may change meanwhile.
COMPARABLE = tuple(channel for channel in CHANNELS if channel not in ("mining", "balance"))


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


async def same_as_a_fresh_client(
    line: Line, client: StreamClient, channels: Sequence[str] = COMPARABLE
) -> None:
    async with client_of(line) as fresh:
        await fresh.subscribe(*channels)
        await all_known(fresh, *channels)
    for channel in channels:
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


def test_a_state_that_came_back_to_what_was_published_is_sent_whole_after_a_snapshot(
    view_redis: str, tmp_path: Path
) -> None:
    """The snapshot shows a price that was never published, and the next one is the old one."""

    async def story(line: Line) -> None:
        channels, numbers = (f"ticker.{MARKET}", f"kline.{MARKET}.1m"), itertools.count(1)

        async def trade_at(price: int, *, seconds: int) -> None:
            number = next(numbers)
            place(line, "maker", "sell", number, price=price)
            place(line, "taker", "buy", number, price=price)
            line.engine.pass_seconds(seconds)
            await line.views.project()

        await trade_at(1, seconds=1)
        for _ in range(4):
            await trade_at(7, seconds=0)
            async with client_of(line) as client:
                await client.subscribe(*channels)
                await all_known(client, *channels)
                await trade_at(1, seconds=1)
                await same_as_a_fresh_client(line, client, channels)

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
