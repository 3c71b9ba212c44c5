"""Histories of users, orders, trades and streams, found by the index: all of it and no more."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from engine.ports import LoggedEvent
from engine.postgres.datastore import datastore_of
from engine.postgres.history import PAGE_BEFORE_SQL, PAGE_SQL, HistoryPage, LedgerHistory
from engine.postgres.recorder import LedgerRecorder
from schemas.codecs import decode_event, encode_event, topic_of
from schemas.events import (
    AssetBurned,
    LedgerEvent,
    MiningAllocated,
    OrderCancelled,
    OrderPlaced,
    OrderReduced,
    TradeExecuted,
)
from schemas.history import history_keys, user_key
from schemas.streams import stream_id
from tests.fixtures.postgres import LedgerDatabase
from tests.unit.domain.story import story

pytestmark = pytest.mark.services
DEADLINE_SECONDS = 30.0
BATCH_EVENTS = 7
Read = Callable[[LedgerHistory, int, int], Coroutine[Any, Any, HistoryPage]]


@pytest.fixture(scope="module")
def log() -> list[LedgerEvent]:
    return story().log


@pytest.fixture(params=["recent", "indexed", "both"])
def stored(
    request: pytest.FixtureRequest, ledger_database: LedgerDatabase, log: list[LedgerEvent]
) -> LedgerDatabase:
    """The log, with its index made for none, all or half of it."""
    half = len(log) // 2 if request.param == "both" else len(log)
    with datastore_of(ledger_database.writer_url) as datastore:
        recorder = LedgerRecorder(datastore)
        recorder.lead()
        versions: dict[str, int] = {}
        asyncio.run(_append(recorder, log[:half], versions))
        if request.param != "recent":
            _index_all(ledger_database)
        asyncio.run(_append(recorder, log[half:], versions))
        recorder.close_writer()
    return ledger_database


async def _append(
    recorder: LedgerRecorder, log: list[LedgerEvent], versions: dict[str, int]
) -> None:
    for first in range(0, len(log), BATCH_EVENTS):
        happened = log[first : first + BATCH_EVENTS]
        events, history = [], []
        for index, event in enumerate(happened):
            stream = stream_id(event)
            versions[stream] = versions.get(stream, 0) + 1
            events.append(
                StoredEvent(stream, versions[stream], topic_of(event), encode_event(event))
            )
            history += [(key, index) for key in history_keys(event)]
        await recorder.append(events, history)


def _index_all(database: LedgerDatabase) -> None:
    with psycopg.connect(database.writer_url, autocommit=True) as connection:
        while connection.execute("SELECT durian_index_history(50)").fetchone() != (0,):
            pass
        assert list(connection.execute("SELECT FROM ledger_history_recent")) == []


def _all(database: LedgerDatabase, read: Read, *, limit: int) -> list[LedgerEvent]:
    """Page by page; checks the order."""

    async def scene() -> list[LoggedEvent]:
        found: list[LoggedEvent] = []
        async with LedgerHistory(database.reader_url) as history:
            after: int | None = 0
            while after is not None:
                page = await read(history, after, limit)
                assert len(page.events) <= limit
                found += page.events
                after = page.after
        return found

    found = asyncio.run(asyncio.wait_for(scene(), DEADLINE_SECONDS))
    positions = [logged.position for logged in found]
    assert positions == sorted(set(positions))
    return [decode_event(logged.payload) for logged in found]


def _is_of_user(event: LedgerEvent, user_id: str) -> bool:
    if isinstance(event, TradeExecuted):
        return user_id in (event.buyer_id, event.seller_id)
    return stream_id(event) == f"user:{user_id}"


def _is_of_order(event: LedgerEvent, order_id: int) -> bool:
    match event:
        case OrderPlaced() | OrderReduced() | OrderCancelled():
            return event.order_id == order_id
        case TradeExecuted():
            return order_id in (event.maker_order_id, event.taker_order_id)
        case _:
            return False


@pytest.mark.parametrize("limit", [1, 3, 1_000])
def test_a_users_history_is_the_own_stream_and_the_trades(
    stored: LedgerDatabase, log: list[LedgerEvent], limit: int
) -> None:
    traders = {event.buyer_id for event in log if isinstance(event, TradeExecuted)}
    assert traders
    for user_id in sorted(traders)[:2]:

        def read(history: LedgerHistory, after: int, limit: int) -> Coroutine[Any, Any, Any]:
            return history.of_user(user_id, after=after, limit=limit)  # noqa: B023  # read at once

        expected = [event for event in log if _is_of_user(event, user_id)]
        assert _all(stored, read, limit=limit) == expected


def test_an_orders_history_is_its_placing_changes_and_trades(
    stored: LedgerDatabase, log: list[LedgerEvent]
) -> None:
    traded = [event.maker_order_id for event in log if isinstance(event, TradeExecuted)]
    for order_id in {traded[0], traded[-1]}:

        def read(history: LedgerHistory, after: int, limit: int) -> Coroutine[Any, Any, Any]:
            return history.of_order(order_id, after=after, limit=limit)  # noqa: B023  # read at once

        expected = [event for event in log if _is_of_order(event, order_id)]
        assert _all(stored, read, limit=2) == expected


def test_a_trade_is_found_with_its_burn(stored: LedgerDatabase, log: list[LedgerEvent]) -> None:
    burnt = {event.trade_id for event in log if isinstance(event, AssetBurned)}
    trades = [event for event in log if isinstance(event, TradeExecuted)]
    assert any(trade.trade_id in burnt for trade in trades)

    async def scene() -> None:
        async with LedgerHistory(stored.reader_url) as history:
            for trade in trades:
                found = [
                    decode_event(logged.payload)
                    for logged in await history.of_trade(trade.trade_id)
                ]
                assert found[0] == trade
                assert len(found) == 1 + (trade.trade_id in burnt)
            assert await history.of_trade(10**9) == []
            assert await history.of_order(10**9, limit=5) == HistoryPage([], None)

    asyncio.run(asyncio.wait_for(scene(), DEADLINE_SECONDS))


def test_a_stream_is_read_as_written(stored: LedgerDatabase, log: list[LedgerEvent]) -> None:
    for stream in {stream_id(event) for event in log}:

        def read(history: LedgerHistory, after: int, limit: int) -> Coroutine[Any, Any, Any]:
            return history.of_stream(stream, after=after, limit=limit)  # noqa: B023  # read at once

        expected = [event for event in log if stream_id(event) == stream]
        assert _all(stored, read, limit=5) == expected


@pytest.mark.parametrize("limit", [1, 3, 1_000])
def test_users_and_streams_are_read_backwards_too(
    stored: LedgerDatabase, log: list[LedgerEvent], limit: int
) -> None:
    trade = next(event for event in log if isinstance(event, TradeExecuted))
    user_id, market = trade.buyer_id, f"market:{trade.market_id}"

    async def backwards(history: LedgerHistory, *, is_user: bool) -> list[LedgerEvent]:
        found: list[LoggedEvent] = []
        before: int | None = 1 << 53
        while before is not None:
            if is_user:
                page = await history.of_user_before(user_id, before=before, limit=limit)
            else:
                page = await history.of_stream_before(market, before=before, limit=limit)
            assert len(page.events) <= limit
            found += page.events
            before = page.after
        positions = [logged.position for logged in found]
        assert positions == sorted(set(positions), reverse=True)
        return [decode_event(logged.payload) for logged in reversed(found)]

    async def scene() -> None:
        async with LedgerHistory(stored.reader_url) as history:
            of_user = [event for event in log if _is_of_user(event, user_id)]
            assert await backwards(history, is_user=True) == of_user
            of_market = [event for event in log if stream_id(event) == market]
            assert await backwards(history, is_user=False) == of_market

    asyncio.run(asyncio.wait_for(scene(), DEADLINE_SECONDS))


def test_an_order_is_found_by_its_placement(stored: LedgerDatabase, log: list[LedgerEvent]) -> None:
    async def scene() -> None:
        async with LedgerHistory(stored.reader_url) as history:
            for event in log:
                if isinstance(event, OrderPlaced):
                    found = await history.placement(event.order_id)
                    assert found is not None
                    assert decode_event(found.payload) == event
            assert await history.placement(10**9) is None

    asyncio.run(asyncio.wait_for(scene(), DEADLINE_SECONDS))


def test_the_librarys_read_of_a_stream_finds_the_same(
    stored: LedgerDatabase, log: list[LedgerEvent]
) -> None:
    with datastore_of(stored.reader_url) as datastore:
        recorder = LedgerRecorder(datastore)
        for stream in {stream_id(event) for event in log}:
            expected = [encode_event(event) for event in log if stream_id(event) == stream]
            found = recorder.select_events(stream)
            assert [event.state for event in found] == expected
            versions = [event.originator_version for event in found]
            assert versions == list(range(1, len(expected) + 1))
            page = recorder.select_events(stream, gt=1, lte=4, desc=True, limit=2)
            assert [event.originator_version for event in page] == versions[1:4][::-1][:2]


def test_another_name_with_the_same_digest_is_not_given_out(
    ledger_database: LedgerDatabase, log: list[LedgerEvent]
) -> None:
    """Whatever the index says, the event's own fields decide."""
    trade = next(event for event in log if isinstance(event, TradeExecuted))
    with datastore_of(ledger_database.writer_url) as datastore:
        recorder = LedgerRecorder(datastore)
        recorder.lead()
        stored = StoredEvent("user:x", 1, topic_of(trade), encode_event(trade))
        asyncio.run(recorder.append([stored], [(user_key("somebody else"), 0)]))
        recorder.close_writer()

    async def scene() -> None:
        async with LedgerHistory(ledger_database.reader_url) as history:
            page = await history.of_user("somebody else", limit=10)
            assert page == HistoryPage([], None)

    asyncio.run(asyncio.wait_for(scene(), DEADLINE_SECONDS))


