"""One user's open orders, and the fills that no batch has taken yet."""

from collections.abc import Iterable

import msgspec

from projections.batch import Batch
from schemas import views
from schemas.effects import Fill, OrderChange, OrderTerms, UserEffect
from schemas.views import FillView, OrderView

encode = msgspec.json.Encoder().encode


class UserOrders:
    """Folds what effects say of one user's orders."""

    __slots__ = ("_changed", "_fills", "_new", "_open")

    def __init__(self, orders: Iterable[OrderView] = ()) -> None:
        """orders: the open ones."""
        self._open = {order.order_id: order for order in orders}
        # Since the last drain: what changed, and which of it is not stored.
        self._changed: dict[int, OrderView] = {}
        self._new: set[int] = set()
        self._fills: list[FillView] = []

    def add(self, effect: UserEffect, change: OrderChange) -> None:
        """Apply effect.order, and effect.fill if there is one."""
        if change.terms is not None:
            order = _placed(effect, change, change.terms)
            self._open[order.order_id] = order
            self._new.add(order.order_id)
        else:
            order = self._open[change.order_id]
            if effect.fill is not None:
                self._fill(order, effect, effect.fill)
            if change.cancelled is None:
                order.leaves = change.leaves_minor
                order.quantity = order.filled + order.leaves
                if order.leaves == 0:
                    order.closed = "filled"
            else:
                order.closed = change.cancelled
            order.position = effect.position
            if order.closed is not None:
                del self._open[order.order_id]
        self._changed[order.order_id] = order

    def drain(
        self, batch: Batch, user_id: str
    ) -> tuple[tuple[OrderView, ...], tuple[FillView, ...]]:
        """Write what changed since the last drain and give it back: orders by id, fills as they
        came.
        """
        place = (views.TRADING_DB, views.orders_key(user_id))
        for order_id, order in self._changed.items():
            if order.closed is None:
                batch.put_field(place, str(order_id), encode(order))
            elif order_id not in self._new:
                batch.put_field(place, str(order_id), None)
        fills_place = (views.TRADING_DB, views.fills_key(user_id))
        for fill in self._fills:
            batch.push(fills_place, encode(fill), kept=views.FILLS_KEPT)
        orders = tuple(self._changed[order_id] for order_id in sorted(self._changed))
        fills = tuple(self._fills)
        self._changed.clear()
        self._new.clear()
        self._fills.clear()
        return orders, fills

    def _fill(self, order: OrderView, effect: UserEffect, fill: Fill) -> None:
        order.filled += fill.quantity_minor
        order.filled_quote += fill.quote_minor
        self._fills.append(
            FillView(
                trade_id=fill.trade_id,
                order_id=order.order_id,
                market_id=fill.market_id,
                side=fill.side,
                price=fill.price_minor,
                quantity=fill.quantity_minor,
                quote=fill.quote_minor,
                fee=fill.fee_minor,
                burned=fill.burned_minor,
                role=fill.role,
                at_ns=effect.at_ns,
                position=effect.position,
            )
        )


def _placed(effect: UserEffect, change: OrderChange, terms: OrderTerms) -> OrderView:
    return OrderView(
        order_id=change.order_id,
        client_order_id=terms.client_order_id,
        market_id=terms.market_id,
        side=terms.side,
        order_type=terms.order_type,
        time_in_force=terms.time_in_force,
        post_only=terms.post_only,
        price=terms.price_minor,
        quantity=change.leaves_minor,
        leaves=change.leaves_minor,
        at_ns=effect.at_ns,
        position=effect.position,
    )
