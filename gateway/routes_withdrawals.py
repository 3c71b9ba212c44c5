"""Withdrawals: asked for by users, decided by operators."""

from typing import Annotated, Any, Final

import msgspec

from gateway.access import Access, Scope, require_scope
from gateway.database import Connection
from gateway.desk import records, withdrawals
from gateway.desk.withdrawals import Decision, NewWithdrawal, WithdrawalRow
from gateway.endpoint import Call, Endpoint, Limit, NoBody, Parameters
from gateway.errors import Refusal
from gateway.first_answers import answer_once
from gateway.ports import Resources
from gateway.requests import amount
from gateway.tracing import trace
from gateway.withdrawing import Withdrawing
from schemas.rejections import RejectionCode
from schemas.wire import Page, WireCode
from schemas.wire_values import UserRef
from schemas.wire_withdrawals import (
    ApproveWithdrawalBody,
    RejectWithdrawalBody,
    Withdrawal,
    WithdrawalBody,
    WithdrawalId,
    WithdrawalState,
)

Cursor = Annotated[
    int, msgspec.Meta(ge=1, le=(1 << 53) - 1, description="A page's next_cursor, of the same list.")
]


class _Begun(msgspec.Struct, frozen=True):
    # What is kept as the first answer: the rest is in the withdrawal's row.
    withdrawal_id: str


class OneWithdrawal(Parameters, frozen=True, kw_only=True):
    withdrawal_id: WithdrawalId


class WithdrawalsParameters(Parameters, frozen=True, kw_only=True):
    """all_users: everybody's, for those who may look at what others have."""

    user_id: UserRef | None = None
    all_users: bool = False
    state: WithdrawalState | None = None
    limit: Limit = 100
    cursor: Cursor | None = None


async def request_withdrawal(call: Call[Parameters, WithdrawalBody]) -> Withdrawal:
    """Take an amount out of the available balance and have an operator decide on its payment.

    What the ledger refuses is kept as refused, and this request is answered with its code. While
    the ledger cannot be asked the answer's state is `requested`: it will be, do not ask again.
    """
    body, flow = call.body, withdrawing(call.resources)
    user_id = call.subject(body.user_id)
    scale = await call.resources.catalogue.scale(body.asset)
    wanted = NewWithdrawal(
        user_id=user_id,
        requested_by=call.principal.user_id,
        asset_id=body.asset,
        amount_minor=amount(body.amount, scale, "amount"),
        destination=body.destination,
        trace=trace(call.request),
    )

    async def begin(connection: Connection) -> _Begun:
        withdrawal_id = await withdrawals.insert(connection, wanted)
        if user_id != call.principal.user_id:
            row = await withdrawals.read(connection, withdrawal_id)
            await records.append(connection, _entry(call, row, "requested"))
        return _Begun(withdrawal_id)

    begun = await answer_once(call, flow.database, work=begin, kind=_Begun)
    row = await flow.carry_on_if_possible(begun.withdrawal_id)
    if row.refusal is not None:
        code = row.refusal.code
        words = f"The ledger refused: {code.replace('_', ' ')}."
        raise Refusal(code, words, {**row.refusal.details, "withdrawal_id": row.withdrawal_id})
    return await flow.shown(_as_begun(row))


async def get_withdrawals(call: Call[WithdrawalsParameters, NoBody]) -> Page[Withdrawal]:
    """Withdrawals of a user, or of all users, the newest first."""
    asked, flow = call.parameters, withdrawing(call.resources)
    user_id: str | None = call.subject(asked.user_id)
    if asked.all_users:
        require_scope(call.principal, Scope.READ_OTHERS)
        user_id = asked.user_id
    rows, before = await flow.withdrawals.page(
        user_id=user_id, state=asked.state, before=asked.cursor, limit=asked.limit
    )
    return Page(
        items=tuple([await flow.shown(row) for row in rows]),
        next_cursor=None if before is None else str(before),
    )


async def get_withdrawal(call: Call[OneWithdrawal, NoBody]) -> Withdrawal:
    """One withdrawal as it stands."""
    flow = withdrawing(call.resources)
    row = await flow.withdrawals.get(call.parameters.withdrawal_id)
    return await flow.shown(_visible(call, row, Scope.READ_OTHERS))


