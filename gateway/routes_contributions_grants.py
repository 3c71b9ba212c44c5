"""Commands on grants: give one, change its terms, revoke it. Nobody does this to themselves."""

from typing import Any

from gateway.access import Access, Scope
from gateway.commands import required_key, submit
from gateway.endpoint import Call, Endpoint, NoBody, Parameters
from gateway.errors import Refusal
from gateway.orders import event_of
from schemas.commands import AdjustContribution, GrantContribution
from schemas.events import ContributionAdjusted, ContributionGranted
from schemas.rejections import RejectionCode
from schemas.wire import Grant, GrantResult, WireCode
from schemas.wire_mining import GrantBody, GrantChanged, GrantTermsBody, LedgerUserId
from schemas.wire_values import OwnId

OPERATING = Access(Scope.OPERATE, Scope.OPERATE)


class OneGrant(Parameters, frozen=True, kw_only=True):
    user_id: LedgerUserId
    grant_id: OwnId


def _another(call: Call[Any, Any], user_id: str) -> str:
    if call.subject(user_id) == call.principal.user_id:
        raise Refusal(WireCode.SAME_PERSON, "Another person must change your weight.")
    return user_id


async def grant(call: Call[Parameters, GrantBody]) -> GrantResult:
    """Weight for a user from the next second on; opens the user's account if there is none yet."""
    body = call.body
    command = GrantContribution(
        user_id=_another(call, body.user_id),
        grant_id=required_key(call, body.grant_id, "grant_id"),
        source=body.source,
        weight=int(body.weight),
        expires_second=body.expires_second,
    )
    reply = await submit(call, command)
    granted = event_of(reply, ContributionGranted)
    return GrantResult(
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


async def adjust(call: Call[OneGrant, GrantTermsBody]) -> GrantChanged:
    """Another weight or expiry for a grant in force, from the next second on."""
    return await _adjusted(call, int(call.body.weight), call.body.expires_second)


async def revoke(call: Call[OneGrant, NoBody]) -> GrantChanged:
    """Ends a grant in force. Its id is not used again."""
    return await _adjusted(call, 0, None)


async def _adjusted(
    call: Call[OneGrant, GrantTermsBody] | Call[OneGrant, NoBody],
    weight: int,
    expires_second: int | None,
) -> GrantChanged:
    command = AdjustContribution(
        user_id=_another(call, call.parameters.user_id),
        grant_id=call.parameters.grant_id,
        weight=weight,
        expires_second=expires_second,
    )
    reply = await submit(call, command)
    adjusted = event_of(reply, ContributionAdjusted)
    return GrantChanged(
        user_id=adjusted.user_id,
        grant_id=adjusted.grant_id,
        weight_before=str(adjusted.weight_before),
        weight=str(adjusted.weight),
        expires_second=adjusted.expires_second,
        weight_after=str(adjusted.weight_after),
        position=reply.last_position,
    )


_CHANGE_REFUSED = (
    WireCode.SAME_PERSON,
    RejectionCode.UNKNOWN_ACCOUNT,
    RejectionCode.UNKNOWN_GRANT,
)

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/contributions",
        handle=grant,
        summary="give a user weight",
        access=OPERATING,
        body=GrantBody,
        answer=GrantResult,
        status=201,
        is_command=True,
        refuses=(
            RejectionCode.LEDGER_NOT_OPEN,
            RejectionCode.INVALID_ID,
            RejectionCode.INVALID_WEIGHT,
            RejectionCode.INVALID_EXPIRY,
            RejectionCode.DUPLICATE_GRANT,
            WireCode.SAME_PERSON,
        ),
    ),
    Endpoint(
        method="PATCH",
        path="/v1/contributions/{user_id}/grants/{grant_id}",
        handle=adjust,
        summary="change a grant's weight or expiry",
        access=OPERATING,
        parameters=OneGrant,
        body=GrantTermsBody,
        answer=GrantChanged,
        is_command=True,
        refuses=(
            RejectionCode.LEDGER_NOT_OPEN,
            RejectionCode.INVALID_ID,
            RejectionCode.INVALID_WEIGHT,
            RejectionCode.INVALID_EXPIRY,
            *_CHANGE_REFUSED,
        ),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/contributions/{user_id}/grants/{grant_id}",
        handle=revoke,
        summary="revoke a grant",
        access=OPERATING,
        parameters=OneGrant,
        answer=GrantChanged,
        is_command=True,
        refuses=(RejectionCode.LEDGER_NOT_OPEN, RejectionCode.INVALID_ID, *_CHANGE_REFUSED),
    ),
)
