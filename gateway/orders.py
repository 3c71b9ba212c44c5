"""What an order's events, and the views of orders and fills, tell the one who placed it."""

from collections.abc import Mapping
from typing import TypeVar

from gateway.market_trades import trade_view
from schemas import publications
from schemas.amounts import format_amount
from schemas.events import OrderCancelled, OrderPlaced, OrderReduced, TradeExecuted
from schemas.frames import Accepted
from schemas.publications import MS_NS
from schemas.views import FillView, MarketView, OrderView
from schemas.wire import CancelResult, OrderResult, OrderStatus
from schemas.wire_trading import CancelAllResult, Fill, Order, ReplaceResult

T = TypeVar("T")


def event_of(accepted: Accepted, kind: type[T]) -> T:
    """The one event of this kind that the command made. Its absence is a bug of the engine."""
    (found,) = (event for event in accepted.events if isinstance(event, kind))
    return found


def order_result(accepted: Accepted, market: MarketView) -> OrderResult:
    placed = event_of(accepted, OrderPlaced)
    first_position = accepted.last_position - len(accepted.events) + 1
    trades = [
        trade_view(event, position)
        for position, event in enumerate(accepted.events, start=first_position)
        if isinstance(event, TradeExecuted)
    ]
    filled = sum(trade.quantity for trade in trades)
    # Self-trade prevention may have cancelled others of the user's orders in the same step.
    is_cancelled = any(
        isinstance(event, OrderCancelled) and event.order_id == placed.order_id
        for event in accepted.events
    )
    return OrderResult(
        order_id=placed.order_id,
        client_order_id=placed.client_order_id,
        user_id=placed.user_id,
        market=placed.market_id,
        side=placed.side,
        status=_status(placed, filled, is_cancelled=is_cancelled),
        quantity=format_amount(placed.quantity_minor, market.base_scale),
        filled_quantity=format_amount(filled, market.base_scale),
        leaves_quantity=format_amount(placed.quantity_minor - filled, market.base_scale),
        average_price=_average(sum(trade.quote for trade in trades), filled, market),
        trades=tuple(publications.trade(trade, market) for trade in trades),
        position=accepted.last_position,
    )


def cancel_result(cancelled: OrderCancelled, market: MarketView, position: int) -> CancelResult:
    return CancelResult(
        order_id=cancelled.order_id,
        status=OrderStatus.CANCELLED,
        leaves_quantity=format_amount(cancelled.leaves_minor, market.base_scale),
        released_asset=cancelled.released_asset,
        released=_released(cancelled, market),
        position=position,
    )


def cancel_all_result(accepted: Accepted, markets: Mapping[str, MarketView]) -> CancelAllResult:
    """markets: by id, of every order that was cancelled."""
    first_position = accepted.last_position - len(accepted.events) + 1
    items = tuple(
        cancel_result(event, markets[event.market_id], position)
        for position, event in enumerate(accepted.events, start=first_position)
        if isinstance(event, OrderCancelled)
    )
    return CancelAllResult(items=items, position=accepted.last_position)


def replace_result(accepted: Accepted, order_id: int, market: MarketView) -> ReplaceResult:
    reduced = next((event for event in accepted.events if isinstance(event, OrderReduced)), None)
    gone: OrderReduced | OrderCancelled
    if reduced is not None:
        order, leaves, gone = None, reduced.leaves_minor, reduced
    else:
        # Others of the user's orders may have been cancelled too, by self-trade prevention.
        gone = next(
            event
            for event in accepted.events
            if isinstance(event, OrderCancelled) and event.order_id == order_id
        )
        order, leaves = order_result(accepted, market), gone.leaves_minor
    return ReplaceResult(
        replaced_order_id=order_id,
        kept_place=order is None,
        leaves_quantity=format_amount(leaves, market.base_scale),
        released_asset=gone.released_asset,
        released=_released(gone, market),
        order=order,
        position=accepted.last_position,
    )


def order(view: OrderView, market: MarketView) -> Order:
    base, quote = market.base_scale, market.quote_scale
    is_cancelled = view.closed not in (None, "filled")
    return Order(
        order_id=view.order_id,
        client_order_id=view.client_order_id,
        market=view.market_id,
        side=view.side,
        type=view.order_type,
        time_in_force=view.time_in_force,
        post_only=view.post_only,
        status=_standing(view),
        cancel_reason=view.closed if is_cancelled else None,  # type: ignore[arg-type]
        price=None if view.price is None else format_amount(view.price, quote),
        quantity=format_amount(view.quantity, base),
        filled_quantity=format_amount(view.filled, base),
        leaves_quantity=format_amount(view.leaves, base),
        filled_quote=format_amount(view.filled_quote, quote),
        average_price=_average(view.filled_quote, view.filled, market),
        time=view.at_ns // MS_NS,
        position=view.position,
    )


def fill(view: FillView, market: MarketView) -> Fill:
    base, quote = market.base_scale, market.quote_scale
    buys = view.side == "buy"
    return Fill(
        trade_id=view.trade_id,
        order_id=view.order_id,
        market=view.market_id,
        side=view.side,
        role=view.role,
        time=view.at_ns // MS_NS,
        price=format_amount(view.price, quote),
        quantity=format_amount(view.quantity, base),
        quote_quantity=format_amount(view.quote, quote),
        fee=format_amount(view.fee, base if buys else quote),
        fee_asset=market.base_asset if buys else market.quote_asset,
        burned=format_amount(view.burned, base),
        position=view.position,
    )


def _released(gone: OrderCancelled | OrderReduced, market: MarketView) -> str:
    is_base = gone.released_asset == market.base_asset
    return format_amount(gone.released_minor, market.base_scale if is_base else market.quote_scale)


def _standing(view: OrderView) -> OrderStatus:
    if view.closed is None:
        return OrderStatus.PARTIALLY_FILLED if view.filled else OrderStatus.OPEN
    return OrderStatus.FILLED if view.closed == "filled" else OrderStatus.CANCELLED


def _status(placed: OrderPlaced, filled: int, *, is_cancelled: bool) -> OrderStatus:
    if filled == placed.quantity_minor:
        return OrderStatus.FILLED
    if is_cancelled:
        return OrderStatus.CANCELLED
    return OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.OPEN


def _average(quote_minor: int, filled_minor: int, market: MarketView) -> str | None:
    if filled_minor == 0:
        return None
    return format_amount(quote_minor * 10**market.base_scale // filled_minor, market.quote_scale)