async def cancel_withdrawal(call: Call[OneWithdrawal, NoBody]) -> Withdrawal:
    """Take back a withdrawal that no operator has decided yet; the amount returns at once."""
    flow, withdrawal_id = withdrawing(call.resources), call.parameters.withdrawal_id
    _visible(call, await flow.withdrawals.get(withdrawal_id), Scope.TRADE_OTHERS)
    # One that the ledger was not yet asked for has nothing to return.
    await flow.carry_on(withdrawal_id)

    async def cancel(connection: Connection) -> _Begun:
        row = await withdrawals.read(connection, withdrawal_id, is_locked=True)
        _require_pending(row)
        by = call.principal.user_id
        decision = Decision(state=WithdrawalState.CANCELLED, by=by)
        await withdrawals.decide(connection, withdrawal_id, decision)
        if by != row.user_id:
            await records.append(connection, _entry(call, row, decision.state))
        return _Begun(withdrawal_id)

    await answer_once(call, flow.database, work=cancel, kind=_Begun)
    return await flow.shown(await flow.carry_on_if_possible(withdrawal_id))


async def approve_withdrawal(call: Call[OneWithdrawal, ApproveWithdrawalBody]) -> Withdrawal:
    """Say that a pending withdrawal was paid out, and as what.

    Not by the user, nor by who asked on the user's behalf; not while the user's account is frozen.
    """
    decision = Decision(
        state=WithdrawalState.APPROVED,
        by=call.principal.user_id,
        payout_reference=call.body.payout_reference,
    )
    return await _decide(call, decision)


async def reject_withdrawal(call: Call[OneWithdrawal, RejectWithdrawalBody]) -> Withdrawal:
    """Turn a pending withdrawal down; the amount returns at once. By whom: as for approving."""
    decision = Decision(
        state=WithdrawalState.REJECTED, by=call.principal.user_id, reason=call.body.reason
    )
    return await _decide(call, decision)


async def _decide(
    call: Call[OneWithdrawal, ApproveWithdrawalBody] | Call[OneWithdrawal, RejectWithdrawalBody],
    decision: Decision,
) -> Withdrawal:
    flow, withdrawal_id = withdrawing(call.resources), call.parameters.withdrawal_id
    user_id = (await flow.withdrawals.get(withdrawal_id)).user_id
    is_frozen = (await call.resources.views.account(user_id)).account.frozen is not None

    async def decide(connection: Connection) -> _Begun:
        row = await withdrawals.read(connection, withdrawal_id, is_locked=True)
        if decision.by in (row.user_id, row.requested_by):
            raise Refusal(WireCode.SAME_PERSON, "Another person must decide on this withdrawal.")
        _require_pending(row)
        if is_frozen and decision.state is WithdrawalState.APPROVED:
            raise Refusal(
                RejectionCode.ACCOUNT_FROZEN,
                "The user's account is frozen: reject it, or unfreeze the account first.",
                {"user_id": row.user_id},
            )
        await withdrawals.decide(connection, withdrawal_id, decision)
        await records.append(connection, _entry(call, row, decision.state))
        return _Begun(withdrawal_id)

    await answer_once(call, flow.database, work=decide, kind=_Begun)
    return await flow.shown(await flow.carry_on_if_possible(withdrawal_id))


def withdrawing(found: Resources) -> Withdrawing:
    """Raises Refusal(desk_unavailable) where no such database is configured."""
    if found.desk is None:
        raise Refusal(WireCode.DESK_UNAVAILABLE, "Withdrawals are not configured here.")
    return Withdrawing(found.desk.withdrawals, found.engine, found.catalogue.scale)


def _as_begun(row: WithdrawalRow) -> WithdrawalRow:
    """As it was when the ledger had taken the amount, so that a retry is answered as the first."""
    if row.state is WithdrawalState.REQUESTED:
        return row
    return msgspec.structs.replace(
        row,
        state=WithdrawalState.PENDING,
        decided_by=None,
        decided_ms=None,
        payout_reference=None,
        reason=None,
        returned_position=None,
    )


