"""POST /v1/contributions, GET /v1/contributions/{user_id}, GET /v1/contributions/summary."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.auth import ACTS_FOR_OTHERS, READS_OTHERS, require_role, subject
from gateway.orders import event_of
from gateway.rejections import wire_details
from gateway.requests import (
    amount,
    answer,
    invalid,
    principal,
    query_int,
    read_body,
    refused,
    required_key,
    resources,
    submit,
)
from schemas.commands import GrantContribution
from schemas.events import ContributionGranted
from schemas.frames import Refused
from schemas.wire import (
    Contribution,
    ContributionBody,
    ContributionSummary,
    Grant,
    GrantResult,
    Miner,
)

TOP_DEFAULT = 10
TOP_MAX = 100


async def grant(request: Request) -> Response:
    require_role(principal(request), ACTS_FOR_OTHERS)
    body = await read_body(request, ContributionBody)
    command = GrantContribution(
        user_id=body.user_id,
        grant_id=required_key(request, body.grant_id, "grant_id"),
        source=body.source,
        weight=_weight(body.weight),
        expires_second=body.expires_second,
    )
    reply = await submit(request, command)
    if isinstance(reply, Refused):
        return refused(reply.rejection, wire_details(reply.rejection))
    granted = event_of(reply, ContributionGranted)
    result = GrantResult(
        user_id=granted.user_id,
        grant=Grant(
            grant_id=granted.grant_id,
            source=granted.source,
            weight=str(granted.weight),
            expires_second=granted.expires_second,
        ),
        weight_after=str(granted.weight_after),
        position=reply.last_position,
    )
    return answer(result, status=201)


async def get_contribution(request: Request) -> Response:
    user_id = subject(principal(request), request.path_params["user_id"], READS_OTHERS)
    view = (await resources(request).views.account(user_id)).contribution
    grants = tuple(
        Grant(
            grant_id=grant_id,
            source=held.source,
            weight=str(held.weight),
            expires_second=held.expires_second,
        )
        for grant_id, held in sorted(view.grants.items())
    )
    return answer(
        Contribution(
            user_id=user_id, weight=str(view.weight), grants=grants, position=view.position
        )
    )


async def get_summary(request: Request) -> Response:
    """Public: the total weight and the heaviest users."""
    count = query_int(request, "limit", minimum=1, maximum=TOP_MAX) or TOP_DEFAULT
    pool, _ = await resources(request).views.pool()
    miners, top = await resources(request).views.top_weights(count)
    return answer(
        ContributionSummary(
            weight_total=str(pool.weight_total if pool else 0),
            miners=miners,
            top=tuple(Miner(user_id=view.user_id, weight=str(view.weight)) for view in top),
        )
    )


def _weight(weight: int | str) -> int:
    if isinstance(weight, str):
        return amount(weight, 0, "weight")
    if weight < 0:
        raise invalid("A weight is a positive whole number.", "weight")
    return weight


ROUTES = (
    Route("/v1/contributions", grant, methods=["POST"]),
    Route("/v1/contributions/summary", get_summary, methods=["GET"]),
    Route("/v1/contributions/{user_id}", get_contribution, methods=["GET"]),
)
