"""Rows of the deep history, against figures written down by hand."""

import asyncio

import msgspec
import pytest

from domain.postings import UserPosting, postings_of
from projections.errors import EventPoisoned
from projections.history.fold import HistoryBatch, HistoryFold, contributors
from projections.history.folder import HistoryFolder
from projections.history.memory import MemoryHistory, fresh_history
from projections.history.transactions import transactions_of
from schemas import events
from schemas.deep_history import BurnRow, IndexMark, KlineRow, Transaction, WeightChange
from schemas.records import RecordHead
from tests.fixtures.ledger_logs import (
    MARKET,
    LogBuilder,
    event_records,
    positioned,
    random_log,
    trade_event,
)

SECOND_NS = 1_000_000_000
MINUTE = 1_700_000_040  # begins a minute


def second(at: int, index: int = 0, allocated: int = 0) -> events.MiningAllocated:
    return events.MiningAllocated(
        at_ns=at * SECOND_NS,
        second=at,
        asset_id="DUR",
        reward_minor=0,
        weight_total=0,
        index=index,
        carry=0,
        allocated_minor=allocated,
    )


def folded(*happened: events.LedgerEvent) -> HistoryBatch:
    return fresh_history(enumerate(happened, 1))


def test_trade_makes_a_row_for_each_side_and_asset_with_the_users_own_order() -> None:
    trade = events.TradeExecuted(
        at_ns=7,
        trade_id=3,
        market_id=MARKET,
        base_asset="DUR",
        quote_asset="CNY",
        price_minor=250,
        quantity_minor=1_000,
        quote_minor=2_500,
        burned_minor=10,
        buyer_fee_minor=4,
        seller_fee_minor=5,
        refund_minor=50,
        taker_side="sell",
        buyer_id="ann",
        seller_id="bob",
        maker_order_id=11,
        taker_order_id=12,
        maker_leaves_minor=0,
        taker_leaves_minor=0,
    )
    kind, why = "trade_executed", (3, None, 250, 1_000, 10)
    assert transactions_of(9, trade) == [
        Transaction(9, 7, "ann", kind, "CNY", 50, -2_550, MARKET, 11, *why),
        Transaction(9, 7, "ann", kind, "DUR", 986, 0, MARKET, 11, *why),
        Transaction(9, 7, "bob", kind, "CNY", 2_495, 0, MARKET, 12, *why),
        Transaction(9, 7, "bob", kind, "DUR", 0, -990, MARKET, 12, *why),
    ]


def test_every_other_change_of_a_balance_says_why() -> None:
    deposit = events.FundsDeposited(
        at_ns=1, user_id="ann", asset_id="CNY", amount_minor=5, reference="r"
    )
    burn = events.AssetBurned(
        at_ns=2,
        asset_id="DUR",
        source="trade",
        user_id="bob",
        market_id=MARKET,
        trade_id=3,
        amount_minor=10,
        burned_total_minor=10,
    )
    cancelled = events.OrderCancelled(
        at_ns=3,
        order_id=4,
        user_id="ann",
        market_id=MARKET,
        reason="requested",
        leaves_minor=7,
        released_asset="CNY",
        released_minor=70,
    )
    settled = events.AccrualSettled(
        at_ns=4, user_id="ann", asset_id="DUR", amount_minor=6, entry_index=0, entry_fraction=0
    )
    reserve = events.AssetBurned(
        at_ns=5, asset_id="DUR", source="reserve", amount_minor=1, burned_total_minor=11
    )
    assert folded(deposit, burn, cancelled, settled, reserve).transactions == [
        Transaction(1, 1, "ann", "funds_deposited", "CNY", 5, 0, reference="r"),
        Transaction(2, 2, "bob", "asset_burned", "DUR", 0, -10, MARKET, None, 3, burned_minor=10),
        Transaction(3, 3, "ann", "order_cancelled", "CNY", 70, -70, MARKET, 4),
        Transaction(4, 4, "ann", "accrual_settled", "DUR", 6, 0),
    ]


def test_rows_are_all_postings_of_users() -> None:
    log = random_log(2, seconds=200, trades=40)
    expected = [
        (position, posting.user_id, posting.asset_id, posting.available_minor, posting.held_minor)
        for position, event in positioned(log)
        for posting in postings_of(event)
        if isinstance(posting, UserPosting)
    ]
    assert [
        (row.position, row.user_id, row.asset_id, row.available_minor, row.held_minor)
        for row in fresh_history(positioned(log)).transactions
    ] == expected


def test_minutes_are_written_when_log_time_has_left_them() -> None:
    trades = [
        trade_event(second=MINUTE + 5, price=100, quantity=2, burned=3),
        trade_event(second=MINUTE + 6, price=90, quantity=1, taker_side="sell", burned=1),
        trade_event(second=MINUTE + 130, price=95, quantity=1),
    ]
    assert not folded(*trades[:2]).klines
    rows = folded(*trades)
    # Position 3 closed both: the minute of the trades, and the empty one after it.
    assert rows.klines == [
        KlineRow(3, MINUTE, MARKET, 100, 100, 90, 90, 3, 290, 2, 2, 200, 4, 1, 2),
        KlineRow(3, MINUTE + 60, MARKET, 90, 90, 90, 90, 0, 0, 0, 0, 0, 0, 0, 0),
    ]
    assert rows.burns == [
        BurnRow(3, MINUTE, "trade", MARKET, "DUR", 4, 2, 4),
        BurnRow(3, MINUTE + 60, "trade", MARKET, "DUR", 0, 0, 4),
    ]


