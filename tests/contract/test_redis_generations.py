"""Generations in real Redis: built beside live ones, compared while those go on, switched, kept.

Workers, rebuild and readers run in one event loop on the same log.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from redis import Redis

from gateway.views import Views
from projections.differences import compare, read_views
from projections.errors import RebuildRefused, RebuildUnderWay
from projections.fresh import FreshFold
from projections.generations import Comparison
from projections.redis_comparison import RedisComparison
from projections.redis_entries import RedisEntries
from projections.redis_generations import LOCK_MS, RedisGenerations
from schemas import views
from schemas.commands import CancelOrder, PlaceOrder
from schemas.events import LedgerEvent, OrderPlaced
from schemas.views import stored_key
from tests.fixtures._live_views import LiveViews, Rebuilder, rebuilt, somebody
from tests.fixtures.ledger_logs import MARKET, LogBuilder, positioned, random_log

pytestmark = pytest.mark.services
PROJECTIONS = (views.MARKET, views.MINING, views.ACCOUNTS)


@pytest.fixture(scope="module")
def log() -> list[LedgerEvent]:
    return random_log(51, seconds=900, trades=120)


@contextlib.asynccontextmanager
async def live(
    url: str, log: Sequence[LedgerEvent], projections: Sequence[str] = PROJECTIONS
) -> AsyncIterator[LiveViews]:
    workers = LiveViews(url, log, projections)
    try:
        yield workers
    finally:
        await workers.close()


@contextlib.asynccontextmanager
async def rebuilder(
    projection: str, url: str, log: Sequence[LedgerEvent]
) -> AsyncIterator[Rebuilder]:
    one = Rebuilder(projection, url, log)
    try:
        yield one
    finally:
        await one.close()


async def states(projection: str, url: str) -> dict[str, str]:
    store = RedisGenerations(projection, url, somebody())
    try:
        return {one.name: one.state for one in await store.generations()}
    finally:
        await store.close()


async def differences_from_log(url: str, log: Sequence[LedgerEvent]) -> list[object]:
    found: list[object] = []
    for projection in PROJECTIONS:
        expected = FreshFold(projection).fold_all(positioned(log)).views
        found += await compare(projection, url, expected)
    return found


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_equal_views_are_switched_to_and_hold_the_same(
    projection: str, projection_redis: str, log: list[LedgerEvent]
) -> None:
    async def run() -> Comparison:
        async with live(projection_redis, log) as workers:
            await workers.project_all()
            before = await read_views(projection, projection_redis)
            made = await rebuilt(projection, projection_redis, log)
            assert await read_views(projection, projection_redis, "2") == before
            assert await read_views(projection, projection_redis) == before
        return made

    made = asyncio.run(run())
    assert (made.switched, made.is_compared, made.differing) == (True, True, 0)
    assert made.new_digest == made.old_digest
    assert made.entries > 0
    assert set(made.positions) == {len(log)}
    assert asyncio.run(states(projection, projection_redis)) == {"1": "previous", "2": "live"}


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_live_worker_goes_on_while_a_rebuild_compares_and_after_it(
    projection: str, projection_redis: str, log: list[LedgerEvent]
) -> None:
    """Commits land between any two of the rebuild's steps; nothing is lost or doubled."""

    async def run() -> Comparison:
        async with (
            live(projection_redis, log, [projection]) as workers,
            rebuilder(projection, projection_redis, log) as one,
        ):
            await workers.project(6)

            async def go_on() -> None:
                while workers.position < len(log):
                    await workers.project(1)
                    await asyncio.sleep(0.002)

            await one.begin()
            await one.build()
            folding = asyncio.create_task(go_on())
            made = await one.compare()
            assert workers.position < len(log), "the worker was through before the switch"
            await folding
        return made

    made = asyncio.run(run())
    assert (made.switched, made.differing) == (True, 0)
    assert min(made.positions) < len(log)
    expected = FreshFold(projection).fold_all(positioned(log)).views
    assert asyncio.run(compare(projection, projection_redis, expected)) == []


