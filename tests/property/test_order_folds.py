"""Views of orders over random logs: never crossed, equal to the domain's own books, rebuilt by a
client from snapshot and changes, whatever was cut, restarted, sent again or folded quietly.
"""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ledger import evolve
from domain.state import LedgerState
from projections.depth import Depth, DepthState
from projections.differences import list_differences
from projections.folders import folder
from projections.fresh import FreshFold
from projections.markets import MarketsFold
from projections.memory import MemoryViews
from schemas import publications, views
from schemas.events import OrderCancelled, OrderPlaced, OrderReduced, TradeExecuted
from schemas.publications import DepthChange
from schemas.records import POSTINGS_PARTITIONS
from schemas.views import AccountPublication, DepthView, OrderView
from tests.fixtures.ledger_logs import effect_records, event_records, positioned
from tests.fixtures.order_logs import MARKETS, OrderLog
from tests.property.test_folds import PROJECTIONS, fold_records

DB = views.TRADING_DB
logs = st.builds(
    lambda seed, steps: OrderLog(seed).run(steps), st.integers(0, 2**32), st.integers(1, 300)
)
sizes = st.lists(st.integers(1, 60), min_size=1, max_size=5)


def _depths(log: OrderLog, market_id: str) -> Iterator[tuple[int, Depth, LedgerState]]:
    """(position, depth, the domain's state) after each event."""
    state, depth = LedgerState(), Depth(DepthState())
    for position, event in positioned(log.log):
        evolve(state, event)
        match event:
            case OrderPlaced(market_id=name) if name == market_id:
                depth.place(event, position)
            case TradeExecuted(market_id=name) if name == market_id:
                depth.trade(event, position)
            case OrderCancelled(market_id=name) if name == market_id:
                depth.cancel(event, position)
            case OrderReduced(market_id=name) if name == market_id:
                depth.reduce(event, position)
        yield position, depth, state


@pytest.mark.parametrize("market_id", MARKETS)
@given(log=logs)
def test_depth_is_never_crossed_and_equals_the_book_after_each_command(
    log: OrderLog, market_id: str
) -> None:
    for position, depth, state in _depths(log, market_id):
        shown = depth.view(market_id)
        if shown.bids and shown.asks:
            assert shown.bids[0].price < shown.asks[0].price
        assert shown.position <= position
        if position in log.ends and market_id in state.markets:
            book = state.markets[market_id].book
            for levels, side in ((shown.bids, book.bids), (shown.asks, book.asks)):
                expected = [
                    (price, sum(order.leaves_minor for order in orders), len(orders))
                    for price, orders in side.levels()
                ]
                assert [(one.price, one.quantity, one.orders) for one in levels] == expected


@given(log=logs, cuts=sizes)
def test_snapshot_and_changes_give_a_client_exactly_the_view(
    log: OrderLog, cuts: list[int]
) -> None:
    """A client may join at any batch, and knows by `previous` that it missed nothing."""
    (records,) = [event_records(log.log, cuts)]
    fold, joined = MarketsFold(), len(records) // 3
    clients: dict[str, _Client] = {}
    for number, record in enumerate(records):
        for position in range(record.head.first, record.head.last + 1):
            fold.fold(position, log.log[position - 1])
        batch = fold.drain()
        for entry in batch.publications:
            market_id = entry.channel.removeprefix("depth.")
            if market_id in clients and entry.channel.startswith("depth."):
                clients[market_id].apply(entry.offset, entry.data)
        for market_id in MARKETS:
            content = batch.strings.get((DB, views.depth_key(market_id)))
            if content is None:
                continue
            view = msgspec.json.decode(content, type=DepthView)
            if market_id in clients:
                assert clients[market_id].shown() == _wire(view)
            elif number >= joined:
                clients[market_id] = _Client(view)


