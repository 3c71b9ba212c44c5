"""Emission and the burn of the reserve: shown, and changed by two persons."""

from typing import Final

from gateway.administration.acting import ADMINISTERS, LOOKS, desk_of
from gateway.administration.changing import propose
from gateway.endpoint import Call, Endpoint, NoBody, Parameters, Reading
from gateway.errors import Refusal
from gateway.reading import caught_up
from gateway.requests import amount
from schemas.amounts import format_amount
from schemas.commands import ConfigureReserveBurn, ScheduleEmission
from schemas.rejections import RejectionCode
from schemas.views import PoolView
from schemas.wire_administration import (
    Approval,
    Emission,
    EmissionBody,
    EmissionStep,
    ReserveBurn,
    ReserveBurnBody,
)

PROPOSED: Final = 202


async def get_emission(call: Call[Reading, NoBody]) -> Emission:
    """The schedule of what each second mines, and how much of the pool is gone."""
    await caught_up(call, "mining")
    found, schedule = await call.resources.views.emission()
    pool = _opened(found)
    steps = tuple(
        EmissionStep(from_second=second, reward=format_amount(reward, pool.scale))
        for second, reward in schedule.items()
    )
    return Emission(
        asset=pool.asset_id,
        pool=format_amount(pool.pool_minor, pool.scale),
        allocated=format_amount(pool.allocated_minor, pool.scale),
        second=pool.second,
        reward=format_amount(pool.reward_minor, pool.scale),
        schedule=steps,
    )


async def schedule_emission(call: Call[Parameters, EmissionBody]) -> Approval:
    """Propose another reward from a second on. Entries for later seconds stay. The ledger is asked
    when a second administrator approves it; the second must still be to come then.
    """
    body = call.body
    scale = await call.resources.catalogue.mined_scale()
    command = ScheduleEmission(
        from_second=body.from_second, reward_minor=amount(body.reward, scale, "reward")
    )
    return await propose(call, command, body.reason)


async def get_reserve_burn(call: Call[Reading, NoBody]) -> ReserveBurn:
    """What the treasury burns each minute, and what was burned so far."""
    await caught_up(call, "market")
    pool = _opened((await call.resources.views.pool())[0])
    burned = await call.resources.views.burned(pool.asset_id)
    decided = await desk_of(call.resources).approvals.newest_executed("reserve_burn")
    amount_shown = None
    if decided is not None:
        assert isinstance(decided.proposal, ConfigureReserveBurn), decided.id
        amount_shown = format_amount(decided.proposal.amount_minor, pool.scale)
    return ReserveBurn(
        asset=pool.asset_id,
        amount=amount_shown,
        approval_id=None if decided is None else decided.id,
        burned_by_reserve=format_amount(burned.by_reserve, pool.scale),
        burned_by_trades=format_amount(burned.by_trades, pool.scale),
    )


async def set_reserve_burn(call: Call[Parameters, ReserveBurnBody]) -> Approval:
    """Propose what the treasury burns each minute. It begins when a second administrator approves
    it.
    """
    scale = await call.resources.catalogue.mined_scale()
    command = ConfigureReserveBurn(amount_minor=amount(call.body.amount, scale, "amount"))
    return await propose(call, command, call.body.reason)


def _opened(pool: PoolView | None) -> PoolView:
    if pool is None:
        raise Refusal(RejectionCode.LEDGER_NOT_OPEN, "The ledger has no second yet.")
    return pool


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/v1/admin/emission",
        handle=get_emission,
        summary="The emission schedule",
        access=LOOKS,
        parameters=Reading,
        answer=Emission,
        refuses=(RejectionCode.LEDGER_NOT_OPEN,),
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/emission",
        handle=schedule_emission,
        summary="Propose an emission entry",
        access=ADMINISTERS,
        body=EmissionBody,
        answer=Approval,
        status=PROPOSED,
        is_command=True,
    ),
    Endpoint(
        method="GET",
        path="/v1/admin/reserve-burn",
        handle=get_reserve_burn,
        summary="The burn of the treasury",
        access=LOOKS,
        parameters=Reading,
        answer=ReserveBurn,
        refuses=(RejectionCode.LEDGER_NOT_OPEN,),
    ),
    Endpoint(
        method="PUT",
        path="/v1/admin/reserve-burn",
        handle=set_reserve_burn,
        summary="Propose the burn of the treasury",
        access=ADMINISTERS,
        body=ReserveBurnBody,
        answer=Approval,
        status=PROPOSED,
        is_command=True,
    ),
)
