"""Users: who they are, their role, disabling, erasing, and freezing in the ledger."""

from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from gateway.access import Scope
from gateway.administration.acting import ADMINISTERS, LOOKS, OPERATES, accounts_of
from gateway.administration.changing import change_now, propose
from gateway.desk.changes import DisableUser, EnableUser, EraseUser, SetRole
from gateway.endpoint import ITEMS_DEFAULT, Call, Endpoint, Limit, NoBody, Parameters, Reading
from gateway.errors import Refusal
from gateway.reading import caught_up
from schemas.commands import FreezeAccount, UnfreezeAccount
from schemas.rejections import RejectionCode
from schemas.wire import Page, WireCode
from schemas.wire_administration import (
    AccountState,
    Approval,
    Changed,
    FreezeBody,
    RoleBody,
    RoleName,
    UserDetail,
    UserSummary,
)
from schemas.wire_identity import Account
from schemas.wire_values import UserRef

ACCOUNT_REFUSALS: Final = (WireCode.UNKNOWN_USER, WireCode.CHANGE_IN_PROGRESS)
FREEZE_REFUSALS: Final = (
    WireCode.CHANGE_IN_PROGRESS,
    RejectionCode.INVALID_ID,
    RejectionCode.UNKNOWN_ACCOUNT,
    RejectionCode.ACCOUNT_FROZEN,
    RejectionCode.ACCOUNT_NOT_FROZEN,
)
PROPOSED: Final = 202


class UserParameters(Parameters, frozen=True, kw_only=True):
    user_id: UserRef


class UserReading(Reading, frozen=True, kw_only=True):
    user_id: UserRef


Cursor = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$", description="Of the page before.")]


class UserListParameters(Parameters, frozen=True, kw_only=True):
    """role, state: of those only."""

    role: RoleName | None = None
    state: AccountState | None = None
    limit: Limit = ITEMS_DEFAULT
    cursor: Cursor | None = None


async def list_users(call: Call[UserListParameters, NoBody]) -> Page[UserSummary]:
    """Users in the order in which they registered."""
    asked = call.parameters
    found = await accounts_of(call.resources).page(
        cursor=asked.cursor, limit=asked.limit, role=asked.role, state=asked.state
    )
    items = tuple(_summary(call, account) for account in found.items)
    return Page(items=items, next_cursor=found.next_cursor)


async def get_user(call: Call[UserReading, NoBody]) -> UserDetail:
    """One user, and whether the ledger has the account frozen."""
    user_id = call.parameters.user_id
    await caught_up(call, "accounts", user_id)
    accounts = accounts_of(call.resources)
    account = await accounts.get(user_id)
    view = (await call.resources.views.account(user_id)).account
    query = f"?user_id={quote(user_id, safe='')}"
    return UserDetail(
        user=_summary(call, account),
        sessions=len(await accounts.sessions(user_id)),
        frozen=view.frozen,
        balances_path=f"/v1/balances{query}",
        contribution_path=f"/v1/contributions/{quote(user_id, safe='')}",
        transactions_path=f"/v1/transactions{query}",
    )


async def set_role(call: Call[UserParameters, RoleBody]) -> Changed | Response:
    """Give a user another role; not oneself. The role admin is proposed: a second administrator
    approves it, or nobody's approval would mean anything.
    """
    user_id, body = call.parameters.user_id, call.body
    _require_other(call, user_id)
    change = SetRole(user_id=user_id, role=body.role)
    if body.role != "admin":
        return await change_now(call, change)
    await accounts_of(call.resources).get(user_id)
    return await _proposed(call, change, body.reason)


async def disable_user(call: Call[UserParameters, NoBody]) -> Changed:
    """End a user's sessions and refuse new ones. What is in the ledger stays as it is."""
    _require_other(call, call.parameters.user_id)
    return await change_now(call, DisableUser(user_id=call.parameters.user_id))


