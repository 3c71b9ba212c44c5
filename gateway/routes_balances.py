"""GET /v1/balances and POST /v1/deposits."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.auth import ACTS_FOR_OTHERS, READS_OTHERS, require_role, subject
from gateway.rejections import wire_details
from gateway.requests import (
    amount,
    answer,
    principal,
    read_body,
    refused,
    required_key,
    resources,
    submit,
)
from schemas.amounts import format_amount
from schemas.commands import DepositFunds
from schemas.frames import Refused
from schemas.publications import AssetBalance
from schemas.wire import DepositBody, DepositResult, Page


async def get_balances(request: Request) -> Response:
    """Only assets that the user ever had a posting in, by id."""
    who = principal(request)
    user_id = subject(who, request.query_params.get("user_id"), READS_OTHERS)
    state = await resources(request).views.account(user_id)
    balances = state.account.balances
    scales = await resources(request).catalogue.scales(sorted(balances))
    items = tuple(
        AssetBalance(
            asset=asset_id,
            scale=scale,
            available=format_amount(balances[asset_id].available, scale),
            held=format_amount(balances[asset_id].held, scale),
            total=format_amount(balances[asset_id].available + balances[asset_id].held, scale),
        )
        for asset_id, scale in scales.items()
    )
    return answer(Page(items=items))


async def deposit(request: Request) -> Response:
    require_role(principal(request), ACTS_FOR_OTHERS)
    body = await read_body(request, DepositBody)
    scale = await resources(request).catalogue.scale(body.asset)
    command = DepositFunds(
        user_id=body.user_id,
        asset_id=body.asset,
        amount_minor=amount(body.amount, scale, "amount"),
        reference=required_key(request, body.reference, "reference"),
    )
    reply = await submit(request, command)
    if isinstance(reply, Refused):
        details = wire_details(reply.rejection, scales={"amount_minor": scale})
        return refused(reply.rejection, details)
    result = DepositResult(
        user_id=command.user_id,
        asset=command.asset_id,
        amount=format_amount(command.amount_minor, scale),
        reference=command.reference,
        position=reply.last_position,
    )
    return answer(result, status=201)


ROUTES = (
    Route("/v1/balances", get_balances, methods=["GET"]),
    Route("/v1/deposits", deposit, methods=["POST"]),
)
