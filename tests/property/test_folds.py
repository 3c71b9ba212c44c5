"""Folds over generated logs: cutting, restarting and redelivering never change a view."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.batch import Batch
from projections.differences import list_differences
from projections.folders import folder
from projections.fresh import FreshFold
from projections.memory import MemoryViews
from projections.partition import PartitionWorker, Record
from schemas import views
from schemas.events import LedgerEvent, MiningAllocated, TradeExecuted
from schemas.records import POSTINGS_PARTITIONS
from schemas.views import INTERVAL_SECONDS, BurnMinute, Candle, open_second
from tests.fixtures.ledger_logs import (
    MARKET,
    effect_records,
    event_records,
    positioned,
    random_log,
)

PROJECTIONS = (views.MARKET, views.MINING, views.ACCOUNTS)

logs = st.builds(
    random_log,
    st.integers(0, 2**32),
    seconds=st.integers(1, 8_000),
    trades=st.integers(0, 60),
)
sizes = st.lists(st.integers(1, 400), min_size=1, max_size=5)


def _records(projection: str, log: Sequence[LedgerEvent], cuts: list[int]) -> list[list[Record]]:
    if projection == views.ACCOUNTS:
        return effect_records(log, cuts)
    return [event_records(log, cuts)]


def _worker(projection: str, partition: int, store: MemoryViews) -> PartitionWorker[Batch]:
    return PartitionWorker(
        partition=partition,
        folder=folder(projection, partition),
        store=store,
        new_epoch=lambda: "e",
    )


def fold_records(
    projection: str, partitions: list[list[Record]], *, restart_every: int, resend: int
) -> MemoryViews:
    """restart_every: records after which a new worker reloads. resend: records given once more."""
    store = MemoryViews()

    async def fold_all() -> None:
        for partition, records in enumerate(partitions):
            worker = _worker(projection, partition, store)
            for at, record in enumerate(records):
                if at % restart_every == 0:
                    worker = _worker(projection, partition, store)
                for again in records[max(0, at - resend) : at + 1]:
                    await worker.receive([again])
                await worker.receive([record])

    asyncio.run(fold_all())
    return store


@pytest.mark.parametrize("projection", PROJECTIONS)
@given(log=logs, cuts=sizes)
def test_where_batches_are_cut_changes_no_view(
    projection: str, log: list[LedgerEvent], cuts: list[int]
) -> None:
    whole = FreshFold(projection).fold_all(positioned(log))
    cut = fold_records(projection, _records(projection, log, cuts), restart_every=10**9, resend=0)
    assert list_differences(whole.views, cut.views) == []


@pytest.mark.parametrize("projection", PROJECTIONS)
@given(log=logs, cuts=sizes, restart_every=st.integers(1, 3), resend=st.integers(0, 3))
def test_reloaded_worker_goes_on_identically_whatever_is_sent_again(
    projection: str, log: list[LedgerEvent], cuts: list[int], restart_every: int, resend: int
) -> None:
    records = _records(projection, log, cuts)
    straight = fold_records(projection, records, restart_every=10**9, resend=0)
    restarted = fold_records(projection, records, restart_every=restart_every, resend=resend)
    assert list_differences(straight.views, restarted.views) == []
    assert straight.feeds == restarted.feeds
    assert straight.checkpoints == restarted.checkpoints


def test_reloaded_worker_knows_the_ticker_window_of_the_last_day() -> None:
    log = random_log(12, seconds=100_000, trades=300)
    records = _records(views.MARKET, log, [2_999])
    whole = FreshFold(views.MARKET).fold_all(positioned(log))
    restarted = fold_records(views.MARKET, records, restart_every=1, resend=0)
    assert list_differences(whole.views, restarted.views) == []


def _candles(stored: MemoryViews, interval: str) -> list[Candle]:
    hashed = asyncio.run(stored.all_fields((views.TRADING_DB, views.kline_key(MARKET, interval))))
    candles = [msgspec.json.decode(content, type=Candle) for content in hashed.values()]
    return sorted(candles, key=lambda candle: candle.open_second)


def _merge(opened: int, minutes: list[Candle]) -> Candle:
    traded = [minute for minute in minutes if minute.trade_count] or minutes[:1]
    return Candle(
        open_second=opened,
        open=traded[0].open,
        high=max(minute.high for minute in traded),
        low=min(minute.low for minute in traded),
        close=minutes[-1].close,
        volume=sum(minute.volume for minute in minutes),
        quote_volume=sum(minute.quote_volume for minute in minutes),
        trade_count=sum(minute.trade_count for minute in minutes),
        taker_buy_volume=sum(minute.taker_buy_volume for minute in minutes),
        taker_buy_quote_volume=sum(minute.taker_buy_quote_volume for minute in minutes),
        burned=sum(minute.burned for minute in minutes),
        first_position=traded[0].first_position,
        last_position=traded[-1].last_position,
    )


@given(log=logs, percent=st.integers(1, 100))
def test_every_interval_is_the_merge_of_its_minutes_at_every_cut(
    log: list[LedgerEvent], percent: int
) -> None:
    stored = FreshFold(views.MARKET).fold_all(positioned(log[: len(log) * percent // 100]))
    minutes: dict[str, dict[int, list[Candle]]] = {interval: {} for interval in INTERVAL_SECONDS}
    for minute in _candles(stored, "1m"):
        for interval, merged in minutes.items():
            opened = open_second(minute.open_second, interval)
            merged.setdefault(opened, []).append(minute)
    for interval, by_open in minutes.items():
        found = _candles(stored, interval)
        expected = [_merge(opened, merged) for opened, merged in by_open.items()]
        for candle in expected[:-1]:
            candle.closed = True
        assert found == expected, interval


@given(log=logs)
def test_candles_and_burns_equal_a_plain_recount_of_the_log(log: list[LedgerEvent]) -> None:
    """Shares no fold code: groups the trades of the log by minute."""
    stored = FreshFold(views.MARKET).fold_all(positioned(log))
    trades = [event for event in log if isinstance(event, TradeExecuted)]
    now = max(event.second for event in log if isinstance(event, MiningAllocated))
    hashed = asyncio.run(stored.all_fields((views.TRADING_DB, views.burns_key(MARKET))))
    records = {int(key): msgspec.json.decode(b, type=BurnMinute) for key, b in hashed.items()}
    candles = {candle.open_second: candle for candle in _candles(stored, "1m")}
    if not trades:
        assert not records
        assert not candles
        return
    start = trades[0].at_ns // 60_000_000_000 * 60
    assert sorted(records) == sorted(candles) == list(range(start, now + 1, 60))
    burned, close = 0, 0
    for second in sorted(records):
        mine = [trade for trade in trades if trade.at_ns // 60_000_000_000 * 60 == second]
        burned += sum(trade.burned_minor for trade in mine)
        close = mine[-1].price_minor if mine else close
        prices = [trade.price_minor for trade in mine] or [close]
        candle, record = candles[second], records[second]
        assert (candle.open, candle.high, candle.low, candle.close) == (
            prices[0],
            max(prices),
            min(prices),
            close,
        )
        assert candle.volume == sum(trade.quantity_minor for trade in mine)
        assert candle.quote_volume == sum(trade.quote_minor for trade in mine)
        assert candle.trade_count == record.trade_count == len(mine)
        assert record.cumulative == burned
        assert record.closed is candle.closed is (second + 60 <= now)


def test_partition_count_changes_no_users_views() -> None:
    log = random_log(11, seconds=400, trades=30)
    one = FreshFold(views.ACCOUNTS, partition_count=1).fold_all(positioned(log))
    many = FreshFold(views.ACCOUNTS, partition_count=POSTINGS_PARTITIONS)
    assert list_differences(one.views, many.fold_all(positioned(log)).views) == []