def _key(projection: str, name: str) -> str:
    return stored_key(projection, "1", name)


def _fields(redis: Redis, key: str) -> list[str]:
    named: Any = redis.hkeys(key)
    return sorted(field.decode() for field in named)


def _change_string(redis: Redis) -> tuple[str, str]:
    redis.set(_key(views.MARKET, views.ticker_key(MARKET)), "{}")
    return views.ticker_key(MARKET), ""


def _change_field(redis: Redis) -> tuple[str, str]:
    key = _key(views.MARKET, views.kline_key(MARKET, "1m"))
    field = _fields(redis, key)[3]
    redis.hset(key, field, "[]")
    return views.kline_key(MARKET, "1m"), field


def _lose_field(redis: Redis) -> tuple[str, str]:
    key = _key(views.MARKET, views.burns_key(MARKET))
    field = _fields(redis, key)[2]
    redis.hdel(key, field)
    return views.burns_key(MARKET), field


def _add_field(redis: Redis) -> tuple[str, str]:
    redis.hset(_key(views.MARKET, views.kline_key(MARKET, "1h")), "77", "[]")
    return views.kline_key(MARKET, "1h"), "77"


def _add_key(redis: Redis) -> tuple[str, str]:
    redis.set(_key(views.MARKET, "ticker:GHOST"), "boo")
    return "ticker:GHOST", ""


def _lose_key(redis: Redis) -> tuple[str, str]:
    redis.delete(_key(views.MARKET, views.ASSETS_KEY))
    return views.ASSETS_KEY, "CNY"


def _change_row(redis: Redis) -> tuple[str, str]:
    redis.lset(_key(views.MARKET, views.trades_key(MARKET)), 5, "[]")
    return views.trades_key(MARKET), "row 5"


def _lose_row(redis: Redis) -> tuple[str, str]:
    redis.rpop(_key(views.MARKET, views.trades_key(MARKET)))
    length = redis.llen(_key(views.MARKET, views.trades_key(MARKET)))
    return views.trades_key(MARKET), f"row {length}"


def _change_kind(redis: Redis) -> tuple[str, str]:
    key = _key(views.MARKET, views.depth_key(MARKET))
    redis.delete(key)
    redis.sadd(key, "a")
    return views.depth_key(MARKET), ""


@pytest.mark.parametrize(
    "plant",
    [
        _change_string,
        _change_field,
        _lose_field,
        _add_field,
        _add_key,
        _lose_key,
        _change_row,
        _lose_row,
        _change_kind,
    ],
)
def test_planted_corruption_is_found_and_named_and_the_new_generation_is_right(
    plant: Callable[[Redis], tuple[str, str]], projection_redis: str, log: list[LedgerEvent]
) -> None:
    async def run() -> Comparison:
        async with live(projection_redis, log, [views.MARKET]) as workers:
            await workers.project_all()
        with Redis.from_url(projection_redis, db=views.TRADING_DB) as client:
            planted.append(plant(client))
        return await rebuilt(views.MARKET, projection_redis, log)

    planted: list[tuple[str, str]] = []
    made = asyncio.run(run())
    assert not made.switched
    assert made.differing == len(made.differences) >= 1
    assert planted[0] in {(one.key, one.field) for one in made.differences}
    assert {one.key for one in made.differences} == {planted[0][0]}
    assert made.new_digest != made.old_digest
    assert asyncio.run(states(views.MARKET, projection_redis)) == {"1": "live", "2": "built"}
    expected = FreshFold(views.MARKET).fold_all(positioned(log)).views
    assert asyncio.run(compare(views.MARKET, projection_redis, expected, "2")) == []


