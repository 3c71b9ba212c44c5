"""Orders read back from the log: the same as the views showed, however pages are cut."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.effects import effects_of
from gateway import order_reads
from gateway.order_fold import OrderFold
from gateway.order_reads import OrderQuery, logged_page
from gateway.ports import LoggedEvents
from projections.users import UsersFold
from schemas.events import LedgerEvent, OrderPlaced, TradeExecuted
from schemas.streams import stream_id
from schemas.views import AccountPublication, FillView, OrderView
from schemas.wire_trading import OrderState
from tests.fixtures.ledger_logs import positioned
from tests.fixtures.order_logs import USERS, OrderLog

Logged = list[tuple[int, LedgerEvent]]
logs = st.builds(
    lambda seed, steps: OrderLog(seed).run(steps), st.integers(0, 2**32), st.integers(1, 300)
)


class MemoryLog:
    """gateway.ports.LedgerLog over a list."""

    def __init__(self, log: OrderLog) -> None:
        self._events = list(positioned(log.log))

    async def of_user(self, user_id: str, *, after: int, limit: int) -> LoggedEvents:
        found = [pair for pair in of_user(self._events, user_id) if pair[0] > after]
        return _cut(found, limit)

    async def of_user_before(self, user_id: str, *, before: int, limit: int) -> LoggedEvents:
        found = [pair for pair in of_user(self._events, user_id) if pair[0] < before]
        return _cut(found[::-1], limit)

    async def of_market_before(self, market_id: str, *, before: int, limit: int) -> LoggedEvents:
        stream = f"market:{market_id}"
        found = [pair for pair in self._events if stream_id(pair[1]) == stream and pair[0] < before]
        return _cut(found[::-1], limit)

    async def of_order(self, order_id: int) -> LoggedEvents:
        raise NotImplementedError

    async def placement(self, order_id: int) -> OrderPlaced | None:
        raise NotImplementedError

    async def allocations(self, *, first: int, last: int) -> LoggedEvents:
        raise NotImplementedError


def _cut(found: Sequence[tuple[int, LedgerEvent]], limit: int) -> LoggedEvents:
    part = found[:limit]
    return LoggedEvents(part, part[-1][0] if len(part) == limit else None)


def of_user(log: Logged, user_id: str) -> Logged:
    def is_users(event: LedgerEvent) -> bool:
        if isinstance(event, TradeExecuted):
            return user_id in (event.buyer_id, event.seller_id)
        return stream_id(event) == f"user:{user_id}"

    return [(position, event) for position, event in log if is_users(event)]


def shown(log: OrderLog, user_id: str) -> tuple[dict[int, OrderView], list[FillView]]:
    """Every order as its last publication had it, and all fills."""
    fold, orders, fills = UsersFold(), dict[int, OrderView](), list[FillView]()
    for position, event in positioned(log.log):
        for effect in effects_of(position, event):
            for unknown in fold.unknown([effect.user_id]):
                fold.adopt(unknown)
            fold.fold(effect)
        for publication in fold.drain().publications:
            if publication.user == user_id:
                whole = msgspec.json.decode(publication.data, type=AccountPublication)
                orders |= {order.order_id: order for order in whole.orders}
                fills += whole.fills
    return orders, fills


@given(log=logs)
def test_orders_of_the_log_are_those_of_the_views(log: OrderLog) -> None:
    for user_id in USERS:
        fold = OrderFold(user_id)
        fold.add_all(of_user(list(positioned(log.log)), user_id))
        orders, fills = shown(log, user_id)
        assert fold.orders == orders
        assert fold.fills == fills


@given(
    log=logs,
    limit=st.integers(1, 20),
    is_stale=st.booleans(),
    market=st.sampled_from((None, "DUR-CNY")),
)
@pytest.mark.parametrize("state", [OrderState.ALL, OrderState.CLOSED])
def test_pages_joined_are_the_whole(
    state: OrderState, log: OrderLog, limit: int, is_stale: bool, market: str | None
) -> None:
    async def pages(user_id: str, views: list[OrderView]) -> list[OrderView]:
        found: list[OrderView] = []
        before: int | None = None
        while True:
            query = OrderQuery(
                user_id=user_id, state=state, market_id=market, before=before, limit=limit
            )
            page = await logged_page(MemoryLog(log), views, query)
            assert len(page.orders) <= limit
            found += page.orders
            before = page.before
            if before is None:
                return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_reads, "EVENTS_AT_ONCE", 5)
        patch.setattr(order_reads, "EVENTS_PER_PAGE_MAX", 20)
        for user_id in USERS:
            orders, _ = shown(log, user_id)
            is_open = [order for order in orders.values() if order.closed is None]
            whole = [
                order
                for order in orders.values()
                if market in (None, order.market_id)
                and (state is OrderState.ALL or order.closed is not None)
            ]
            whole.sort(key=lambda order: -order.order_id)
            # Views that were lost, or never built, cost time and nothing else.
            found = asyncio.run(pages(user_id, [] if is_stale else is_open))
            assert found == whole
