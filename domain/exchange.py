"""Orders: validation, funds, and the events of what the book answers. Decides only.

A taker meets the best opposite price first and, within a price, the oldest order; it trades at the
maker's price. Of each trade floor(quantity x burn_bps / 10000) of the base asset is burned out of
what the seller hands over. Each side's fee is taken from what it receives, rounded up (against the
payer).
"""

from typing import NamedTuple

from domain import burning, matching
from domain.book import Order
from domain.checks import check_amount
from domain.funds import cancelled_orders, check_account, settled_for
from domain.matching import Fill, Taker, Walk
from domain.state import BPS, LedgerState, Market
from schemas.commands import CancelAllOrders, CancelOrder, PlaceOrder, ReplaceOrder
from schemas.events import (
    CancelReason,
    LedgerEvent,
    OrderCancelled,
    OrderPlaced,
    OrderReduced,
    TradeExecuted,
)
from schemas.rejections import Rejection, RejectionCode

Decision = tuple[LedgerEvent, ...] | Rejection


class Freed(NamedTuple):
    """What the order that is being replaced gives back first."""

    asset_id: str = ""
    amount_minor: int = 0
    orders: int = 0


NOTHING_FREED = Freed()


def decide_place(command: PlaceOrder, state: LedgerState, now_ns: int) -> Decision:
    """Events of one order from placement to its trades; a limit GTC remainder stays on the book."""
    refused = _check_fields(command)
    if refused is not None:
        return refused
    market = state.markets.get(command.market_id)
    if market is None:
        return Rejection(RejectionCode.UNKNOWN_MARKET, {"market_id": command.market_id})
    refused = check_account(command.user_id, state)
    if refused is not None:
        return refused
    return _place(command, state, market, now_ns, NOTHING_FREED)


def decide_replace(command: ReplaceOrder, state: LedgerState, now_ns: int) -> Decision:
    """Shrink a resting order in its place, or cancel it and place it anew; all or nothing."""
    refused = check_amount("price_minor", command.price_minor)
    refused = refused or check_amount("quantity_minor", command.quantity_minor)
    refused = refused or check_account(command.user_id, state)
    if refused is not None:
        return refused
    order = state.orders.get(command.order_id)
    if order is None or order.user_id != command.user_id:
        return Rejection(RejectionCode.UNKNOWN_ORDER, {"order_id": command.order_id})
    market = state.markets[order.market_id]
    shrinks = command.quantity_minor < order.leaves_minor
    if command.price_minor == order.price_minor and shrinks:
        return _reduce(order, command.quantity_minor, market, now_ns)
    placement = PlaceOrder(
        user_id=command.user_id,
        client_order_id=command.new_client_order_id,
        market_id=order.market_id,
        side=order.side,
        order_type="limit",
        time_in_force="gtc",
        post_only=order.post_only,
        self_trade_prevention=order.self_trade_prevention,
        price_minor=command.price_minor,
        quantity_minor=command.quantity_minor,
    )
    freed = Freed(order.held_asset, order.held_minor, 1)
    placed = _place(placement, state, market, now_ns, freed)
    if isinstance(placed, Rejection):
        return placed
    return (cancelled(order, "replaced", now_ns), *placed)


def decide_cancel(command: CancelOrder, state: LedgerState, now_ns: int) -> Decision:
    """Release what an open order of this user still holds."""
    order = state.orders.get(command.order_id)
    if order is None or order.user_id != command.user_id:
        return Rejection(RejectionCode.UNKNOWN_ORDER, {"order_id": command.order_id})
    return (cancelled(order, "requested", now_ns),)


def decide_cancel_all(command: CancelAllOrders, state: LedgerState, now_ns: int) -> Decision:
    """Cancel every open order of a user in one market, or in all of them."""
    market_id = command.market_id
    if market_id is not None and market_id not in state.markets:
        return Rejection(RejectionCode.UNKNOWN_MARKET, {"market_id": market_id})
    gone = cancelled_orders(command.user_id, market_id, state, now_ns, "requested")
    if not gone:
        return Rejection(RejectionCode.NO_OPEN_ORDERS, {"user_id": command.user_id})
    return tuple(gone)


def cancelled(order: Order, reason: CancelReason, now_ns: int) -> OrderCancelled:
    """The event that closes an open order and releases what it holds."""
    return OrderCancelled(
        at_ns=now_ns,
        order_id=order.order_id,
        user_id=order.user_id,
        market_id=order.market_id,
        reason=reason,
        leaves_minor=order.leaves_minor,
        released_asset=order.held_asset,
        released_minor=order.held_minor,
    )


# -- placement ----------------------------------------------------------------------------------