def test_wrong_score_of_a_ranking_is_found(projection_redis: str, log: list[LedgerEvent]) -> None:
    async def run() -> Comparison:
        async with live(projection_redis, log, [views.ACCOUNTS]) as workers:
            await workers.project_all()
        with Redis.from_url(projection_redis, db=views.CONTRIBUTION_DB) as client:
            client.zincrby(_key(views.ACCOUNTS, views.WEIGHTS_KEY), 1, "maker")
            client.zrem(_key(views.ACCOUNTS, views.WEIGHTS_KEY), "user1")
            client.zadd(_key(views.ACCOUNTS, views.WEIGHTS_KEY), {"ghost": 3})
        return await rebuilt(views.ACCOUNTS, projection_redis, log)

    made = asyncio.run(run())
    found = {one.field: (one.expected is None, one.found is None) for one in made.differences}
    assert found == {
        "maker": (False, False),
        "user1": (False, True),
        "ghost": (True, False),
    }
    assert {one.key for one in made.differences} == {views.WEIGHTS_KEY}


def test_corruption_is_found_in_views_that_go_on_changing(
    projection_redis: str, log: list[LedgerEvent]
) -> None:
    """One planted before the scan, one in an entry that the worker is about to write again."""

    async def run() -> Comparison:
        async with (
            live(projection_redis, log, [views.MARKET]) as workers,
            rebuilder(views.MARKET, projection_redis, log) as one,
        ):
            await workers.project(8)
            await one.begin()
            await one.build()
            with Redis.from_url(projection_redis, db=views.TRADING_DB) as client:
                client.hset(_key(views.MARKET, views.kline_key(MARKET, "5m")), "5", "[]")
                client.set(_key(views.MARKET, views.ticker_key(MARKET)), "{}")
            await workers.project(8)  # writes the ticker anew
            return await one.compare()

    made = asyncio.run(run())
    assert {(one.key, one.field) for one in made.differences} == {
        (views.kline_key(MARKET, "5m"), "5")
    }
    assert not made.switched


def test_order_that_came_and_went_between_two_reads_is_no_difference(
    projection_redis: str,
) -> None:
    """The live views still showed it when they were scanned; no batch of the rebuild names it."""
    builder = LogBuilder()
    builder.open_users("maker", "taker")
    before = len(builder.log)
    placed = builder.accept(
        PlaceOrder(
            user_id="maker",
            client_order_id="1",
            market_id=MARKET,
            side="sell",
            order_type="limit",
            price_minor=10_000,
            quantity_minor=10_000,
        )
    )
    order_id = next(event.order_id for event in placed if isinstance(event, OrderPlaced))
    builder.accept(CancelOrder(user_id="maker", order_id=order_id))
    log = builder.log

    async def run() -> tuple[int, int]:
        entries = RedisEntries(views.ACCOUNTS, projection_redis)
        workers = LiveViews(projection_redis, log, [views.ACCOUNTS], record_events=1)
        async with rebuilder(views.ACCOUNTS, projection_redis, log) as one:
            await workers.project(before)
            await one.begin()
            await one.build()
            await workers.project(len(placed))
            comparison = RedisComparison(entries, new=one.generation, old="1")
            one.store.store(one.generation).comparison = comparison
            await comparison.scan()
            seen = comparison.differing
            await workers.project_all()
            await one.catch_up([len(log)] * len(one.parts))
            await comparison.settle()
        await workers.close()
        await entries.close()
        return seen, comparison.differing

    seen, left = asyncio.run(run())
    assert seen > 0
    assert left == 0


def test_accepted_differences_are_switched_to(
    projection_redis: str, log: list[LedgerEvent]
) -> None:
    async def run() -> list[Comparison]:
        async with live(projection_redis, log) as workers:
            await workers.project(8)
            with Redis.from_url(projection_redis, db=views.TRADING_DB) as client:
                _add_field(client)
            first = await rebuilt(views.MARKET, projection_redis, log)
            await workers.project(4)
            second = await rebuilt(views.MARKET, projection_redis, log, "always")
            await workers.project_all()
        return [first, second]

    first, second = asyncio.run(run())
    assert (first.switched, second.switched, second.differing) == (False, True, 1)
    assert asyncio.run(differences_from_log(projection_redis, log)) == []


