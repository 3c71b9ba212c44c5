"""gateway.stream.feeds, .snapshots and .balances over real Redis and folds, without sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import redis.asyncio

from gateway.catalogue import Catalogue
from gateway.stream.balances import Balances
from gateway.stream.channels import Channel, FeedId, Kind, balance_key, private_channel
from gateway.stream.feeds import FEEDS_BY_HOME, FeedReader
from gateway.stream.snapshots import SnapshotDesk, SnapshotReader
from gateway.views import Views
from schemas.commands import DepositFunds, GrantContribution, PlaceOrder
from schemas.events import Side
from schemas.views import ACCOUNTS, FIRST_GENERATION, MINING, TRADING_DB, feed_key, stored_key
from tests.fixtures import _gateway_line as line
from tests.fixtures._hub_reader import Reader, channel
from tests.fixtures.tiny_engine import TinyEngine

pytestmark = pytest.mark.services
MARKET = "DUR-CNY"
# Channels of which a publication is the state that a snapshot of the same offset shows.
STATES = ("pulse", "account:maker", "balance:maker", f"ticker.{MARKET}", f"kline.{MARKET}.1m")
PAUSE_MS = 2_300


class Wired:
    """Feed readers on a Redis that folds write to; nothing is read until the test polls or runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = TinyEngine()
        self.folds = line.Views(url, self.engine, "first")
        self.views = Views(url)
        self.catalogue = Catalogue(self.views)
        self.snapshots = SnapshotReader(self.views, self.catalogue)
        self.desk = SnapshotDesk(self.snapshots)
        self.told_stale: list[bool] = []
        self.settled = 0
        # While set, the reader's cancellation is lost on the way, as a driver may lose it.
        self.swallows = False
        self.is_held = False
        self.readers = [
            FeedReader(
                views=self.views,
                feeds=feeds,
                hub=self.desk.hub,
                snapshots=self.snapshots,
                settled=self._settle,
                on_stale=self.told_stale.append,
            )
            for feeds in FEEDS_BY_HOME
        ]

    async def close(self) -> None:
        await self.desk.close()
        await self.folds.close()
        await self.views.close()

    async def poll(self) -> None:
        """Fold what happened and deliver it, accounts before pulses."""
        await self.folds.project()
        for reader in reversed(self.readers):
            while await reader.poll():
                pass

    async def join(self, wanted: Channel) -> Reader:
        """A reader that has its snapshot."""
        reader = Reader()
        self.desk.hub.join(reader, wanted, None)
        await until(lambda: bool(reader.received))
        return reader

    def fund(self, *user_ids: str, weight: int = 100) -> None:
        for user_id in user_ids:
            for asset_id in ("DUR", "CNY"):
                self.deposit(user_id, asset_id, 10**12)
            grant = GrantContribution(user_id=user_id, grant_id="1", source="test", weight=weight)
            self.engine.accept(grant)

    def deposit(self, user_id: str, asset_id: str, amount: int) -> None:
        reference = f"{user_id}-{len(self.engine.log)}"
        self.engine.accept(
            DepositFunds(
                user_id=user_id, asset_id=asset_id, amount_minor=amount, reference=reference
            )
        )

    def trade(self, price: int) -> None:
        sides: tuple[tuple[str, Side], ...] = (("maker", "sell"), ("taker", "buy"))
        for user_id, side in sides:
            self.engine.accept(
                PlaceOrder(
                    user_id=user_id,
                    client_order_id=f"{user_id}-{len(self.engine.log)}",
                    market_id=MARKET,
                    side=side,
                    order_type="limit",
                    price_minor=price,
                    quantity_minor=10**8,
                )
            )

    async def _settle(self) -> None:
        self.settled += 1
        if self.swallows:
            self.is_held = True
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def wired(url: str) -> AsyncIterator[Wired]:
    async with contextlib.AsyncExitStack() as stack:
        client = redis.asyncio.Redis.from_url(url)
        stack.push_async_callback(client.aclose)
        await client.flushall()
        made = Wired(url)
        stack.push_async_callback(made.close)
        made.engine.pass_seconds(1)
        await made.poll()
        yield made


async def until(is_met: Callable[[], bool]) -> None:
    async with asyncio.timeout(line.DEADLINE_SECONDS):
        while True:
            if is_met():
                return
            await asyncio.sleep(0.01)


def run(url: str, story: Callable[[Wired], Awaitable[None]]) -> None:
    async def told() -> None:
        async with wired(url) as made:
            await story(made)

    asyncio.run(told())


def balance(user_id: str) -> Channel:
    return private_channel(Kind.BALANCE, user_id)


def amounts(reader: Reader) -> list[str]:
    return [message["data"]["amount"] for message in reader.received]