def _check_fields(command: PlaceOrder) -> Rejection | None:
    price, quantity, budget = (
        command.price_minor,
        command.quantity_minor,
        command.quote_budget_minor,
    )
    refused = None
    if price is not None:
        refused = check_amount("price_minor", price)
    if quantity is not None:
        refused = refused or check_amount("quantity_minor", quantity)
    if budget is not None:
        refused = refused or check_amount("quote_budget_minor", budget)
    if refused is not None:
        return refused
    is_limit = command.order_type == "limit"
    if is_limit != (price is not None):
        return _invalid("price_minor", "for limit orders, and only for them")
    if (quantity is None) == (budget is None) or (is_limit and budget is not None):
        return _invalid("quantity_minor", "or quote_budget_minor, for market orders only")
    if budget is not None and command.time_in_force == "fok":
        return _invalid("time_in_force", "fok needs a quantity")
    if command.post_only and not (is_limit and command.time_in_force == "gtc"):
        return _invalid("post_only", "for limit orders that are gtc")
    return None


def _invalid(field: str, allowed: str) -> Rejection:
    return Rejection(RejectionCode.INVALID_ORDER, {"field": field, "allowed": allowed})


def _place(
    command: PlaceOrder, state: LedgerState, market: Market, now_ns: int, freed: Freed
) -> Decision:
    refused = _check_market(command, state, market, freed)
    if refused is not None:
        return refused
    limit = command.price_minor
    walked = matching.walk(
        market,
        Taker(
            command.user_id,
            command.side,
            matching.band_edge_minor(market, command.side) if limit is None else limit,
            command.quantity_minor,
            command.quote_budget_minor,
            command.self_trade_prevention,
        ),
    )
    if command.time_in_force == "fok" and walked.filled_minor != command.quantity_minor:
        return Rejection(RejectionCode.WOULD_NOT_FILL, {"fillable_minor": walked.filled_minor})
    if limit is None and walked.filled_minor == 0:
        return Rejection(RejectionCode.NO_LIQUIDITY, {"market_id": command.market_id})
    placed = _placed(command, state, market, walked, now_ns)
    settled = settled_for(
        placed.user_id,
        placed.held_asset,
        placed.held_minor,
        state,
        now_ns,
        freed_minor=freed.amount_minor if freed.asset_id == placed.held_asset else 0,
    )
    if isinstance(settled, Rejection):
        return settled
    happened: list[LedgerEvent] = [*settled, placed]
    if walked.steps:
        _append_steps(happened, placed, walked, state, market)
    leaves = placed.quantity_minor - walked.filled_minor
    rests = limit is not None and command.time_in_force == "gtc" and walked.stopped is None
    if leaves and not rests:
        happened.append(_unfilled(placed, leaves, market, walked.stopped or "unfilled"))
    return tuple(happened)


def _check_market(
    command: PlaceOrder, state: LedgerState, market: Market, freed: Freed
) -> Rejection | None:
    known = state.client_orders.get((command.user_id, command.client_order_id))
    if known is not None:
        return Rejection(RejectionCode.DUPLICATE_CLIENT_ORDER_ID, {"order_id": known})
    if market.is_halted:
        return Rejection(RejectionCode.MARKET_HALTED, {"market_id": command.market_id})
    spec, price, quantity = market.spec, command.price_minor, command.quantity_minor
    if price is not None and price % spec.tick_minor:
        return Rejection(RejectionCode.PRICE_OFF_TICK, {"tick_minor": spec.tick_minor})
    if quantity is not None and quantity % spec.lot_minor:
        return Rejection(RejectionCode.QUANTITY_OFF_LOT, {"lot_minor": spec.lot_minor})
    if price is not None:
        return _check_limit(command, price, quantity or 0, market, freed)
    budget = command.quote_budget_minor
    if budget is not None and budget < market.rules.min_notional_minor:
        return _below_minimum(market)
    return None


def _check_limit(
    command: PlaceOrder, price_minor: int, quantity_minor: int, market: Market, freed: Freed
) -> Rejection | None:
    rules = market.rules
    if matching.is_outside_band(market, price_minor):
        last = market.last_price_minor or 0
        return Rejection(
            RejectionCode.PRICE_OUTSIDE_BAND,
            {"last_price_minor": last, "band_bps": rules.band_bps or 0},
        )
    if rules.min_notional_minor and (
        market.quote_minor(price_minor, quantity_minor) < rules.min_notional_minor
    ):
        return _below_minimum(market)
    if command.time_in_force == "gtc":
        is_open = len(market.orders.get(command.user_id, ())) - freed.orders
        if is_open >= rules.open_orders_max:
            return Rejection(
                RejectionCode.TOO_MANY_OPEN_ORDERS, {"open_orders_max": rules.open_orders_max}
            )
    if command.post_only and market.book.opposite(command.side).crosses(price_minor):
        return Rejection(RejectionCode.POST_ONLY_WOULD_TRADE, {"price_minor": price_minor})
    return None


def _below_minimum(market: Market) -> Rejection:
    return Rejection(
        RejectionCode.BELOW_MIN_NOTIONAL, {"min_notional_minor": market.rules.min_notional_minor}
    )


