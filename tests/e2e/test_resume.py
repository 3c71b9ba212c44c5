"""A thousand clients are cut at random, gateways die under them, and no update is lost.

Each must end with exactly the publications that undisturbed clients saw, or with a snapshot where
the gap was too old; compared by content. The seed is printed; DURIAN_CHAOS_SEED runs it again.
"""

import asyncio
import contextlib
import itertools
import os
import random
import resource
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ops.backoff import Backoff
from ops.stream.client import StreamClient
from ops.stream.codec import Encoding
from schemas.commands import CancelAllOrders, GrantContribution, PlaceOrder, SettleAccrual
from schemas.events import Side
from tests.fixtures._gateway_line import Line, running_line
from tests.fixtures._gateway_processes import Gateways, gateways
from tests.fixtures._stream_crowd import Member, Truth, gather_crowd

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

MARKET = "DUR-CNY"
CLIENTS = 1_000
SLEEPERS = 30
USERS = tuple(f"user-{number}" for number in range(20))
ORDERED = (f"trades.{MARKET}", f"burns.{MARKET}")
STATES = ("pulse", f"ticker.{MARKET}", f"kline.{MARKET}.1m", f"depth.{MARKET}", "account")
PUBLIC = (*ORDERED, *(channel for channel in STATES if channel != "account"), "mining")
STEPS = 50
STEP_SECONDS = 0.5
# Of pulses a gateway resends 64 at most: who slept through more gets a snapshot.
LONG_SILENCE_SECONDS = 80
SLEEP_SECONDS = 10.0
CUTS_PER_ROUND = 6
ROUND_SECONDS = 0.03
SETTLE_SECONDS_MAX = 60.0
SEED_BITS = 32


