"""Seconds of a ledger, written to Redis by the projections' own folds: what a gateway reads.

`python -m ops.bench.gateway_feed REDIS_URL STAMPS USERS` funds the users, prints a line, and then
does what standard input says (Pace, Rest as JSON lines). No engine, no log and no Kafka between.
"""

import asyncio
import contextlib
import heapq
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import uvloop

from domain.effects import effects_of
from domain.ledger import tick
from domain.state import LedgerState
from ops.bench import order_mix
from ops.bench.gateway_stamps import SECONDS_MAX, Stamps
from projections.folders import folder
from projections.partition import PartitionWorker, Record
from projections.redis_views import RedisViews
from schemas.codecs import encode_event
from schemas.commands import DepositFunds, GrantContribution, LedgerCommand, PlaceOrder
from schemas.effects import encode_effect, partition_of
from schemas.events import LedgerEvent, Side
from schemas.records import POSTINGS_PARTITIONS, RECORD_EVENTS_MAX, RecordHead
from schemas.views import ACCOUNTS, HOME_DB, MARKET, MINING

EPOCH = "bench"
# Whoever trades is no phone: a trade changes the accounts of two users in ten thousand.
TRADERS = (9_000_000, 9_000_001)
# Alone for so long, a miner of weight 1 takes the pool's index to where 18 million of weight take
# it in a year: its digits are most of a pulse.
EARLY_MINER = 9_000_002
EARLY_SECONDS = 17
TRADE_LOTS = 12_345
SWING_TICKS = 40
AHEAD_MAX = 2
TRADE, CHANGE = "trade", "change"
NEVER = float("inf"), ""
AWAIT_SECONDS_MAX = 1.0
POLL_SECONDS = 0.0005


class Pace(msgspec.Struct, frozen=True, tag=True):
    """Go on a second each `seconds`, 0: as `phones` get them, AHEAD_MAX ahead of the last one.

    trades, changes: of phones' accounts, per second of the ledger. Each happens at a moment of its
    own, anywhere in its share of the time.
    """

    seconds: float
    phones: int
    trades: float = 0
    changes: float = 0


class Rest(msgspec.Struct, frozen=True, tag=True):
    """Stop."""


class Written(msgspec.Struct, frozen=True):
    """What came of the last Pace."""

    seconds: int = 0
    trades: int = 0
    changes: int = 0


Order = Pace | Rest


class Views:
    """The three hot projections, each batch as one Kafka record of theirs."""

    def __init__(self, redis_url: str) -> None:
        self._position = self._sequence = 0
        self._stores = {name: RedisViews(name, redis_url) for name in HOME_DB}
        self._workers = {
            (name, partition): PartitionWorker(
                partition=partition,
                folder=folder(name, partition),
                store=self._stores[name],
                new_epoch=lambda: EPOCH,
            )
            for name in HOME_DB
            for partition in range(POSTINGS_PARTITIONS if name == ACCOUNTS else 1)
        }

    async def close(self) -> None:
        for store in self._stores.values():
            await store.close()

    async def fold(self, events: Sequence[LedgerEvent]) -> None:
        """What comes next in the log; at most RECORD_EVENTS_MAX. The pulse is written first."""
        first, last = self._position + 1, self._position + len(events)
        self._position, self._sequence = last, self._sequence + 1
        head = RecordHead(first=first, last=last, sequence=self._sequence)
        lines = b"\n".join(encode_event(event) for event in events)
        for name in (MINING, MARKET):
            await self._receive(name, 0, head, lines)
        effects: dict[int, list[bytes]] = {number: [] for number in range(POSTINGS_PARTITIONS)}
        for position, event in enumerate(events, first):
            for effect in effects_of(position, event):
                partition = partition_of(effect.user_id, POSTINGS_PARTITIONS)
                effects[partition].append(encode_effect(effect))
        for partition, mine in effects.items():
            await self._receive(ACCOUNTS, partition, head, b"\n".join(mine))

    async def _receive(self, name: str, partition: int, head: RecordHead, lines: bytes) -> None:
        record = Record(offset=head.sequence - 1, head=head, value=lines)
        await self._workers[name, partition].receive([record])


