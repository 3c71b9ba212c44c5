"""Commands about orders: place, replace, cancel one, cancel all."""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from gateway.access import Access, Scope
from gateway.commands import required_key, submit
from gateway.endpoint import Call, Endpoint, NoBody, Parameters
from gateway.errors import Refusal
from gateway.order_reads import market_of_order
from gateway.orders import cancel_all_result, cancel_result, event_of, order_result, replace_result
from gateway.requests import amount
from schemas.commands import CancelAllOrders, CancelOrder, PlaceOrder, ReplaceOrder
from schemas.events import OrderCancelled
from schemas.rejections import RejectionCode
from schemas.views import MarketView
from schemas.wire import CancelResult, OrderResult, PlaceOrderBody
from schemas.wire_trading import CancelAllResult, ReplaceOrderBody, ReplaceResult
from schemas.wire_values import MarketId, UserRef

TRADES: Final = Access(Scope.TRADE, Scope.TRADE_OTHERS)
OrderId = Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1, description="An order's number.")]


class OrderParameters(Parameters, frozen=True, kw_only=True):
    order_id: OrderId


class CancelParameters(OrderParameters, frozen=True, kw_only=True):
    user_id: UserRef | None = None


class CancelAllParameters(Parameters, frozen=True, kw_only=True):
    """market: without it orders in all markets are cancelled."""

    market: MarketId | None = None
    user_id: UserRef | None = None


async def place_order(call: Call[Parameters, PlaceOrderBody]) -> OrderResult:
    """Place an order. The answer is final for what traded at once."""
    body = call.body
    user_id = call.subject(body.user_id)
    market = await call.resources.catalogue.market(body.market)
    command = PlaceOrder(
        user_id=user_id,
        client_order_id=required_key(call, body.client_order_id, "client_order_id"),
        market_id=body.market,
        side=body.side,
        order_type=body.type,
        time_in_force=body.time_in_force,
        post_only=body.post_only,
        self_trade_prevention=body.self_trade_prevention,
        price_minor=_minor(body.price, market.quote_scale, "price"),
        quantity_minor=_minor(body.quantity, market.base_scale, "quantity"),
        quote_budget_minor=_minor(body.quote_budget, market.quote_scale, "quote_budget"),
    )
    accepted = await submit(
        call, command, scales=_scales(market), asset_scales=_asset_scales(market)
    )
    return order_result(accepted, market)


async def replace_order(call: Call[OrderParameters, ReplaceOrderBody]) -> ReplaceResult:
    """Give a resting order another price, and another quantity that it still wants.

    One that only shrinks keeps its place. Any other change cancels it and places a new one behind
    those that wait at its price, both or neither.
    """
    body, order_id = call.body, call.parameters.order_id
    user_id = call.subject(body.user_id)
    # An order never moves to another market, so that what the views or the log say is not too old.
    market_id = await market_of_order(call.resources, user_id, order_id)
    if market_id is None:
        raise Refusal(
            RejectionCode.UNKNOWN_ORDER, f"No open order {order_id}.", {"order_id": order_id}
        )
    market = await call.resources.catalogue.market(market_id)
    command = ReplaceOrder(
        user_id=user_id,
        order_id=order_id,
        new_client_order_id=required_key(call, body.client_order_id, "client_order_id"),
        price_minor=amount(body.price, market.quote_scale, "price"),
        quantity_minor=amount(body.quantity, market.base_scale, "quantity"),
    )
    accepted = await submit(
        call, command, scales=_scales(market), asset_scales=_asset_scales(market)
    )
    return replace_result(accepted, order_id, market)


async def cancel_order(call: Call[CancelParameters, NoBody]) -> CancelResult:
    """Cancel an open order and release what it holds."""
    asked = call.parameters
    command = CancelOrder(user_id=call.subject(asked.user_id), order_id=asked.order_id)
    accepted = await submit(call, command)
    cancelled = event_of(accepted, OrderCancelled)
    market = await call.resources.catalogue.market(cancelled.market_id)
    return cancel_result(cancelled, market, accepted.last_position)