def _visible(call: Call[OneWithdrawal, NoBody], row: WithdrawalRow, others: Scope) -> WithdrawalRow:
    # Others' withdrawals look as if there were none.
    if row.user_id != call.principal.user_id and others not in call.principal.scopes:
        raise Refusal(WireCode.UNKNOWN_WITHDRAWAL, f"No withdrawal {row.withdrawal_id}.")
    return row


def _require_pending(row: WithdrawalRow) -> None:
    if row.state is not WithdrawalState.PENDING:
        raise Refusal(
            WireCode.ALREADY_DECIDED, f"This withdrawal is {row.state}.", {"state": str(row.state)}
        )


def _entry(call: Call[Any, Any], row: WithdrawalRow, step: str) -> records.Entry:
    # Neither the destination nor the reason: both may hold personal data.
    return records.Entry(
        who=call.principal.user_id,
        role=call.principal.role,
        request_id=trace(call.request),
        action=f"withdrawal.{step}",
        target=f"user:{row.user_id}",
        details={
            "withdrawal_id": row.withdrawal_id,
            "asset": row.asset_id,
            "amount_minor": str(row.amount_minor),
        },
    )


_READS: Final = Access(Scope.READ, Scope.READ_OTHERS)
_DECIDES: Final = Access(Scope.OPERATE)
_DECISION: Final = (
    WireCode.UNKNOWN_WITHDRAWAL,
    WireCode.ALREADY_DECIDED,
    WireCode.SAME_PERSON,
    WireCode.DESK_UNAVAILABLE,
)
ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/v1/withdrawals",
        handle=request_withdrawal,
        summary="Ask for a withdrawal",
        access=Access(Scope.WITHDRAW, Scope.TRADE_OTHERS),
        body=WithdrawalBody,
        answer=Withdrawal,
        status=201,
        is_command=True,
        refuses=(
            RejectionCode.INVALID_ID,
            RejectionCode.INVALID_AMOUNT,
            RejectionCode.UNKNOWN_ASSET,
            RejectionCode.UNKNOWN_ACCOUNT,
            RejectionCode.ACCOUNT_FROZEN,
            RejectionCode.INSUFFICIENT_FUNDS,
            WireCode.DESK_UNAVAILABLE,
        ),
    ),
    Endpoint(
        method="GET",
        path="/v1/withdrawals",
        handle=get_withdrawals,
        summary="Withdrawals",
        access=_READS,
        parameters=WithdrawalsParameters,
        answer=Page[Withdrawal],
        refuses=(WireCode.DESK_UNAVAILABLE,),
    ),
    Endpoint(
        method="GET",
        path="/v1/withdrawals/{withdrawal_id}",
        handle=get_withdrawal,
        summary="One withdrawal",
        access=_READS,
        parameters=OneWithdrawal,
        answer=Withdrawal,
        refuses=(WireCode.UNKNOWN_WITHDRAWAL, WireCode.DESK_UNAVAILABLE),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/withdrawals/{withdrawal_id}",
        handle=cancel_withdrawal,
        summary="Cancel a withdrawal",
        access=Access(Scope.WITHDRAW, Scope.TRADE_OTHERS),
        parameters=OneWithdrawal,
        answer=Withdrawal,
        is_command=True,
        refuses=_DECISION,
    ),
    Endpoint(
        method="POST",
        path="/v1/withdrawals/{withdrawal_id}/approve",
        handle=approve_withdrawal,
        summary="Approve a withdrawal",
        access=_DECIDES,
        parameters=OneWithdrawal,
        body=ApproveWithdrawalBody,
        answer=Withdrawal,
        is_command=True,
        refuses=(*_DECISION, RejectionCode.ACCOUNT_FROZEN),
    ),
    Endpoint(
        method="POST",
        path="/v1/withdrawals/{withdrawal_id}/reject",
        handle=reject_withdrawal,
        summary="Reject a withdrawal",
        access=_DECIDES,
        parameters=OneWithdrawal,
        body=RejectWithdrawalBody,
        answer=Withdrawal,
        is_command=True,
        refuses=_DECISION,
    ),
)