class Feed:
    """A ledger whose seconds pass when `run` says so."""

    def __init__(self, views: Views, stamps: Stamps) -> None:
        self._views = views
        self._stamps = stamps
        self._state = LedgerState()
        self._second = order_mix.GENESIS_SECOND
        self._numbers = itertools.count()
        self._resting = asyncio.Event()

    async def fund(self, users: int) -> None:
        """Open the ledger; every user gets funds and a contribution, and there is a price."""
        commands: list[LedgerCommand] = [*order_mix.opening()]
        events = self._decide(commands)
        events += tick(self._state, self._second)
        events += self._mine_early()
        for count, first in ((users, 0), *((1, trader) for trader in TRADERS)):
            events += self._decide(order_mix.funding(count, first))
        events += self._decide(order_mix.granting(users))
        events += self._trade()
        rest = iter(events)
        while batch := list(islice(rest, RECORD_EVENTS_MAX)):
            await self._views.fold(batch)

    def rest(self) -> None:
        self._resting.set()

    async def run(self, wanted: Pace) -> Written:
        """Until rest()."""
        self._resting.clear()
        began, first, base = time.monotonic(), self._second, self._stamps.delivered
        happened: Counter[str] = Counter()
        between = happenings(wanted)
        at, kind = next(between, NEVER)
        while not self._resting.is_set() and self._second - order_mix.GENESIS_SECOND < SECONDS_MAX:
            await self._tick()
            count = self._second - first
            while at < count and not self._resting.is_set():
                await self._pause(began + at * wanted.seconds)
                await self._happen(kind, wanted.phones)
                happened[kind] += 1
                at, kind = next(between, NEVER)
            if wanted.seconds:
                await self._pause(began + count * wanted.seconds)
            else:
                await self._await_phones(base + (count + 1 - AHEAD_MAX) * wanted.phones)
        return Written(self._second - first, happened[TRADE], happened[CHANGE])

    def _mine_early(self) -> list[LedgerEvent]:
        grant = GrantContribution(
            user_id=order_mix.user_name(EARLY_MINER), grant_id="early", source="bench", weight=1
        )
        events = self._decide([grant])
        for _ in range(EARLY_SECONDS):
            self._second += 1
            events += tick(self._state, self._second)
        return events

    async def _tick(self) -> None:
        self._second += 1
        happened = tick(self._state, self._second)
        self._stamps[self._second] = time.monotonic_ns()
        await self._views.fold(happened)

    async def _happen(self, kind: str, phones: int) -> None:
        await self._views.fold(self._trade() if kind == TRADE else self._change(phones))

    def _change(self, phones: int) -> list[LedgerEvent]:
        number = next(self._numbers)
        user_id = order_mix.user_name(number % phones)
        return self._decide(
            [
                DepositFunds(
                    user_id=user_id, asset_id="CNY", amount_minor=100, reference=f"bench-{number}"
                )
            ]
        )

    def _trade(self) -> list[LedgerEvent]:
        number = next(self._numbers)
        away = abs(number % (2 * SWING_TICKS) - SWING_TICKS)
        price = (order_mix.MID_TICKS + away) * order_mix.TICK
        seller, buyer = map(order_mix.user_name, TRADERS)
        sides: tuple[tuple[str, Side], ...] = ((seller, "sell"), (buyer, "buy"))
        return self._decide(
            [
                PlaceOrder(
                    user_id=user_id,
                    client_order_id=f"bench-{number}",
                    market_id=order_mix.MARKET,
                    side=side,
                    order_type="limit",
                    time_in_force="gtc",
                    price_minor=price,
                    quantity_minor=TRADE_LOTS * order_mix.LOT,
                )
                for user_id, side in sides
            ]
        )

    def _decide(self, commands: Sequence[LedgerCommand]) -> list[LedgerEvent]:
        events: list[LedgerEvent] = []
        for command in commands:
            happened = order_mix.apply_command(self._state, command)
            assert happened, command
            events += happened
        return events

    async def _pause(self, until: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                await self._resting.wait()

    async def _await_phones(self, delivered: int) -> None:
        # A phone that is gone must not hold up the others for good.
        deadline = time.monotonic() + AWAIT_SECONDS_MAX
        while self._stamps.delivered < delivered and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)


def happenings(wanted: Pace) -> Iterator[tuple[float, str]]:
    """When what happens, in seconds of the ledger from the beginning, oldest first."""
    streams = []
    for kind, rate in ((TRADE, wanted.trades), (CHANGE, wanted.changes)):
        if rate:
            streams.append(_moments(kind, rate))
    return heapq.merge(*streams)


def _moments(kind: str, rate: float) -> Iterator[tuple[float, str]]:
    draw = random.Random(kind)
    for number in itertools.count():
        yield (number + draw.random()) / rate, kind


async def _main(redis_url: str, stamps_file: str, users: int) -> None:
    views, running = Views(redis_url), None
    order: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
    with contextlib.closing(Stamps(Path(stamps_file))) as stamps:
        feed = Feed(views, stamps)
        await feed.fund(users)
        _answer(Written())
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            wanted = order.decode(line)
            if isinstance(wanted, Pace):
                running = asyncio.create_task(feed.run(wanted))
                _answer(Written())
            elif running is not None:
                feed.rest()
                _answer(await running)
        feed.rest()
        if running is not None:
            await running
    await views.close()


def _answer(written: Written) -> None:
    print(msgspec.json.encode(written).decode(), flush=True)


def main() -> None:
    redis_url, stamps_file, users = sys.argv[1:]
    uvloop.run(_main(redis_url, stamps_file, int(users)))


if __name__ == "__main__":
    main()