def test_what_one_poll_brings_is_sent_before_the_next_poll(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        reader = await made.join(channel("pulse"))
        before = made.settled
        made.engine.pass_seconds(1)
        await made.folds.project()
        assert await made.readers[0].poll() == 1
        assert made.settled == before + 1
        assert reader.seen()[-1] == ("pub", made.engine.second)

    run(view_redis, story)


def test_a_feed_that_dropped_what_was_not_read_yet_starts_over(view_redis: str) -> None:
    """A user whose only change is among what was dropped would otherwise never see it."""

    async def story(made: Wired) -> None:
        made.fund("maker")
        await made.poll()
        reader = await made.join(channel("account:maker"))
        partition = channel("account:maker").feed.partition
        other = next(
            name
            for name in map(str, range(100))
            if channel(f"account:{name}").feed.partition == partition
        )
        made.deposit("maker", "DUR", 1)
        await made.folds.project()
        made.deposit(other, "DUR", 1)
        await made.folds.project()
        async with redis.asyncio.Redis.from_url(view_redis, db=TRADING_DB) as client:
            name = feed_key(ACCOUNTS, partition)
            await client.xtrim(
                stored_key(ACCOUNTS, FIRST_GENERATION, name), maxlen=1, approximate=False
            )
        await made.poll()
        await until(lambda: len(reader.received) == 2)
        assert [op for op, _ in reader.seen()] == ["snapshot", "snapshot"]
        assert reader.received[1]["data"]["balances"][1]["available"] == "10000.00000001"

    run(view_redis, story)


def test_users_whose_snapshots_are_read_together_each_get_their_own(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        users = [f"user-{number}" for number in range(150)]
        for number, user_id in enumerate(users, 1):
            made.deposit(user_id, "DUR", number)
        await made.poll()
        readers = [Reader() for _ in users]
        for reader, user_id in zip(readers, users, strict=True):
            made.desk.hub.join(reader, private_channel(Kind.ACCOUNT, user_id), None)
        await until(lambda: all(reader.received for reader in readers))
        for number, (reader, user_id) in enumerate(zip(readers, users, strict=True), 1):
            (snapshot,) = reader.received
            assert snapshot["data"]["user_id"] == user_id
            assert snapshot["data"]["balances"][0]["available"] == f"0.{number:08}"

    run(view_redis, story)


def test_every_channel_has_a_snapshot_and_what_follows_it(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        made.fund("maker", "taker")
        await made.poll()
        keys = [
            "pulse",
            "mining",
            "account:maker",
            "balance:maker",
            *(f"{kind}.{MARKET}" for kind in ("ticker", "trades", "depth", "burns", "kline")),
        ]
        keys[-1] += ".1m"
        readers = {key: await made.join(channel(key)) for key in keys}
        empty = {key: reader.received[0]["data"] for key, reader in readers.items()}
        assert empty[f"ticker.{MARKET}"] is empty[f"kline.{MARKET}.1m"] is None
        assert empty[f"trades.{MARKET}"] == {"items": []}
        assert empty[f"burns.{MARKET}"] == {"items": [], "cumulative": "0.00000000"}
        made.trade(price=10**8)
        made.engine.pass_seconds(60)
        await made.poll()
        for key, reader in readers.items():
            later = await made.join(channel(key))
            assert reader.received[0]["op"] == later.received[0]["op"] == "snapshot"
            assert reader.received[-1]["op"] == "pub", key
            assert later.received[0]["offset"] == reader.received[-1]["offset"], key
            if key in STATES:
                assert reader.states[channel(key).name] == later.received[0]["data"], key

    run(view_redis, story)


def test_users_wait_while_redis_is_empty_and_are_served_when_it_is_not(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        made.fund("maker")
        await made.poll()
        async with redis.asyncio.Redis.from_url(view_redis) as client:
            await client.flushall()
        for feed_reader in made.readers:
            await feed_reader.poll()
        reader = Reader()
        for key in ("account:maker", "balance:maker", "pulse"):
            made.desk.hub.join(reader, channel(key), None)
        await made.folds.close()
        made.folds = line.Views(view_redis, made.engine, "second")
        await made.poll()
        await until(lambda: len(reader.received) == 3)
        assert {message["epoch"] for message in reader.received} == {"second"}

    run(view_redis, story)


def test_a_balance_follows_deposits_prices_and_seconds(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        made.fund("maker", "taker")
        await made.poll()
        reader = await made.join(balance("maker"))
        made.deposit("maker", "DUR", 5)
        made.trade(price=2 * 10**8)
        made.engine.pass_seconds(1)
        await made.poll()
        last = reader.received[-1]["data"]
        # 10,000 before, 1 sold; each of the two miners has half of every second's reward of 1.
        assert last["amount"] == "9999.50000005"
        assert last["values"] == {MARKET: "19999.00000010"}
        assert last["second"] == reader.received[-1]["offset"] == made.engine.second
        made.engine.pass_seconds(1)
        await made.poll()
        assert amounts(reader)[-1] == "10000.00000005"

    run(view_redis, story)


def test_a_user_without_any_event_has_nothing_and_still_counts_seconds(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        reader = await made.join(balance("nobody"))
        made.engine.pass_seconds(1)
        await made.poll()
        assert amounts(reader) == ["0.00000000", "0.00000000"]

    run(view_redis, story)


def test_who_left_is_not_counted_any_more(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        gone, stays = await made.join(balance("maker")), await made.join(balance("taker"))
        made.desk.hub.leave(gone, balance_key("maker"))
        made.engine.pass_seconds(1)
        await made.poll()
        assert (len(gone.received), len(stays.received)) == (1, 2)
        made.desk.hub.leave(stays, balance_key("taker"))
        made.engine.pass_seconds(1)
        await made.poll()
        assert made.snapshots.balances.is_empty()

    run(view_redis, story)


def test_balances_are_read_again_when_the_views_are_of_another_epoch(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        made.fund("maker")
        await made.poll()
        reader = await made.join(balance("maker"))
        await made.folds.close()
        async with redis.asyncio.Redis.from_url(view_redis) as client:
            await client.flushall()
        made.engine, lost = TinyEngine(), made.engine
        made.folds = line.Views(view_redis, made.engine, "second")
        made.engine.pass_seconds(1)
        made.deposit("maker", "DUR", 7)
        assert len(made.engine.log) < len(lost.log)
        await made.poll()
        await until(lambda: reader.received[-1].get("epoch") == "second")
        assert amounts(reader)[-1] == "0.00000007"

    run(view_redis, story)


def test_a_read_that_began_before_a_new_beginning_is_not_remembered(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        made.fund("maker")
        await made.poll()
        balances = Balances(made.views, made.catalogue)
        state, version = await made.views.account("maker"), balances.version("maker")
        partition = private_channel(Kind.ACCOUNT, "maker").feed.partition
        balances.forget(partition)
        await balances.note(state.account, state.contribution, version)
        assert balances.is_empty()
        version = balances.version("maker")
        balances.forget((partition + 1) % 4)
        await balances.note(state.account, state.contribution, version)
        balances.forget((partition + 1) % 4)
        assert not balances.is_empty()
        balances.forget(partition)
        assert balances.is_empty()

    run(view_redis, story)


def test_balances_are_told_in_parts_and_may_be_forgotten_between_them(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        balances, users = made.snapshots.balances, [f"user-{number}" for number in range(5)]
        made.fund(*users)
        await made.poll()
        for user_id in users:
            await made.join(balance(user_id))
        _, pulse = await made.views.newest_pulse()
        assert pulse is not None
        moment = await balances.moment(pulse[1])
        parts = list(balances.publications(moment, made.desk.hub.has_audience, size=2))
        assert [len(part) for part in parts] == [2, 2, 1]
        assert {one.channel.user_id for part in parts for one in part} == set(users)
        following = balances.publications(moment, made.desk.hub.has_audience, size=2)
        assert len(next(following)) == 2
        balances.forget()
        assert list(following) == []

    run(view_redis, story)


def test_the_newer_position_wins(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        made.fund("maker")
        await made.poll()
        older = await made.views.account("maker")
        made.deposit("maker", "DUR", 1)
        await made.poll()
        newer = await made.views.account("maker")
        balances = made.snapshots.balances
        for state in (newer, older):
            version = balances.version("maker")
            held = await balances.note(state.account, state.contribution, version)
            assert held.owned_minor == 10**12 + 1

    run(view_redis, story)


def test_a_balance_starts_over_with_its_own_partition_only(view_redis: str) -> None:
    wanted = balance("maker")
    partition = private_channel(Kind.ACCOUNT, "maker").feed.partition
    assert wanted.comes_from(FeedId(MINING, 0))
    assert wanted.comes_from(FeedId(ACCOUNTS, partition))
    assert not wanted.comes_from(FeedId(ACCOUNTS, (partition + 1) % 4))


def test_stale_is_told_once_and_taken_back(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        running = asyncio.create_task(made.readers[0].run())
        async with redis.asyncio.Redis.from_url(view_redis) as client:
            await client.client_pause(PAUSE_MS)
        await until(lambda: made.told_stale == [True])
        await until(lambda: made.told_stale == [True, False])
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    run(view_redis, story)


def test_a_cut_that_heals_at_once_is_no_news(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        reader = await made.join(channel("pulse"))
        running = asyncio.create_task(made.readers[0].run())
        async with redis.asyncio.Redis.from_url(view_redis) as client:
            await client.client_kill_filter(_type="normal", skipme=True)
        made.engine.pass_seconds(1)
        with contextlib.suppress(redis.RedisError):
            await made.folds.project()
        await until(lambda: reader.seen()[-1] == ("pub", made.engine.second))
        assert made.told_stale == []
        running.cancel()
        await asyncio.wait([running])

    run(view_redis, story)


def test_a_reader_ends_when_cancelled_although_the_driver_swallows_it(view_redis: str) -> None:
    async def story(made: Wired) -> None:
        made.swallows = True
        running = asyncio.create_task(made.readers[0].run())
        await until(lambda: made.is_held)
        before = made.settled
        running.cancel()
        await asyncio.wait([running], timeout=line.DEADLINE_SECONDS)
        made.swallows = False
        assert running.done()
        assert made.settled == before

    run(view_redis, story)