def _placed(
    command: PlaceOrder, state: LedgerState, market: Market, walked: Walk, now_ns: int
) -> OrderPlaced:
    quantity = walked.filled_minor if command.quantity_minor is None else command.quantity_minor
    # A limit order holds its worst case; a market buy holds exactly what its fills cost.
    if command.side == "sell":
        held_asset, held = market.spec.base_asset, quantity
    elif command.price_minor is not None:
        held_asset = market.spec.quote_asset
        held = market.quote_minor(command.price_minor, quantity)
    else:
        held_asset = market.spec.quote_asset
        held = sum(market.quote_minor(f.price_minor, f.quantity_minor) for f in walked.fills())
    return OrderPlaced(
        at_ns=now_ns,
        order_id=state.order_id_last + 1,
        client_order_id=command.client_order_id,
        user_id=command.user_id,
        market_id=command.market_id,
        side=command.side,
        order_type=command.order_type,
        time_in_force=command.time_in_force,
        post_only=command.post_only,
        self_trade_prevention=command.self_trade_prevention,
        price_minor=command.price_minor,
        quantity_minor=quantity,
        quote_budget_minor=command.quote_budget_minor,
        held_asset=held_asset,
        held_minor=held,
    )


def _append_steps(
    happened: list[LedgerEvent],
    placed: OrderPlaced,
    walked: Walk,
    state: LedgerState,
    market: Market,
) -> None:
    leaves, trade_id = placed.quantity_minor, state.trade_id_last
    burned_total = state.burned_minor.get(market.spec.base_asset, 0)
    for step in walked.steps:
        if isinstance(step, Order):
            happened.append(cancelled(step, "self_trade", placed.at_ns))
            continue
        leaves -= step.quantity_minor
        trade_id += 1
        trade = _trade(placed, step, market, trade_id=trade_id, taker_leaves_minor=leaves)
        happened.append(trade)
        burned = burning.burned_by(trade, burned_total)
        if burned is not None:
            burned_total = burned.burned_total_minor
            happened.append(burned)


def _trade(
    placed: OrderPlaced, fill: Fill, market: Market, *, trade_id: int, taker_leaves_minor: int
) -> TradeExecuted:
    buying, quantity = placed.side == "buy", fill.quantity_minor
    quote, burned = market.quote_minor(fill.price_minor, quantity), market.burn_minor(quantity)
    # Only a taking limit buy can hold more than it pays; a resting one trades at its own price.
    refund = 0
    if buying and placed.price_minor is not None:
        refund = market.quote_minor(placed.price_minor, quantity) - quote
    maker_bps, taker_bps = market.rules.maker_fee_bps, market.rules.taker_fee_bps
    buyer_bps, seller_bps = (taker_bps, maker_bps) if buying else (maker_bps, taker_bps)
    return TradeExecuted(
        at_ns=placed.at_ns,
        trade_id=trade_id,
        market_id=placed.market_id,
        base_asset=market.spec.base_asset,
        quote_asset=market.spec.quote_asset,
        price_minor=fill.price_minor,
        quantity_minor=quantity,
        quote_minor=quote,
        burned_minor=burned,
        buyer_fee_minor=_fee(quantity - burned, buyer_bps),
        seller_fee_minor=_fee(quote, seller_bps),
        refund_minor=refund,
        taker_side=placed.side,
        buyer_id=placed.user_id if buying else fill.maker.user_id,
        seller_id=fill.maker.user_id if buying else placed.user_id,
        maker_order_id=fill.maker.order_id,
        taker_order_id=placed.order_id,
        maker_leaves_minor=fill.maker.leaves_minor - quantity,
        taker_leaves_minor=taker_leaves_minor,
    )


def _fee(received_minor: int, fee_bps: int) -> int:
    return -(-received_minor * fee_bps // BPS)


def _unfilled(
    placed: OrderPlaced, leaves_minor: int, market: Market, reason: CancelReason
) -> OrderCancelled:
    return OrderCancelled(
        at_ns=placed.at_ns,
        order_id=placed.order_id,
        user_id=placed.user_id,
        market_id=placed.market_id,
        reason=reason,
        leaves_minor=leaves_minor,
        released_asset=placed.held_asset,
        released_minor=_held_for(placed.side, placed.price_minor, leaves_minor, market),
    )


def _held_for(side: str, price_minor: int | None, quantity_minor: int, market: Market) -> int:
    """What an order holds for a quantity it still wants; nothing for a market buy's remainder."""
    if side == "sell":
        return quantity_minor
    return market.quote_minor(price_minor, quantity_minor) if price_minor is not None else 0


def _reduce(order: Order, leaves_minor: int, market: Market, now_ns: int) -> Decision:
    spec, price = market.spec, order.price_minor
    if leaves_minor % spec.lot_minor:
        return Rejection(RejectionCode.QUANTITY_OFF_LOT, {"lot_minor": spec.lot_minor})
    assert price is not None
    if market.quote_minor(price, leaves_minor) < market.rules.min_notional_minor:
        return _below_minimum(market)
    still_held = _held_for(order.side, price, leaves_minor, market)
    return (
        OrderReduced(
            at_ns=now_ns,
            order_id=order.order_id,
            user_id=order.user_id,
            market_id=order.market_id,
            leaves_minor=leaves_minor,
            released_asset=order.held_asset,
            released_minor=order.held_minor - still_held,
        ),
    )
