"""Where orders and fills are read: the open and the newest in the views, all others in the log.

The log is never behind, so what it answers needs no waiting; without one configured only what the
views hold is found. A page reads a bounded part of the user's events: it may be short, even empty,
and not the last.
"""

import msgspec

from gateway.errors import Refusal
from gateway.order_fold import OrderFold, ended_orders, fill_of
from gateway.ports import LedgerLog, Resources
from schemas.events import LedgerEvent, OrderPlaced, TradeExecuted
from schemas.views import FILLS_KEPT, FillView, OrderView
from schemas.wire import WireCode
from schemas.wire_trading import OrderState

EVENTS_AT_ONCE = 1_000
EVENTS_PER_PAGE_MAX = 5_000
EVENTS_FOLLOWED_MAX = 50_000
POSITION_MAX = (1 << 53) - 1


class OrderQuery(msgspec.Struct, frozen=True, kw_only=True):
    """market_id: None for all. before: position or number that the cursor names."""

    user_id: str
    state: OrderState
    market_id: str | None
    before: int | None
    limit: int


class OrderPage(msgspec.Struct, frozen=True, kw_only=True):
    """orders: newest placement first. before: where the next page begins, None at the end."""

    orders: list[OrderView]
    before: int | None


class FillQuery(msgspec.Struct, frozen=True, kw_only=True):
    user_id: str
    market_id: str | None
    order_id: int | None
    before: int
    limit: int


class FillPage(msgspec.Struct, frozen=True, kw_only=True):
    """fills: newest first. before: where the next page begins, None at the end."""

    fills: list[FillView]
    before: int | None


class OneOrder(msgspec.Struct, frozen=True, kw_only=True):
    """fills: oldest first."""

    user_id: str
    order: OrderView
    fills: list[FillView]


async def market_of_order(resources: Resources, user_id: str, order_id: int) -> str | None:
    """The market of a user's order; None if it is not the user's or not known."""
    found = await resources.views.open_order(user_id, order_id)
    if found is not None:
        return found.market_id
    if resources.log is None:
        return None
    placed = await resources.log.placement(order_id)
    return placed.market_id if placed is not None and placed.user_id == user_id else None


async def find_order(resources: Resources, user_id: str, order_id: int) -> OneOrder | None:
    """An order, whoever's it is. user_id: whose views are looked into if the log has it not."""
    if resources.log is not None:
        logged = await resources.log.of_order(order_id)
        placed = next((event for _, event in logged.events if isinstance(event, OrderPlaced)), None)
        if placed is not None:
            fold = OrderFold(placed.user_id)
            fold.add_all(logged.events)
            return OneOrder(user_id=placed.user_id, order=fold.orders[order_id], fills=fold.fills)
    found = await resources.views.open_order(user_id, order_id)
    if found is None:
        return None
    fills = [fill for fill in await resources.views.fills(user_id) if fill.order_id == order_id]
    return OneOrder(user_id=user_id, order=found, fills=fills[::-1])


async def orders_page(resources: Resources, query: OrderQuery) -> OrderPage:
    """Raises DatabaseUnavailable, ViewsUnavailable."""
    found = await resources.views.open_orders(query.user_id)
    if query.state is OrderState.OPEN:
        return _open_page(found, query)
    assert resources.log is not None, "the route refuses what needs the log without one"
    return await logged_page(resources.log, found, query)


def _open_page(found: list[OrderView], query: OrderQuery) -> OrderPage:
    # Orders are numbered in the order of their placement.
    wanted = [
        order
        for order in found
        if query.market_id in (None, order.market_id)
        and (query.before is None or order.order_id < query.before)
    ]
    wanted.sort(key=lambda order: -order.order_id)
    page = wanted[: query.limit]
    return OrderPage(orders=page, before=page[-1].order_id if len(wanted) > len(page) else None)


async def logged_page(log: LedgerLog, shown: list[OrderView], query: OrderQuery) -> OrderPage:
    """shown: the open orders as the views have them, perhaps a moment old."""
    window = _Window(query, {order.order_id: order for order in shown})
    before = await window.read(log)
    fold = OrderFold(query.user_id)
    fold.add_all(reversed(window.events))
    await _follow(log, fold, window.later, after=window.top - 1)
    orders = [window.resting.get(number, fold.orders[number]) for number in window.found]
    if query.state is OrderState.CLOSED:
        # Those that the views did not know to be open, but are.
        orders = [order for order in orders if order.closed is not None]
    return OrderPage(orders=orders, before=before)