async def cancel_all_orders(call: Call[CancelAllParameters, NoBody]) -> CancelAllResult:
    """Cancel every open order in one step, in one market or in all of them.

    Refused (no_open_orders) if there is none.
    """
    asked = call.parameters
    command = CancelAllOrders(user_id=call.subject(asked.user_id), market_id=asked.market)
    accepted = await submit(call, command)
    markets = {market.market_id: market for market in await call.resources.catalogue.markets()}
    for event in accepted.events:
        if isinstance(event, OrderCancelled) and event.market_id not in markets:
            markets[event.market_id] = await call.resources.catalogue.market(event.market_id)
    return cancel_all_result(accepted, markets)


def _minor(text: str | None, scale: int, field: str) -> int | None:
    return None if text is None else amount(text, scale, field)


def _scales(market: MarketView) -> Mapping[str, int]:
    return {
        "price_minor": market.quote_scale,
        "tick_minor": market.quote_scale,
        "quantity_minor": market.base_scale,
        "lot_minor": market.base_scale,
        "fillable_minor": market.base_scale,
        "last_price_minor": market.quote_scale,
        "min_notional_minor": market.quote_scale,
    }


def _asset_scales(market: MarketView) -> Mapping[str, int]:
    return {market.base_asset: market.base_scale, market.quote_asset: market.quote_scale}


# What the ledger may refuse a placement for, beside what it refuses every command for.
_PLACEMENT: Final = (
    RejectionCode.INVALID_ID,
    RejectionCode.INVALID_AMOUNT,
    RejectionCode.INVALID_ORDER,
    RejectionCode.UNKNOWN_MARKET,
    RejectionCode.UNKNOWN_ACCOUNT,
    RejectionCode.ACCOUNT_FROZEN,
    RejectionCode.DUPLICATE_CLIENT_ORDER_ID,
    RejectionCode.MARKET_HALTED,
    RejectionCode.PRICE_OFF_TICK,
    RejectionCode.QUANTITY_OFF_LOT,
    RejectionCode.PRICE_OUTSIDE_BAND,
    RejectionCode.BELOW_MIN_NOTIONAL,
    RejectionCode.TOO_MANY_OPEN_ORDERS,
    RejectionCode.POST_ONLY_WOULD_TRADE,
    RejectionCode.WOULD_NOT_FILL,
    RejectionCode.NO_LIQUIDITY,
    RejectionCode.INSUFFICIENT_FUNDS,
)
ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/v1/orders",
        handle=place_order,
        summary="Place an order",
        access=TRADES,
        body=PlaceOrderBody,
        answer=OrderResult,
        status=201,
        is_command=True,
        refuses=_PLACEMENT,
    ),
    Endpoint(
        method="DELETE",
        path="/v1/orders",
        handle=cancel_all_orders,
        summary="Cancel all open orders",
        access=TRADES,
        parameters=CancelAllParameters,
        answer=CancelAllResult,
        is_command=True,
        refuses=(
            RejectionCode.INVALID_ID,
            RejectionCode.UNKNOWN_MARKET,
            RejectionCode.NO_OPEN_ORDERS,
        ),
    ),
    Endpoint(
        method="PATCH",
        path="/v1/orders/{order_id}",
        handle=replace_order,
        summary="Replace an open order",
        access=TRADES,
        parameters=OrderParameters,
        body=ReplaceOrderBody,
        answer=ReplaceResult,
        is_command=True,
        refuses=(*_PLACEMENT, RejectionCode.UNKNOWN_ORDER),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/orders/{order_id}",
        handle=cancel_order,
        summary="Cancel an open order",
        access=TRADES,
        parameters=CancelParameters,
        answer=CancelResult,
        is_command=True,
        refuses=(RejectionCode.INVALID_ID, RejectionCode.UNKNOWN_ORDER),
    ),
)
