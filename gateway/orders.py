"""What an order's events tell the one who placed it."""

from typing import TypeVar

from schemas import publications
from schemas.amounts import format_amount
from schemas.events import OrderCancelled, OrderPlaced, TradeExecuted
from schemas.frames import Accepted
from schemas.views import MarketView, TradeView
from schemas.wire import CancelResult, OrderResult, OrderStatus

T = TypeVar("T")


def event_of(accepted: Accepted, kind: type[T]) -> T:
    """The one event of this kind that the command made. Its absence is a bug of the engine."""
    (found,) = (event for event in accepted.events if isinstance(event, kind))
    return found


def order_result(accepted: Accepted, market: MarketView) -> OrderResult:
    placed = event_of(accepted, OrderPlaced)
    first_position = accepted.last_position - len(accepted.events) + 1
    trades = [
        _trade_view(event, position)
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
        average_price=_average_price(trades, market),
        trades=tuple(publications.trade(trade, market) for trade in trades),
        position=accepted.last_position,
    )


def cancel_result(accepted: Accepted, market: MarketView) -> CancelResult:
    cancelled = event_of(accepted, OrderCancelled)
    is_base = cancelled.released_asset == market.base_asset
    scale = market.base_scale if is_base else market.quote_scale
    return CancelResult(
        order_id=cancelled.order_id,
        status=OrderStatus.CANCELLED,
        leaves_quantity=format_amount(cancelled.leaves_minor, market.base_scale),
        released_asset=cancelled.released_asset,
        released=format_amount(cancelled.released_minor, scale),
        position=accepted.last_position,
    )


def _status(placed: OrderPlaced, filled: int, *, is_cancelled: bool) -> OrderStatus:
    if filled == placed.quantity_minor:
        return OrderStatus.FILLED
    if is_cancelled:
        return OrderStatus.CANCELLED
    return OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.OPEN


def _average_price(trades: list[TradeView], market: MarketView) -> str | None:
    if not trades:
        return None
    quote = sum(trade.quote for trade in trades)
    quantity = sum(trade.quantity for trade in trades)
    return format_amount(quote * 10**market.base_scale // quantity, market.quote_scale)


def _trade_view(event: TradeExecuted, position: int) -> TradeView:
    return TradeView(
        trade_id=event.trade_id,
        at_ns=event.at_ns,
        price=event.price_minor,
        quantity=event.quantity_minor,
        quote=event.quote_minor,
        taker_side=event.taker_side,
        burned=event.burned_minor,
        position=position,
    )