@pytest.fixture
def full_database(ledger_database: LedgerDatabase) -> LedgerDatabase:
    """200,000 events of 1,000 users, indexed but for the last batches."""
    with datastore_of(ledger_database.writer_url) as datastore:
        recorder = LedgerRecorder(datastore)
        recorder.lead()

        async def fill() -> None:
            for batch in range(200):
                await recorder.append(
                    [
                        StoredEvent(f"user:{index}", batch + 1, "t:1", b"x" * 200)
                        for index in range(1_000)
                    ]
                )

        asyncio.run(fill())
        recorder.close_writer()
    with psycopg.connect(ledger_database.writer_url, autocommit=True) as connection:
        for _ in range(3):
            connection.execute("SELECT durian_index_history(50000)")
    with psycopg.connect(ledger_database.owner_url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return ledger_database


@pytest.mark.parametrize(("page", "beside"), [(PAGE_SQL, 100), (PAGE_BEFORE_SQL, 190_000)])
def test_a_history_is_read_by_indexes(
    full_database: LedgerDatabase, page: str, beside: int
) -> None:
    query = page.replace("$1", "%(key)s").replace("$2", "%(beside)s").replace("$3", "%(limit)s")
    with psycopg.connect(full_database.reader_url) as connection:
        plan = "\n".join(
            row[0]
            for row in connection.execute(
                f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}".encode(),
                {"key": user_key("7"), "beside": beside, "limit": 50},
            )
        )
    # The partition after is empty: reading it whole is quickest.
    assert not re.search("Seq Scan on ledger_(events|history)_p000000000001", plan), plan
    assert "Index Scan using ledger_events_p000000000001_pkey" in plan, plan
    assert re.search("Index Scan (using|on) ledger_history_p000000000001_pkey", plan), plan


