"""What order and trade events do to books and open orders.

Total: what decide made always applies.
"""

from domain.book import Order, placed
from domain.state import ClientOrder, LedgerState
from schemas.events import OrderCancelled, OrderPlaced, OrderReduced, TradeExecuted

# A client may retry a placement for this long and still be told which order it made.
CLIENT_ORDER_SECONDS = 172_800
SECOND_NS = 1_000_000_000


def evolve_placed(state: LedgerState, event: OrderPlaced) -> None:
    order = placed(event)
    order_id, user_id = event.order_id, event.user_id
    state.order_id_last = order_id
    state.client_orders[user_id, event.client_order_id] = order_id
    state.client_order_ages.append(
        ClientOrder(event.at_ns // SECOND_NS, user_id, event.client_order_id)
    )
    state.orders[order_id] = order
    market = state.markets[event.market_id]
    market.orders.setdefault(user_id, {})[order_id] = order
    # It enters the book at once; its own trades or cancellation, in the same batch, take it out.
    if event.price_minor is not None:
        market.book.side(event.side).add(order, event.price_minor)


def evolve_reduced(state: LedgerState, event: OrderReduced) -> None:
    order = state.orders[event.order_id]
    order.leaves_minor = event.leaves_minor
    order.held_minor -= event.released_minor


def evolve_cancelled(state: LedgerState, event: OrderCancelled) -> None:
    order = state.orders[event.order_id]
    assert order.held_minor == event.released_minor, event
    _close(state, order)


def evolve_trade(state: LedgerState, event: TradeExecuted) -> None:
    state.trade_id_last = event.trade_id
    state.markets[event.market_id].last_price_minor = event.price_minor
    taker = state.orders[event.taker_order_id]
    maker = state.orders[event.maker_order_id]
    buyer, seller = (taker, maker) if event.taker_side == "buy" else (maker, taker)
    buyer.held_minor -= event.quote_minor + event.refund_minor
    seller.held_minor -= event.quantity_minor
    maker.leaves_minor = event.maker_leaves_minor
    taker.leaves_minor = event.taker_leaves_minor
    for order in (maker, taker):
        assert order.held_minor >= 0, event
        if order.leaves_minor == 0:
            assert order.held_minor == 0, event
            _close(state, order)


def forget_client_orders(state: LedgerState, second: int) -> None:
    """Let go of client order ids older than CLIENT_ORDER_SECONDS, but not of open orders'."""
    ages = state.client_order_ages
    while ages and ages[0].second < second - CLIENT_ORDER_SECONDS:
        oldest = ages.popleft()
        key = (oldest.user_id, oldest.client_order_id)
        if state.client_orders[key] in state.orders:
            ages.append(ClientOrder(second, *key))
        else:
            del state.client_orders[key]


def _close(state: LedgerState, order: Order) -> None:
    del state.orders[order.order_id]
    market = state.markets[order.market_id]
    open_orders = market.orders[order.user_id]
    del open_orders[order.order_id]
    if not open_orders:
        del market.orders[order.user_id]
    if order.price_minor is not None:
        market.book.side(order.side).remove(order, order.price_minor)
