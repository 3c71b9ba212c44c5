"""From a request to a change: made at once and answered, or proposed to a second person."""

from typing import Any

from gateway.administration.acting import acting, desk_of
from gateway.administration.execution import carry_out
from gateway.administration.shown import shown_approval
from gateway.database import Connection
from gateway.desk import approvals
from gateway.desk.changes import Change, Proposal, target_of
from gateway.desk.intents import Answer, Intent
from gateway.endpoint import Call
from gateway.errors import Refusal
from gateway.first_answers import answer_once
from gateway.tracing import mark_replayed, trace
from schemas.wire_administration import Approval, Changed


async def change_now(call: Call[Any, Any], change: Change) -> Changed:
    """Record, make the change, record what became of it. Raises Refusal, EngineUnavailable."""
    actor = await acting(call)
    intent = await desk_of(call.resources).intents.begin(actor, change)
    return await answered(call, intent)


async def answered(call: Call[Any, Any], intent: Intent) -> Changed:
    """The answer to whoever asked for an intent."""
    if intent.is_repeat:
        mark_replayed(call.request)
    answer = await carry_out(call.resources, intent, trace=trace(call.request))
    require_accepted(answer)
    return Changed(
        target=target_of(intent.change), record_id=intent.record_id, position=answer.position
    )


def require_accepted(answer: Answer) -> None:
    """Raises the Refusal that it is, if it is one."""
    if answer.code is not None:
        raise Refusal(answer.code, answer.detail, answer.details)


async def propose(call: Call[Any, Any], proposal: Proposal, reason: str) -> Approval:
    """Keep it until a second person decides."""
    resources, actor = call.resources, await acting(call)

    async def work(connection: Connection) -> Approval:
        row = await approvals.propose(connection, actor, proposal, reason)
        return await shown_approval(resources, row)

    return await answer_once(call, desk_of(resources).database, work=work, kind=Approval)
