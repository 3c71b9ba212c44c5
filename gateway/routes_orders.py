"""POST /v1/orders and DELETE /v1/orders/{order_id}."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.auth import ACTS_FOR_OTHERS, TRADES, require_role, subject
from gateway.orders import cancel_result, event_of, order_result
from gateway.rejections import wire_details
from gateway.requests import (
    amount,
    answer,
    invalid,
    principal,
    read_body,
    refused,
    required_key,
    resources,
    submit,
)
from schemas.commands import CancelOrder, PlaceOrder
from schemas.events import OrderCancelled
from schemas.frames import Refused
from schemas.views import MarketView
from schemas.wire import PlaceOrderBody

ORDER_ID_DIGITS_MAX = 18


async def place_order(request: Request) -> Response:
    who = principal(request)
    require_role(who, TRADES)
    body = await read_body(request, PlaceOrderBody)
    market = await resources(request).catalogue.market(body.market)
    price = None if body.price is None else amount(body.price, market.quote_scale, "price")
    command = PlaceOrder(
        user_id=subject(who, body.user_id, ACTS_FOR_OTHERS),
        client_order_id=required_key(request, body.client_order_id, "client_order_id"),
        market_id=body.market,
        side=body.side,
        order_type=body.type,
        time_in_force=body.time_in_force,
        price_minor=price,
        quantity_minor=amount(body.quantity, market.base_scale, "quantity"),
    )
    reply = await submit(request, command)
    if isinstance(reply, Refused):
        details = wire_details(
            reply.rejection, scales=_scales(market), asset_scales=_asset_scales(market)
        )
        return refused(reply.rejection, details)
    return answer(order_result(reply, market), status=201)


async def cancel_order(request: Request) -> Response:
    who = principal(request)
    require_role(who, TRADES)
    text = request.path_params["order_id"]
    if not (text.isascii() and text.isdigit() and len(text) <= ORDER_ID_DIGITS_MAX):
        raise invalid("An order id is a whole number.", "order_id")
    command = CancelOrder(
        user_id=subject(who, request.query_params.get("user_id"), ACTS_FOR_OTHERS),
        order_id=int(text),
    )
    reply = await submit(request, command)
    if isinstance(reply, Refused):
        return refused(reply.rejection, wire_details(reply.rejection))
    market_id = event_of(reply, OrderCancelled).market_id
    market = await resources(request).catalogue.market(market_id)
    return answer(cancel_result(reply, market))


def _scales(market: MarketView) -> dict[str, int]:
    return {
        "price_minor": market.quote_scale,
        "tick_minor": market.quote_scale,
        "quantity_minor": market.base_scale,
        "lot_minor": market.base_scale,
        "fillable_minor": market.base_scale,
    }


def _asset_scales(market: MarketView) -> dict[str, int]:
    return {market.base_asset: market.base_scale, market.quote_asset: market.quote_scale}


ROUTES = (
    Route("/v1/orders", place_order, methods=["POST"]),
    Route("/v1/orders/{order_id}", cancel_order, methods=["DELETE"]),
)