class Fixed(Backoff):
    """Stays away for as long each time."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(random.Random(0))
        self._wait_s = wait_s

    def next_s(self) -> float:
        return self._wait_s


class Load:
    """What users do, step by step; the same for the same seed."""

    def __init__(self, line: Line, chance: random.Random) -> None:
        self._line = line
        self._chance = chance
        self._numbers = itertools.count(1)

    async def step(self, seconds: int = 1) -> None:
        engine, chance = self._line.engine, self._chance
        price = chance.randint(9_990, 10_010)
        for _ in range(chance.randint(1, 3)):
            maker, taker = chance.sample(USERS, 2)
            self._place(maker, "sell", price)
            self._place(taker, "buy", price)
        user_id, number = chance.choice(USERS), next(self._numbers)
        self._place(user_id, "sell", price + chance.randint(20, 60))
        self._place(chance.choice(USERS), "buy", price - chance.randint(20, 60))
        if number % 3 == 0:
            engine.accept(CancelAllOrders(user_id=user_id))
        engine.accept(
            GrantContribution(user_id=user_id, grant_id=str(number), source="test", weight=number)
        )
        engine.pass_seconds(seconds)
        engine.accept(SettleAccrual(user_id=user_id))
        await self._line.views.project()

    async def silence(self, seconds: int) -> None:
        """Nothing but pulses, each published by itself."""
        for _ in range(seconds):
            self._line.engine.pass_seconds(1)
            await self._line.views.project()

    def _place(self, user_id: str, side: Side, price: int) -> None:
        self._line.engine.accept(
            PlaceOrder(
                user_id=user_id,
                client_order_id=f"o{next(self._numbers)}",
                market_id=MARKET,
                side=side,
                order_type="limit",
                price_minor=price * 10**4,
                quantity_minor=self._chance.randint(1, 5) * 10**8,
            )
        )


def member(
    line: Line, url: str, user_id: str, channels: Sequence[str], **options: object
) -> Member:
    is_private = "account" in channels
    token = (lambda: line.token(user_id)) if is_private else None
    return Member(StreamClient(url, token=token, **options), user_id, channels)  # type: ignore[arg-type]


def watchers_of(line: Line, url: str) -> list[Member]:
    return [
        member(line, url, USERS[0], PUBLIC),
        *(member(line, url, user_id, ("account",)) for user_id in USERS),
    ]


def crowd_of(line: Line, url: str, chance: random.Random) -> list[Member]:
    """Each on an ordered channel and one of a state; every third one speaks msgpack."""
    crowd = []
    for number in range(CLIENTS):
        channels = (chance.choice(ORDERED), chance.choice(STATES))
        encoding: Encoding = "msgpack" if number % 3 == 0 else "json"
        backoff = Backoff(chance, first_s=0.1, longest_s=1.0, shortest_share=0.0)
        user_id = chance.choice(USERS)
        crowd.append(
            member(line, url, user_id, channels, encoding=encoding, backoff=backoff, rng=chance)
        )
    return crowd


def sleepers_of(line: Line, url: str) -> list[Member]:
    # At the quiet gateway: one that drains would say itself when to come back.
    return [
        member(line, url, USERS[0], (ORDERED[0], "pulse"), backoff=Fixed(SLEEP_SECONDS))
        for _ in range(SLEEPERS)
    ]


@contextlib.asynccontextmanager
async def cutting(crowd: Sequence[Member], chance: random.Random) -> AsyncIterator[None]:
    """Some few all the time, and now and then a fifth of all at once."""

    async def cut_on() -> None:
        for number in itertools.count(1):
            count = CLIENTS // 5 if number % 200 == 0 else CUTS_PER_ROUND
            for unlucky in chance.sample(crowd, count):
                unlucky.client.cut()
            await asyncio.sleep(ROUND_SECONDS)

    cutter = asyncio.create_task(cut_on())
    try:
        yield
    finally:
        cutter.cancel()
        await asyncio.gather(cutter, return_exceptions=True)


async def live_through(load: Load, shared: Gateways, sleepers: Sequence[Member]) -> None:
    """The load, in step with the clock; on the way one gateway is killed and one drains."""
    begin = time.monotonic()
    first, second = shared.processes
    for number in range(1, STEPS + 1):
        if number == STEPS // 5:
            await shared.start()
            first.kill()
        elif number == STEPS * 2 // 5:
            for sleeper in sleepers:
                sleeper.client.cut()
            await load.silence(LONG_SILENCE_SECONDS)
        elif number == STEPS * 3 // 5:
            await shared.start()
            second.terminate()
        await load.step()
        await asyncio.sleep(max(begin + number * STEP_SECONDS - time.monotonic(), 0))


async def settle(
    load: Load, truth: Truth, members: Sequence[Member], tasks: Sequence["asyncio.Task[None]"]
) -> None:
    """Until everybody is back and has the last publication of every channel.

    Raises what a client has given up with.
    """
    for _ in range(3):
        await load.step(60)
    end = time.monotonic() + SETTLE_SECONDS_MAX
    reached: list[int] = []
    while not all(truth.is_reached_by(each) for each in members) or truth_of(truth) != reached:
        for task in tasks:
            if task.done():
                task.result()
        assert time.monotonic() < end, [
            each.channels for each in members if not truth.is_reached_by(each)
        ][:5]
        reached = truth_of(truth)
        await asyncio.sleep(0.2)


def truth_of(truth: Truth) -> list[int]:
    return [truth.last_offset(key) for key in truth.members]


async def story(
    line: Line, directory: Path, chance: random.Random, tell: Callable[[str], None]
) -> None:
    line.fund(*USERS)
    load = Load(line, chance)
    await load.step()
    async with contextlib.AsyncExitStack() as stack:
        quiet = await stack.enter_async_context(gateways(line.config, directory, 1))
        shared = await stack.enter_async_context(gateways(line.config, directory, 2))
        watchers = watchers_of(line, quiet.url)
        crowd, sleepers = crowd_of(line, shared.url, chance), sleepers_of(line, quiet.url)
        everybody = [*watchers, *crowd, *sleepers]
        tasks = await gather_crowd(everybody, at_once=100)
        truth = Truth(watchers)
        try:
            async with cutting(crowd, chance):
                await live_through(load, shared, sleepers)
            await settle(load, truth, everybody, tasks)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in ended} == {asyncio.CancelledError}
    check(truth, watchers, crowd, sleepers, tell)


def check(
    truth: Truth,
    watchers: Sequence[Member],
    crowd: Sequence[Member],
    sleepers: Sequence[Member],
    tell: Callable[[str], None],
) -> None:
    counts = [each.client.counts for each in crowd]
    connections = sum(count.connections for count in counts)
    tell(
        f"{len(crowd)} clients, {connections - len(crowd)} cuts, "
        f"{sum(count.recoveries for count in counts)} recoveries, "
        f"{sum(count.snapshots for count in counts) - 2 * len(crowd)} snapshots instead, "
        f"{sum(count.publications for count in counts)} publications compared"
    )
    found = [finding for each in (*crowd, *sleepers) for finding in truth.findings(each)]
    assert found == [], f"{len(found)}: {found[:20]}"
    everybody = (*watchers, *crowd, *sleepers)
    assert sum(each.client.counts.holes for each in everybody) == 0
    assert {each.client.counts.connections for each in watchers} == {1}
    assert min(count.connections for count in counts) > 1
    assert sum(count.recoveries for count in counts) > connections - len(crowd)
    for sleeper in sleepers:
        trades, pulses = (sleeper.records[channel] for channel in sleeper.channels)
        assert sum(told.is_snapshot for told in trades) == 1
        assert sum(told.is_snapshot for told in pulses) > 1


@pytest.fixture
def many_files() -> Iterator[None]:
    """Each client is a file, and the usual soft limit of 1,024 does not hold them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_thousand_clients_cut_at_random_miss_nothing(
    view_redis: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = os.environ.get("DURIAN_CHAOS_SEED") or str(secrets.randbits(SEED_BITS))

    def tell(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    async def told() -> None:
        async with running_line(view_redis, tmp_path, ()) as line:
            await story(line, tmp_path, random.Random(seed), tell)

    tell(f"seed {seed}")
    asyncio.run(told())
