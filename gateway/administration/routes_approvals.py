"""Approvals: what waits for a second person, and deciding it."""

from typing import Annotated, Final

import msgspec

from gateway.administration.acting import ADMINISTERS, LOOKS, acting, desk_of
from gateway.administration.execution import carry_out
from gateway.administration.market_rules import change_of
from gateway.administration.shown import shown_approval
from gateway.database import Connection
from gateway.desk import approvals
from gateway.endpoint import ITEMS_DEFAULT, Call, Endpoint, Limit, NoBody, Parameters
from gateway.first_answers import answer_once
from gateway.tracing import mark_replayed, trace
from schemas.rejections import RejectionCode
from schemas.wire import Page, WireCode
from schemas.wire_administration import Approval, ApprovalState, DecisionBody

Number = Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]
DECIDED: Final = (WireCode.UNKNOWN_APPROVAL, WireCode.ALREADY_DECIDED)


class ApprovalParameters(Parameters, frozen=True, kw_only=True):
    approval_id: Number


class ApprovalListParameters(Parameters, frozen=True, kw_only=True):
    """state: of those only. cursor: the newest come first; those before this one."""

    state: ApprovalState | None = None
    limit: Limit = ITEMS_DEFAULT
    cursor: Number | None = None


async def list_approvals(call: Call[ApprovalListParameters, NoBody]) -> Page[Approval]:
    """Approvals, the newest first."""
    asked = call.parameters
    rows, more = await desk_of(call.resources).approvals.page(
        state=asked.state, before=asked.cursor, limit=asked.limit
    )
    items = [await shown_approval(call.resources, row) for row in rows]
    return Page(items=tuple(items), next_cursor=None if more is None else str(more))


async def get_approval(call: Call[ApprovalParameters, NoBody]) -> Approval:
    """One approval."""
    kept = desk_of(call.resources).approvals
    return await shown_approval(call.resources, await kept.get(call.parameters.approval_id))


async def approve(call: Call[ApprovalParameters, NoBody]) -> Approval:
    """Approve what another administrator proposed, and have it done.

    The answer says what the ledger did: state executed or refused. Asked for again it gives the
    same answer, and nothing happens twice. If no answer comes the change is still on its way.
    """
    resources, approval_id = call.resources, call.parameters.approval_id
    kept = desk_of(resources).approvals
    actor = await acting(call)
    row = await kept.get(approval_id)
    intent = await kept.begun(actor, approval_id)
    if intent is None:
        change, based_on = await change_of(resources, row.proposal)
        intent = await kept.approve(actor, approval_id, change, based_on=based_on)
    if intent.is_repeat:
        mark_replayed(call.request)
    await carry_out(resources, intent, trace=trace(call.request))
    return await shown_approval(resources, await kept.get(approval_id))


async def reject(call: Call[ApprovalParameters, DecisionBody]) -> Approval:
    """Turn a proposal down, or take one's own back."""
    resources, actor = call.resources, await acting(call)

    async def work(connection: Connection) -> Approval:
        row = await approvals.turn_down(
            connection, actor, call.parameters.approval_id, call.body.reason
        )
        return await shown_approval(resources, row)

    return await answer_once(call, desk_of(resources).database, work=work, kind=Approval)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/v1/admin/approvals",
        handle=list_approvals,
        summary="What waits for a second person, and what was decided",
        access=LOOKS,
        parameters=ApprovalListParameters,
        answer=Page[Approval],
    ),
    Endpoint(
        method="GET",
        path="/v1/admin/approvals/{approval_id}",
        handle=get_approval,
        summary="One approval",
        access=LOOKS,
        parameters=ApprovalParameters,
        answer=Approval,
        refuses=(WireCode.UNKNOWN_APPROVAL,),
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/approvals/{approval_id}/approve",
        handle=approve,
        summary="Approve",
        access=ADMINISTERS,
        parameters=ApprovalParameters,
        answer=Approval,
        is_command=True,
        refuses=(
            *DECIDED,
            WireCode.SAME_PERSON,
            WireCode.CHANGE_IN_PROGRESS,
            WireCode.VIEWS_BEHIND,
            RejectionCode.UNKNOWN_MARKET,
        ),
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/approvals/{approval_id}/reject",
        handle=reject,
        summary="Turn down, or take back",
        access=ADMINISTERS,
        parameters=ApprovalParameters,
        body=DecisionBody,
        answer=Approval,
        is_command=True,
        refuses=DECIDED,
    ),
)