def test_rollback_brings_the_previous_generation_up_to_now(
    projection_redis: str, log: list[LedgerEvent]
) -> None:
    async def run() -> Comparison:
        async with live(projection_redis, log) as workers:
            await workers.project(6)
            await rebuilt(views.ACCOUNTS, projection_redis, log)
            await workers.project(6)
            async with rebuilder(views.ACCOUNTS, projection_redis, log) as one:
                await one.begin("1")
                await one.build()
                made = await one.compare("always")
            await workers.project_all()
        return made

    made = asyncio.run(run())
    assert (made.switched, made.differing) == (True, 0)
    assert asyncio.run(states(views.ACCOUNTS, projection_redis)) == {"1": "live", "2": "previous"}
    assert asyncio.run(differences_from_log(projection_redis, log)) == []


def test_lost_views_are_replaced_without_being_compared(
    projection_redis: str, log: list[LedgerEvent]
) -> None:
    made = asyncio.run(rebuilt(views.MINING, projection_redis, log))
    assert (made.switched, made.is_compared, made.old_digest) == (True, False, "")
    expected = FreshFold(views.MINING).fold_all(positioned(log)).views
    assert asyncio.run(compare(views.MINING, projection_redis, expected)) == []


def test_views_lost_again_while_their_worker_fills_them_are_replaced_all_the_same(
    projection_redis: str, log: list[LedgerEvent]
) -> None:
    """The worker began to fold from the first record when the rebuild had its target already."""

    async def run() -> Comparison:
        async with (
            live(projection_redis, log, [views.ACCOUNTS]) as workers,
            rebuilder(views.ACCOUNTS, projection_redis, log) as one,
        ):
            await one.begin()
            await one.build()
            await workers.project(3)
            made = await one.compare()
            await workers.project_all()
        return made

    made = asyncio.run(run())
    assert (made.switched, made.is_compared) == (True, False)
    expected = FreshFold(views.ACCOUNTS).fold_all(positioned(log)).views
    assert asyncio.run(compare(views.ACCOUNTS, projection_redis, expected)) == []


def test_second_rebuild_of_a_projection_is_refused_until_the_first_is_over(
    projection_redis: str, log: list[LedgerEvent]
) -> None:
    async def run() -> None:
        async with (
            rebuilder(views.MINING, projection_redis, log) as one,
            rebuilder(views.MINING, projection_redis, log) as other,
            rebuilder(views.MARKET, projection_redis, log) as elsewhere,
        ):
            await one.begin()
            with pytest.raises(RebuildUnderWay, match="tester since"):
                await other.begin()
            with pytest.raises(RebuildUnderWay):
                await other.store.drop("2")
            await elsewhere.begin()
            await one.close()
            assert await other.begin() == "2"

    asyncio.run(run())
    with Redis.from_url(projection_redis, db=views.MINING_DB) as client:
        assert client.pttl("rebuild:mining") < LOCK_MS


def test_unfinished_generation_is_gone_on_with(
    projection_redis: str, log: list[LedgerEvent]
) -> None:
    async def run() -> None:
        async with live(projection_redis, log) as workers:
            await workers.project(10)
            async with rebuilder(views.MARKET, projection_redis, log) as first:
                await first.begin()
                await first.catch_up([205])
            async with rebuilder(views.MARKET, projection_redis, log) as second:
                assert await second.begin() == first.generation
                assert second.parts[0].position == 205
                await second.build()
                assert (await second.compare()).switched

    asyncio.run(run())


def test_older_generations_are_dropped_and_their_keys_with_them(
    projection_redis: str, log: list[LedgerEvent]
) -> None:
    async def run() -> None:
        async with live(projection_redis, log) as workers:
            await workers.project_all()
            for _ in range(3):
                await rebuilt(views.ACCOUNTS, projection_redis, log)

    asyncio.run(run())
    assert asyncio.run(states(views.ACCOUNTS, projection_redis)) == {"3": "previous", "4": "live"}
    for database in (views.TRADING_DB, views.CONTRIBUTION_DB, views.ADMIN_DB):
        with Redis.from_url(projection_redis, db=database) as client:
            kept = {key.partition(b":")[0] for key in client.keys("accounts@*")}
        assert kept <= {b"accounts@3", b"accounts@4"}