async def enable_user(call: Call[UserParameters, NoBody]) -> Changed | Response:
    """Let a disabled user sign in again; not oneself. A disabled administrator is proposed, as
    making one is.
    """
    user_id = call.parameters.user_id
    _require_other(call, user_id)
    change = EnableUser(user_id=user_id)
    account = await accounts_of(call.resources).get(user_id)
    if account.role == "admin":
        return await _proposed(call, change, "enable an administrator again")
    return await change_now(call, change)


async def erase_user(call: Call[UserParameters, NoBody]) -> Changed:
    """Delete a person's data for good. The opaque id and what the ledger has of it stay."""
    _require_other(call, call.parameters.user_id)
    return await change_now(call, EraseUser(user_id=call.parameters.user_id))


async def freeze(call: Call[UserParameters, FreezeBody]) -> Changed:
    """Freeze an account in the ledger: no orders, withdrawals, settlements. Open orders are
    cancelled; mining goes on, deposits are booked.
    """
    command = FreezeAccount(user_id=call.parameters.user_id, reason=call.body.reason)
    return await change_now(call, command)


async def unfreeze(call: Call[UserParameters, NoBody]) -> Changed:
    """Let a frozen account order, withdraw and settle again."""
    return await change_now(call, UnfreezeAccount(user_id=call.parameters.user_id))


async def _proposed(call: Call[Any, Any], proposal: SetRole | EnableUser, reason: str) -> Response:
    approval = await propose(call, proposal, reason)
    return Response(msgspec.json.encode(approval), PROPOSED, media_type="application/json")


def _require_other(call: Call[Any, Any], user_id: str) -> None:
    if user_id == call.principal.user_id:
        raise Refusal(WireCode.SAME_PERSON, "Nobody does this to their own account.")


def _summary(call: Call[Any, Any], account: Account) -> UserSummary:
    # Who looks needs to know that somebody is there; who administers needs to find a person.
    is_named = Scope.ADMINISTER in call.principal.scopes
    return UserSummary(
        user_id=account.user_id,
        role=account.role,
        state=account.state,
        user_name=account.user_name if is_named else None,
        phone=account.phone if is_named else None,
        email=account.email if is_named else None,
        created_time=account.created_time,
        second_factor=account.second_factor,
    )


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/v1/admin/users",
        handle=list_users,
        summary="List users",
        access=LOOKS,
        parameters=UserListParameters,
        answer=Page[UserSummary],
    ),
    Endpoint(
        method="GET",
        path="/v1/admin/users/{user_id}",
        handle=get_user,
        summary="One user",
        access=LOOKS,
        parameters=UserReading,
        answer=UserDetail,
        refuses=(WireCode.UNKNOWN_USER,),
    ),
    Endpoint(
        method="PUT",
        path="/v1/admin/users/{user_id}/role",
        handle=set_role,
        summary="Give a user another role",
        access=ADMINISTERS,
        parameters=UserParameters,
        body=RoleBody,
        answer=Changed,
        other_answers={PROPOSED: Approval},
        is_command=True,
        refuses=(*ACCOUNT_REFUSALS, WireCode.SAME_PERSON),
    ),
    *(
        Endpoint(
            method="POST",
            path=f"/v1/admin/users/{{user_id}}/{verb}",
            handle=handle,
            summary=summary,
            access=ADMINISTERS,
            parameters=UserParameters,
            answer=Changed,
            other_answers={PROPOSED: Approval} if verb == "enable" else {},
            is_command=True,
            refuses=(*ACCOUNT_REFUSALS, WireCode.SAME_PERSON),
        )
        for verb, handle, summary in (
            ("disable", disable_user, "Keep a user out"),
            ("enable", enable_user, "Let a disabled user in again"),
            ("erase", erase_user, "Delete a person's data"),
        )
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/users/{user_id}/freeze",
        handle=freeze,
        summary="Freeze an account in the ledger",
        access=OPERATES,
        parameters=UserParameters,
        body=FreezeBody,
        answer=Changed,
        is_command=True,
        refuses=FREEZE_REFUSALS,
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/users/{user_id}/unfreeze",
        handle=unfreeze,
        summary="Unfreeze an account",
        access=OPERATES,
        parameters=UserParameters,
        answer=Changed,
        is_command=True,
        refuses=FREEZE_REFUSALS,
    ),
)