def test_reserve_has_minutes_of_its_own_from_its_first_burn_on() -> None:
    def burn(at: int, amount: int) -> events.AssetBurned:
        return events.AssetBurned(
            at_ns=at * SECOND_NS,
            asset_id="DUR",
            source="reserve",
            amount_minor=amount,
            burned_total_minor=0,
        )

    rows = folded(second(MINUTE), burn(MINUTE, 5), burn(MINUTE + 60, 6), second(MINUTE + 180))
    assert rows.burns == [
        BurnRow(3, MINUTE, "reserve", None, "DUR", 5, 0, 5),
        BurnRow(4, MINUTE + 60, "reserve", None, "DUR", 6, 0, 11),
        BurnRow(4, MINUTE + 120, "reserve", None, "DUR", 0, 0, 11),
    ]


def test_marks_are_of_the_last_second_of_each_minute() -> None:
    seconds = [second(at, at * 10, at * 3) for at in range(MINUTE + 57, MINUTE + 62)]
    last = MINUTE + 59
    assert folded(*seconds).marks == [IndexMark(3, MINUTE, last * 10, last * 3)]


def test_weight_changes_carry_weight_and_payments_on() -> None:
    def granted(weight: int, after: int) -> events.ContributionGranted:
        return events.ContributionGranted(
            at_ns=0,
            user_id="ann",
            grant_id="g",
            source="s",
            weight=weight,
            expires_second=None,
            weight_after=after,
            entry_index=50,
            entry_fraction=5,
        )

    settled = events.AccrualSettled(
        at_ns=0, user_id="ann", asset_id="DUR", amount_minor=6, entry_index=70, entry_fraction=7
    )
    expired = events.ContributionExpired(
        at_ns=0,
        user_id="ann",
        grant_id="g",
        weight=3,
        weight_after=4,
        entry_index=80,
        entry_fraction=8,
    )
    happened = (second(9), granted(3, 3), granted(4, 7), second(10), settled, expired)
    # Made between second 9 and 10, the grants count from 10 on; what comes after 10 from 11 on.
    assert folded(*happened).weights == [
        WeightChange(2, 10, "ann", 3, 50, 5, 0),
        WeightChange(3, 10, "ann", 7, 50, 5, 0),
        WeightChange(5, 11, "ann", 7, 70, 7, 6),
        WeightChange(6, 11, "ann", 4, 80, 8, 6),
    ]


@pytest.mark.parametrize("size", [1, 3, 50])
def test_where_batches_are_cut_changes_no_row(size: int) -> None:
    log = list(positioned(random_log(3, seconds=200, trades=30)))

    async def fold() -> HistoryBatch:
        store, rows = MemoryHistory(), HistoryBatch()
        folder = HistoryFolder(cached_max=1)
        await folder.load(store.reader("1"))
        for first in range(0, len(log), size):
            await folder.fold_events(log[first : first + size])
            batch = folder.drain()
            store.generations["1"].append(batch)
            rows.extend(batch)
            if first % 7 == 0:
                await folder.load(store.reader("1"))  # as after a restart
        return rows

    rows, whole = asyncio.run(fold()), fresh_history(log)
    for table in ("transactions", "burns", "klines", "weights", "marks"):
        assert getattr(rows, table) == getattr(whole, table)
    assert rows.count() == whole.count()


def test_users_not_needed_lately_are_forgotten() -> None:
    builder = LogBuilder()
    builder.pass_seconds(1)
    builder.open_users("ann", "bob")
    log = list(positioned(builder.log))
    assert contributors(log) == ["ann", "bob"]
    fold = HistoryFold(cached_max=1)
    for user_id in fold.unknown(contributors(log)):
        fold.adopt(user_id, None)
    for position, event in log:
        fold.fold(position, event)
    fold.drain()
    assert fold.unknown(["ann", "bob"]) == ["ann"]


def test_records_are_folded_beyond_what_is_stored_and_their_time_is_known() -> None:
    log = random_log(3, seconds=30, trades=5)
    (record,) = event_records(log, (len(log),))

    async def fold() -> None:
        folder = HistoryFolder()
        await folder.load(MemoryHistory().reader("1"))
        assert await folder.fold_record(record.head, record.value, after=0, until=40) == 40
        rest = await folder.fold_record(record.head, record.value, after=40)
        assert rest == len(log) - 40
        assert await folder.fold_record(record.head, record.value, after=len(log)) == 0
        assert folder.at_ns == log[-1].at_ns
        assert folder.drain().count() == fresh_history(positioned(log)).count()

    asyncio.run(fold())


def test_event_that_cannot_be_folded_is_named() -> None:
    async def fold(event: events.LedgerEvent) -> None:
        folder = HistoryFolder()
        await folder.load(MemoryHistory().reader("1"))
        await folder.fold_events([(1, second(9)), (2, event)])

    # A program that has another idea of an event than the one that wrote it.
    bad = msgspec.structs.replace(trade_event(second=9, price=1, quantity=1), quantity_minor="1")
    with pytest.raises(EventPoisoned, match="position 2") as poisoned:
        asyncio.run(fold(bad))
    assert (poisoned.value.position, poisoned.value.event_type) == (2, "trade_executed")

    async def read() -> None:
        folder = HistoryFolder()
        await folder.load(MemoryHistory().reader("1"))
        head = RecordHead(first=1, last=1, sequence=1)
        await folder.fold_record(head, b'{"type":"no_such_event"}', after=0)

    with pytest.raises(EventPoisoned, match="position 1"):
        asyncio.run(read())