def test_generation_that_readers_see_cannot_be_dropped(
    projection_redis: str, log: list[LedgerEvent]
) -> None:
    async def run() -> None:
        async with rebuilder(views.MINING, projection_redis, log) as one:
            with pytest.raises(RebuildRefused, match="is live"):
                await one.store.drop("1")

    asyncio.run(run())


def test_rebuild_does_not_write_what_somebody_else_has_written(
    projection_redis: str, log: list[LedgerEvent]
) -> None:
    async def run() -> None:
        async with rebuilder(views.MINING, projection_redis, log) as one:
            await one.begin()
            await one.catch_up([100])
            with Redis.from_url(projection_redis) as client:
                client.flushall()
            with pytest.raises(RebuildRefused, match="changed or deleted"):
                await one.catch_up([200])

    asyncio.run(run())


def test_hold_that_nobody_lifts_expires(projection_redis: str, log: list[LedgerEvent]) -> None:
    """A rebuild killed in the moment of its switch: the worker waits for a second at most."""

    async def run() -> None:
        async with live(projection_redis, log, [views.MINING]) as workers:
            await workers.project(1)
            with Redis.from_url(projection_redis, db=views.MINING_DB) as client:
                client.set(views.hold_key(views.MINING), "dead", px=300)
            async with asyncio.timeout(5):
                await workers.project(1)

    asyncio.run(run())


# -- readers ----------------------------------------------------------------------------------

Read = Callable[[Views], Awaitable[int]]


async def _account_position(reader: Views) -> int:
    state = await reader.account("maker")
    assert state.account.balances
    assert state.contribution.weight > 0
    assert state.epoch is not None
    return state.account.position


async def _pool_position(reader: Views) -> int:
    pool, versioned = await reader.pool()
    assert pool is not None and versioned.epoch is not None
    return pool.position


async def _newest_trade(reader: Views) -> int:
    trades, versioned = await reader.trades(MARKET, 5)
    assert trades
    # A trade is the tape's next publication, so both count the same.
    assert versioned.offset == trades[-1].trade_id
    return trades[-1].position


async def _ranking(reader: Views) -> int:
    count, top = await reader.top_weights(10)
    assert count == len(top) == 8
    return 0


@pytest.mark.parametrize(
    ("projection", "read"),
    [
        (views.ACCOUNTS, _account_position),
        (views.ACCOUNTS, _ranking),
        (views.MINING, _pool_position),
        (views.MARKET, _newest_trade),
    ],
)
def test_readers_see_no_gap_and_nothing_older_across_switches(
    projection: str, read: Read, projection_redis: str, log: list[LedgerEvent]
) -> None:
    # Not cancelled: inside the driver a cancellation can get lost (asyncio.wait_for before 3.12).
    is_over = asyncio.Event()

    async def keep_reading(reader: Views, positions: list[int]) -> None:
        while not is_over.is_set():
            positions.append(await read(reader))
            await asyncio.sleep(0)

    async def run() -> list[int]:
        positions: list[int] = []
        reader = Views(projection_redis)
        async with live(projection_redis, log, [projection]) as workers:
            await workers.project(20)
            reading = asyncio.create_task(keep_reading(reader, positions))
            for _ in range(4):
                made = await rebuilt(projection, projection_redis, log)
                assert made.switched
                await workers.project(1)
            async with rebuilder(projection, projection_redis, log) as one:
                await one.begin("4")
                await one.build()
                assert (await one.compare("always")).switched
            await workers.project(1)
            is_over.set()
            await reading
        await reader.close()
        return positions

    positions = asyncio.run(run())
    assert len(positions) > 10
    assert positions == sorted(positions)
