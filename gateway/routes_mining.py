"""The pool, one user's place in it, settling; and the endpoints of the whole service."""

from gateway import routes_mining_leaders, routes_mining_outlook, routes_mining_records
from gateway.access import PUBLIC, Access, Scope
from gateway.commands import submit
from gateway.endpoint import Call, Endpoint, NoBody, Parameters, Reading
from gateway.mining_shares import opened_pool
from gateway.orders import event_of
from gateway.reading import caught_up
from schemas import accrual, publications
from schemas.amounts import format_amount
from schemas.commands import SettleAccrual
from schemas.events import AccrualSettled
from schemas.publications import MiningPool
from schemas.rejections import RejectionCode
from schemas.views import ACCOUNTS, MINING
from schemas.wire import MiningShare, SettleBody, SettleResult
from schemas.wire_mining import LedgerUserId


class OfUser(Reading, frozen=True, kw_only=True):
    """user_id: the caller if left out."""

    user_id: LedgerUserId | None = None


async def get_pool(call: Call[Reading, NoBody]) -> MiningPool:
    """The pool after its last second: reward_per_second is what that second paid."""
    await caught_up(call, MINING)
    return publications.mining_pool(await opened_pool(call))


async def get_share(call: Call[OfUser, NoBody]) -> MiningShare:
    """The pool and the contribution are two projections; accrued is as of the pool's second."""
    user_id = call.subject(call.parameters.user_id)
    await caught_up(call, ACCOUNTS, user_id)
    await caught_up(call, MINING)
    pool = await opened_pool(call)
    view = (await call.resources.views.account(user_id)).contribution
    accrued = accrual.accrued_minor(
        weight=view.weight,
        index=pool.index,
        entry_index=view.entry_index,
        entry_fraction=view.entry_fraction,
    )
    return MiningShare(
        user_id=user_id,
        asset=pool.asset_id,
        scale=pool.scale,
        weight=str(view.weight),
        weight_total=str(pool.weight_total),
        entry_index=str(view.entry_index),
        entry_fraction=str(view.entry_fraction),
        index=str(pool.index),
        second=pool.second,
        accrued=format_amount(accrued, pool.scale),
        settled=format_amount(view.settled_minor, pool.scale),
        position=max(view.position, pool.position),
    )


async def settle(call: Call[Parameters, SettleBody]) -> SettleResult:
    """Moves what accrued to the available balance. Needs no body; an operator may name a user.

    It also happens by itself when a weight changes, or an order or withdrawal needs the amount.
    """
    reply = await submit(call, SettleAccrual(user_id=call.subject(call.body.user_id)))
    settled = event_of(reply, AccrualSettled)
    scale = await call.resources.catalogue.scale(settled.asset_id)
    return SettleResult(
        user_id=settled.user_id,
        asset=settled.asset_id,
        amount=format_amount(settled.amount_minor, scale),
        position=reply.last_position,
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/mining/pool",
        handle=get_pool,
        summary="the mining pool",
        access=PUBLIC,
        parameters=Reading,
        answer=MiningPool,
        refuses=(RejectionCode.LEDGER_NOT_OPEN,),
    ),
    Endpoint(
        method="GET",
        path="/v1/mining/me",
        handle=get_share,
        summary="a user's place in the pool",
        access=Access(Scope.READ, Scope.READ_OTHERS),
        parameters=OfUser,
        answer=MiningShare,
        refuses=(RejectionCode.LEDGER_NOT_OPEN,),
    ),
    Endpoint(
        method="POST",
        path="/v1/mining/settle",
        handle=settle,
        summary="settle what accrued",
        access=Access(Scope.TRADE, Scope.TRADE_OTHERS),
        body=SettleBody,
        needs_body=False,
        answer=SettleResult,
        is_command=True,
        refuses=(
            RejectionCode.LEDGER_NOT_OPEN,
            RejectionCode.INVALID_ID,
            RejectionCode.UNKNOWN_ACCOUNT,
            RejectionCode.ACCOUNT_FROZEN,
            RejectionCode.NOTHING_TO_SETTLE,
        ),
    ),
    *routes_mining_outlook.ENDPOINTS,
    *routes_mining_records.ENDPOINTS,
    *routes_mining_leaders.ENDPOINTS,
)