@given(log=logs)
def test_orders_balances_and_leaders_equal_the_ledgers_own_state(log: OrderLog) -> None:
    stored = FreshFold(views.ACCOUNTS).fold_all(positioned(log.log))
    opened = {}
    for (database, key), fields in stored.views.items():
        if database == DB and key.startswith("orders:"):
            assert isinstance(fields, dict)
            for content in fields.values():
                assert isinstance(content, bytes)
                order = msgspec.json.decode(content, type=OrderView)
                opened[order.order_id] = (key, order.market_id, order.side, order.leaves)
                assert order.quantity == order.filled + order.leaves
                assert order.closed is None
    assert opened == {
        order.order_id: (f"orders:{order.user_id}", order.market_id, order.side, order.leaves_minor)
        for order in log.state.orders.values()
    }
    for asset_id in ("DUR", "CNY", "GAS"):
        held = stored.views.get((views.ADMIN_DB, views.holding_key(asset_id)), {})
        expected = {
            user_id: balances[asset_id].available_minor + balances[asset_id].held_minor
            for user_id, balances in log.state.accounts.users.items()
            if asset_id in balances
        }
        assert held == {user_id: total for user_id, total in expected.items() if total}


@given(log=logs, cuts=sizes)
def test_a_publication_of_an_account_tells_each_fill_once(log: OrderLog, cuts: list[int]) -> None:
    partitions = effect_records(log.log, cuts)
    stored = fold_records(views.ACCOUNTS, partitions, restart_every=2, resend=1)
    told: dict[str, list[int]] = {}
    for feed in stored.feeds.values():
        for entry in feed:
            account = msgspec.json.decode(entry.data, type=AccountPublication)
            told.setdefault(entry.user, []).extend(fill.trade_id for fill in account.fills)
    happened: dict[str, list[int]] = {}
    for event in log.log:
        if isinstance(event, TradeExecuted):
            happened.setdefault(event.buyer_id, []).append(event.trade_id)
            happened.setdefault(event.seller_id, []).append(event.trade_id)
    assert {user: fills for user, fills in told.items() if fills} == happened


@pytest.mark.parametrize("projection", PROJECTIONS)
@given(log=logs, cuts=sizes, restart_every=st.integers(1, 3), resend=st.integers(0, 2))
def test_cuts_restarts_and_repeats_change_no_view(
    projection: str, log: OrderLog, cuts: list[int], restart_every: int, resend: int
) -> None:
    if projection == views.ACCOUNTS:
        partitions = effect_records(log.log, cuts)
    else:
        partitions = [event_records(log.log, cuts)]
    whole = FreshFold(projection).fold_all(positioned(log.log))
    straight = fold_records(projection, partitions, restart_every=10**9, resend=0)
    restarted = fold_records(projection, partitions, restart_every=restart_every, resend=resend)
    assert list_differences(whole.views, straight.views) == []
    assert list_differences(whole.views, restarted.views) == []
    assert straight.feeds == restarted.feeds


@pytest.mark.parametrize("projection", PROJECTIONS)
@given(log=logs, size=st.integers(1, 500))
def test_quiet_fold_gives_the_same_views_and_publishes_nothing(
    projection: str, log: OrderLog, size: int
) -> None:
    whole = FreshFold(projection).fold_all(positioned(log.log))
    quiet = MemoryViews()
    events = list(positioned(log.log))

    async def fold(partition: int) -> None:
        folding = folder(projection, partition, quiet=True)
        await folding.load(quiet)
        for start in range(0, len(events), size):
            await folding.fold_events(events[start : start + size])
            batch = folding.drain()
            assert batch.publications == []
            quiet.apply(partition, batch)

    for partition in range(POSTINGS_PARTITIONS if projection == views.ACCOUNTS else 1):
        asyncio.run(fold(partition))
    assert list_differences(whole.views, quiet.views) == []


Shown = tuple[dict[str, str], dict[str, str]]


class _Client:
    """What an app does: a snapshot's levels, then every change in its order."""

    def __init__(self, view: DepthView) -> None:
        self._bids, self._asks = _wire(view)
        self._offset = view.position

    def apply(self, offset: int, content: bytes) -> None:
        change = msgspec.json.decode(content, type=DepthChange)
        assert change.previous == self._offset
        self._offset = offset
        for levels, changed in ((self._bids, change.bids), (self._asks, change.asks)):
            for price, quantity in changed:
                if quantity == "0":
                    del levels[price]
                else:
                    levels[price] = quantity

    def shown(self) -> Shown:
        return self._bids, self._asks


def _wire(view: DepthView) -> Shown:
    market = views.MarketView(
        market_id=view.market_id, base_asset="b", quote_asset="q", base_scale=2, quote_scale=2,
        tick_minor=1, lot_minor=1, burn_bps=0,
    )  # fmt: skip
    shown = publications.depth(view, market)
    return dict(shown.bids), dict(shown.asks)
