"""One user's orders and fills, from effects."""

import pytest

from projections.batch import Batch
from projections.orders import UserOrders
from schemas import views
from schemas.effects import Fill, OrderChange, OrderTerms, UserEffect
from schemas.views import FillView, OrderView

ORDERS = (views.TRADING_DB, views.orders_key("ann"))
FILLS = (views.TRADING_DB, views.fills_key("ann"))


def _add(orders: UserOrders, position: int, change: OrderChange, fill: Fill | None = None) -> None:
    effect = UserEffect(
        position=position, at_ns=position * 10, user_id="ann", event_type="t", order=change,
        fill=fill,
    )  # fmt: skip
    orders.add(effect, change)


def _placed(order_id: int = 7, quantity: int = 50) -> OrderChange:
    terms = OrderTerms("mine", "DUR-CNY", "buy", "limit", "gtc", True, 120)
    return OrderChange(order_id=order_id, leaves_minor=quantity, terms=terms)


def _fill(trade_id: int, quantity: int) -> Fill:
    return Fill(trade_id, "DUR-CNY", "buy", "maker", 120, quantity, 120 * quantity, 2, 1)


def _view(**changed: object) -> OrderView:
    fields: dict[str, object] = {
        "order_id": 7, "client_order_id": "mine", "market_id": "DUR-CNY", "side": "buy",
        "order_type": "limit", "time_in_force": "gtc", "post_only": True, "price": 120,
        "quantity": 50, "leaves": 50, "at_ns": 10, "position": 1,
    }  # fmt: skip
    return OrderView(**{**fields, **changed})  # type: ignore[arg-type]


def test_a_placed_order_is_written_whole() -> None:
    orders, batch = UserOrders(), Batch()
    _add(orders, 1, _placed())
    assert orders.drain(batch, "ann") == ((_view(),), ())
    assert batch.fields[ORDERS] == {
        "7": b'[7,"mine","DUR-CNY","buy","limit","gtc",true,120,50,50,0,0,10,1,null]'
    }


def test_a_fill_moves_quantity_from_leaves_to_filled() -> None:
    orders, batch = UserOrders(), Batch()
    _add(orders, 1, _placed())
    _add(orders, 4, OrderChange(order_id=7, leaves_minor=30), _fill(3, 20))
    changed, fills = orders.drain(batch, "ann")
    assert changed == (_view(leaves=30, filled=20, filled_quote=2_400, position=4),)
    assert fills == (
        FillView(
            trade_id=3, order_id=7, market_id="DUR-CNY", side="buy", price=120, quantity=20,
            quote=2_400, fee=2, burned=1, role="maker", at_ns=40, position=4,
        ),
    )  # fmt: skip
    assert batch.rows[FILLS] == [b'[3,7,"DUR-CNY","buy",120,20,2400,2,1,"maker",40,4]']
    assert batch.rows_kept[FILLS] == views.FILLS_KEPT


def test_a_filled_order_disappears_and_is_told_once() -> None:
    orders = UserOrders([_view()])
    _add(orders, 4, OrderChange(order_id=7), _fill(3, 50))
    batch = Batch()
    ((order,), _) = orders.drain(batch, "ann")
    assert (order.closed, order.leaves, order.quantity) == ("filled", 0, 50)
    assert batch.fields[ORDERS] == {"7": None}
    assert orders.drain(Batch(), "ann") == ((), ())


def test_a_cancelled_order_tells_why_and_what_did_not_trade() -> None:
    orders = UserOrders([_view(leaves=30, filled=20)])
    _add(orders, 4, OrderChange(order_id=7, cancelled="account_frozen"))
    ((order,), _) = orders.drain(Batch(), "ann")
    assert (order.closed, order.leaves, order.quantity) == ("account_frozen", 30, 50)


def test_a_reduced_order_wants_less_in_all() -> None:
    orders = UserOrders([_view(leaves=30, filled=20)])
    _add(orders, 4, OrderChange(order_id=7, leaves_minor=10))
    ((order,), _) = orders.drain(Batch(), "ann")
    assert (order.quantity, order.leaves, order.filled, order.closed) == (30, 10, 20, None)


def test_an_order_that_came_and_went_in_one_batch_is_told_but_not_stored() -> None:
    orders, batch = UserOrders(), Batch()
    _add(orders, 1, _placed())
    _add(orders, 2, _placed(order_id=6))
    _add(orders, 3, OrderChange(order_id=7, cancelled="requested"))
    changed, _ = orders.drain(batch, "ann")
    assert [(order.order_id, order.closed) for order in changed] == [(6, None), (7, "requested")]
    assert list(batch.fields[ORDERS]) == ["6"]


def test_an_order_that_nobody_placed_stops_the_fold() -> None:
    with pytest.raises(KeyError):
        _add(UserOrders(), 1, OrderChange(order_id=7, cancelled="requested"))