def test_a_leader_makes_the_index_while_it_appends(ledger_database: LedgerDatabase) -> None:
    with contextlib.ExitStack() as opened:
        recorder = LedgerRecorder(opened.enter_context(datastore_of(ledger_database.writer_url)))
        opened.callback(recorder.close_writer)

        async def scene() -> None:
            await recorder.elect("a:1")
            with psycopg.connect(ledger_database.reader_url, autocommit=True) as reader:
                deadline = time.monotonic() + DEADLINE_SECONDS
                version = 0
                while list(reader.execute("SELECT FROM ledger_history LIMIT 1")) == []:
                    version += 1
                    await recorder.append([StoredEvent("user:x", version, "t:1", b"x")])
                    await asyncio.sleep(0.01)
                    assert time.monotonic() < deadline

        asyncio.run(scene())
        assert len(recorder.select_events("user:x")) == recorder.head.position


def test_without_its_index_function_the_leader_appends_all_the_same(
    ledger_database: LedgerDatabase,
) -> None:
    with psycopg.connect(ledger_database.owner_url) as connection:
        connection.execute("DROP FUNCTION durian_index_history")
    with contextlib.ExitStack() as opened:
        recorder = LedgerRecorder(opened.enter_context(datastore_of(ledger_database.writer_url)))
        opened.callback(recorder.close_writer)

        async def scene() -> None:
            await recorder.elect("a:1")
            for version in range(1, 20):
                await recorder.append([StoredEvent("user:x", version, "t:1", b"x")])
                await asyncio.sleep(0.01)

        asyncio.run(scene())
        assert len(recorder.select_events("user:x")) == 19


def test_allocations_are_found_between_two_positions(
    stored: LedgerDatabase, log: list[LedgerEvent]
) -> None:
    allocated = [
        position for position, event in enumerate(log, 1) if isinstance(event, MiningAllocated)
    ]
    ends = (1, allocated[0], allocated[1], allocated[3] + 1, allocated[-2], len(log))

    async def scene() -> None:
        async with LedgerHistory(stored.reader_url) as history:
            for first in ends:
                for last in ends:
                    found = await history.allocations(first=first, last=last, limit=1_000)
                    expected = [at for at in allocated if first <= at <= last]
                    assert [logged.position for logged in found] == expected
                    assert [decode_event(logged.payload) for logged in found] == [
                        log[at - 1] for at in expected
                    ]
            few = await history.allocations(first=1, last=len(log), limit=2)
            assert [logged.position for logged in few] == allocated[:2]

    asyncio.run(asyncio.wait_for(scene(), DEADLINE_SECONDS))
