"""One user's orders and fills, folded from the user's events in the log.

The same states as the views that projection accounts keeps of open orders (a test compares them),
and of those that are over as well.
"""

from collections.abc import Iterable

from schemas.events import LedgerEvent, OrderCancelled, OrderPlaced, OrderReduced, TradeExecuted
from schemas.views import FillView, OrderView


class OrderFold:
    """orders: by id, as of the last event. fills: oldest first, of those orders only."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.orders: dict[int, OrderView] = {}
        self.fills: list[FillView] = []

    def add_all(self, events: Iterable[tuple[int, LedgerEvent]]) -> None:
        """events: with their positions, oldest first. What is not of an order that was placed in
        them is passed over.
        """
        for position, event in events:
            self.add(position, event)

    def add(self, position: int, event: LedgerEvent) -> None:
        match event:
            case OrderPlaced() if event.user_id == self.user_id:
                self.orders[event.order_id] = placed(position, event)
            case OrderReduced() | OrderCancelled():
                order = self.orders.get(event.order_id)
                if order is not None:
                    _change(order, position, event)
            case TradeExecuted():
                fill = fill_of(position, event, self.user_id)
                order = self.orders.get(fill.order_id)
                if order is not None:
                    self.fills.append(fill)
                    _fill(order, fill)
            case _:
                pass


def ended_orders(event: LedgerEvent) -> tuple[int, ...]:
    """The orders that are over by this event."""
    match event:
        case OrderCancelled():
            return (event.order_id,)
        case TradeExecuted():
            sides = (
                (event.maker_order_id, event.maker_leaves_minor),
                (event.taker_order_id, event.taker_leaves_minor),
            )
            return tuple(order_id for order_id, leaves in sides if leaves == 0)
        case _:
            return ()


def placed(position: int, event: OrderPlaced) -> OrderView:
    return OrderView(
        order_id=event.order_id,
        client_order_id=event.client_order_id,
        market_id=event.market_id,
        side=event.side,
        order_type=event.order_type,
        time_in_force=event.time_in_force,
        post_only=event.post_only,
        price=event.price_minor,
        quantity=event.quantity_minor,
        leaves=event.quantity_minor,
        at_ns=event.at_ns,
        position=position,
    )


def fill_of(position: int, event: TradeExecuted, user_id: str) -> FillView:
    """A trade from the side of one of its two users."""
    buys = event.buyer_id == user_id
    is_taker = (event.taker_side == "buy") == buys
    return FillView(
        trade_id=event.trade_id,
        order_id=event.taker_order_id if is_taker else event.maker_order_id,
        market_id=event.market_id,
        side="buy" if buys else "sell",
        price=event.price_minor,
        quantity=event.quantity_minor,
        quote=event.quote_minor,
        fee=event.buyer_fee_minor if buys else event.seller_fee_minor,
        burned=event.burned_minor,
        role="taker" if is_taker else "maker",
        at_ns=event.at_ns,
        position=position,
    )


def _change(order: OrderView, position: int, event: OrderReduced | OrderCancelled) -> None:
    order.position = position
    if isinstance(event, OrderCancelled):
        order.closed = event.reason
        return
    order.leaves = event.leaves_minor
    order.quantity = order.filled + order.leaves


def _fill(order: OrderView, fill: FillView) -> None:
    order.filled += fill.quantity
    order.filled_quote += fill.quote
    order.leaves -= fill.quantity
    order.position = fill.position
    if order.leaves == 0:
        order.closed = "filled"