class _Window:
    """The events of a user below a position, newest first, as far down as a page needs.

    found: the orders wanted that were placed in it. resting: those of them that the views know to
    be open; an order that was placed below `top` may have changed above it. later: those that ended
    above it.
    """

    def __init__(self, query: OrderQuery, shown: dict[int, OrderView]) -> None:
        self.events: list[tuple[int, LedgerEvent]] = []
        self.found: list[int] = []
        self.resting: dict[int, OrderView] = {}
        self.later: set[int] = set()
        self.top = POSITION_MAX if query.before is None else query.before
        self._query = query
        self._shown = shown
        self._ended: set[int] = set()

    async def read(self, log: LedgerLog) -> int | None:
        """Where the next page begins."""
        before: int | None = self.top
        while before is not None and len(self.events) < EVENTS_PER_PAGE_MAX:
            part = await log.of_user_before(
                self._query.user_id, before=before, limit=EVENTS_AT_ONCE
            )
            for position, event in part.events:
                self.events.append((position, event))
                self._ended.update(ended_orders(event))
                if isinstance(event, OrderPlaced):
                    self._meet(event)
                if len(self.found) == self._query.limit:
                    return position
            before = part.after
        return before

    def _meet(self, event: OrderPlaced) -> None:
        query, order_id = self._query, event.order_id
        if query.market_id not in (None, event.market_id):
            return
        is_first_page = query.before is None
        if order_id not in self._ended:
            is_open = is_first_page or order_id in self._shown
            if is_open and query.state is OrderState.CLOSED:
                return
            if not is_open:
                self.later.add(order_id)
            elif not is_first_page:
                self.resting[order_id] = self._shown[order_id]
        self.found.append(order_id)


async def _follow(log: LedgerLog, fold: OrderFold, unended: set[int], *, after: int) -> None:
    """Fold on until these orders are over, or the log is. Raises Refusal(history_unavailable)."""
    position: int | None = after
    seen = 0
    while unended and position is not None:
        if seen >= EVENTS_FOLLOWED_MAX:
            raise too_long()
        part = await log.of_user(fold.user_id, after=position, limit=EVENTS_AT_ONCE)
        seen += len(part.events)
        fold.add_all(part.events)
        unended = {number for number in unended if fold.orders[number].closed is None}
        position = part.after


def too_long() -> Refusal:
    """What happened to the user between an order's placement and its end is too much to read."""
    return Refusal(
        WireCode.HISTORY_UNAVAILABLE,
        f"An order's end is more than {EVENTS_FOLLOWED_MAX} events of its user away.",
    )


async def fills_page(resources: Resources, query: FillQuery) -> FillPage:
    """Raises DatabaseUnavailable, ViewsUnavailable."""
    if query.order_id is not None:
        found = await find_order(resources, query.user_id, query.order_id)
        fills = found.fills[::-1] if found and found.user_id == query.user_id else []
        return _cut(fills, query, is_all=True)
    newest = await resources.views.fills(query.user_id)
    page = _cut(newest, query, is_all=len(newest) < FILLS_KEPT)
    if len(page.fills) == query.limit or page.before is None or resources.log is None:
        return page
    return await _logged_fills(resources.log, query)


def _cut(newest: list[FillView], query: FillQuery, *, is_all: bool) -> FillPage:
    """is_all: there are none but those."""
    wanted = [fill for fill in newest if _is_wanted(fill, query)]
    page = wanted[: query.limit]
    if len(wanted) > len(page):
        return FillPage(fills=page, before=page[-1].position)
    if is_all or not newest:
        return FillPage(fills=page, before=None)
    return FillPage(fills=page, before=min(newest[-1].position, query.before))


def _is_wanted(fill: FillView, query: FillQuery) -> bool:
    return fill.position < query.before and query.market_id in (None, fill.market_id)


async def _logged_fills(log: LedgerLog, query: FillQuery) -> FillPage:
    fills: list[FillView] = []
    before, seen = query.before, 0
    while seen < EVENTS_PER_PAGE_MAX:
        part = await log.of_user_before(query.user_id, before=before, limit=EVENTS_AT_ONCE)
        seen += len(part.events)
        for position, event in part.events:
            if not isinstance(event, TradeExecuted):
                continue
            fill = fill_of(position, event, query.user_id)
            if _is_wanted(fill, query):
                fills.append(fill)
            if len(fills) == query.limit:
                return FillPage(fills=fills, before=position)
        if part.after is None:
            return FillPage(fills=fills, before=None)
        before = part.after
    return FillPage(fills=fills, before=before)
