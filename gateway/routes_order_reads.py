"""Reads of one's orders and fills."""

from typing import Annotated, Final

import msgspec

from gateway import orders
from gateway.access import Access, Scope
from gateway.endpoint import Call, Endpoint, Limit, NoBody, Reading
from gateway.errors import Refusal
from gateway.order_reads import (
    POSITION_MAX,
    FillQuery,
    OrderQuery,
    fills_page,
    find_order,
    orders_page,
)
from gateway.reading import caught_up
from gateway.routes_orders import OrderId
from schemas.rejections import RejectionCode
from schemas.views import ACCOUNTS, MarketView
from schemas.wire import Page, WireCode
from schemas.wire_trading import Fill, Order, OrderState, OrderWithFills
from schemas.wire_values import MarketId, UserRef

READS: Final = Access(Scope.READ, Scope.READ_OTHERS)
FILLS_SHOWN_MAX: Final = 1_000
Cursor = Annotated[
    int, msgspec.Meta(ge=1, le=POSITION_MAX, description="A page's next_cursor, of the same list.")
]


class OrdersParameters(Reading, frozen=True, kw_only=True):
    user_id: UserRef | None = None
    state: OrderState = OrderState.OPEN
    market: MarketId | None = None
    limit: Limit = 100
    cursor: Cursor | None = None


class OrderParameters(Reading, frozen=True, kw_only=True):
    order_id: OrderId
    user_id: UserRef | None = None


class FillsParameters(Reading, frozen=True, kw_only=True):
    user_id: UserRef | None = None
    market: MarketId | None = None
    order_id: OrderId | None = None
    limit: Limit = 100
    cursor: Cursor | None = None


async def get_orders(call: Call[OrdersParameters, NoBody]) -> Page[Order]:
    """A user's orders, those placed last first.

    A page of closed ones, or of all, looks through a part of what happened to the user: it may be
    short, even empty, and still have a next_cursor.
    """
    asked = call.parameters
    user_id = call.subject(asked.user_id)
    await caught_up(call, ACCOUNTS, user_id)
    if asked.market is not None:
        await call.resources.catalogue.market(asked.market)
    if asked.state is not OrderState.OPEN and call.resources.log is None:
        raise Refusal(WireCode.HISTORY_UNAVAILABLE, "No log is configured here; ask for open ones.")
    query = OrderQuery(
        user_id=user_id,
        state=asked.state,
        market_id=asked.market,
        before=asked.cursor,
        limit=asked.limit,
    )
    page = await orders_page(call.resources, query)
    markets = await _markets(call, {view.market_id for view in page.orders})
    return Page(
        items=tuple(orders.order(view, markets[view.market_id]) for view in page.orders),
        next_cursor=_cursor(page.before),
    )


async def get_order(call: Call[OrderParameters, NoBody]) -> OrderWithFills:
    """One order with its newest 1,000 fills, whether it is open or over; /v1/fills has them all."""
    asked = call.parameters
    user_id = call.subject(asked.user_id)
    await caught_up(call, ACCOUNTS, user_id)
    found = await find_order(call.resources, user_id, asked.order_id)
    # An order number tells nothing to strangers: there is none, or it is not theirs to see.
    reads_others = Scope.READ_OTHERS in call.principal.scopes and asked.user_id is None
    if found is None or not (found.user_id == user_id or reads_others):
        raise Refusal(
            RejectionCode.UNKNOWN_ORDER,
            f"No order {asked.order_id}.",
            {"order_id": asked.order_id},
        )
    market = await call.resources.catalogue.market(found.order.market_id)
    return OrderWithFills(
        user_id=found.user_id,
        order=orders.order(found.order, market),
        fills=tuple(orders.fill(view, market) for view in found.fills[-FILLS_SHOWN_MAX:]),
    )


async def get_fills(call: Call[FillsParameters, NoBody]) -> Page[Fill]:
    """A user's trades, the newest first.

    With a market a page looks through a part of what happened to the user: it may be short, even
    empty, and still have a next_cursor.
    """
    asked = call.parameters
    user_id = call.subject(asked.user_id)
    await caught_up(call, ACCOUNTS, user_id)
    if asked.market is not None:
        await call.resources.catalogue.market(asked.market)
    query = FillQuery(
        user_id=user_id,
        market_id=asked.market,
        order_id=asked.order_id,
        before=POSITION_MAX if asked.cursor is None else asked.cursor,
        limit=asked.limit,
    )
    page = await fills_page(call.resources, query)
    markets = await _markets(call, {view.market_id for view in page.fills})
    return Page(
        items=tuple(orders.fill(view, markets[view.market_id]) for view in page.fills),
        next_cursor=_cursor(page.before),
    )


async def _markets(
    call: Call[OrdersParameters, NoBody] | Call[FillsParameters, NoBody], names: set[str]
) -> dict[str, MarketView]:
    return {name: await call.resources.catalogue.market(name) for name in names}


def _cursor(before: int | None) -> str | None:
    return None if before is None else str(before)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/v1/orders",
        handle=get_orders,
        summary="Orders of a user",
        access=READS,
        parameters=OrdersParameters,
        answer=Page[Order],
        refuses=(RejectionCode.UNKNOWN_MARKET,),
    ),
    Endpoint(
        method="GET",
        path="/v1/orders/{order_id}",
        handle=get_order,
        summary="One order and its fills",
        access=READS,
        parameters=OrderParameters,
        answer=OrderWithFills,
        refuses=(RejectionCode.UNKNOWN_ORDER,),
    ),
    Endpoint(
        method="GET",
        path="/v1/fills",
        handle=get_fills,
        summary="Trades of a user",
        access=READS,
        parameters=FillsParameters,
        answer=Page[Fill],
        refuses=(RejectionCode.UNKNOWN_MARKET,),
    ),
)
