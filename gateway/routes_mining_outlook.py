"""What mining will pay: the emission schedule, and one user's income if nothing changes."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.access import PUBLIC, Access, Scope
from gateway.endpoint import Call, Endpoint, NoBody, Reading
from gateway.errors import Refusal
from gateway.mining_shares import pool_share
from gateway.reading import caught_up
from schemas import accrual, emission
from schemas.amounts import format_amount
from schemas.rejections import RejectionCode
from schemas.views import ACCOUNTS, MINING, ContributionView, PoolView
from schemas.wire_mining import (
    Emission,
    EmissionState,
    EmissionStep,
    Income,
    LedgerUserId,
    MiningProjection,
)

HORIZON_SECONDS: Final = {"second": 1, "hour": 3_600, "day": 86_400, "thirty_days": 2_592_000}


class ProjectionOf(Reading, frozen=True, kw_only=True):
    """user_id: the caller if left out."""

    user_id: LedgerUserId | None = None


class Outlook(msgspec.Struct, frozen=True):
    """The pool after its last second, and the schedule as schemas.emission wants it."""

    pool: PoolView
    schedule: Sequence[tuple[int, int]]

    @property
    def next_second(self) -> int:
        return self.pool.second + 1

    @property
    def remaining_minor(self) -> int:
        return self.pool.pool_minor - self.pool.allocated_minor

    def paid_minor(self, seconds: int) -> int:
        """What the next seconds pay if somebody has a weight, in minor units."""
        return emission.paid_minor(
            self.schedule,
            first=self.next_second,
            seconds=seconds,
            remaining_minor=self.remaining_minor,
        )

    def ends_second(self) -> int | None:
        return emission.ends_second(
            self.schedule, first=self.next_second, remaining_minor=self.remaining_minor
        )

    def income_minor(self, view: ContributionView, seconds: int) -> int:
        """What accrues to a user in the next seconds, to the minor unit, if no weight changes."""
        pool, paid = self.pool, self.paid_minor(seconds)
        if pool.weight_total == 0 or paid == 0:
            return 0
        # The remainders carried from second to second make many seconds one division.
        index, _ = accrual.advance(
            index=pool.index, carry=pool.carry, reward_minor=paid, weight_total=pool.weight_total
        )
        return _accrued(view, index) - _accrued(view, pool.index)


def _accrued(view: ContributionView, index: int) -> int:
    return accrual.accrued_minor(
        weight=view.weight,
        index=index,
        entry_index=view.entry_index,
        entry_fraction=view.entry_fraction,
    )


async def get_emission(call: Call[Reading, NoBody]) -> Emission:
    """Every step of the schedule, what is left of the pool, and when it ends."""
    await caught_up(call, MINING)
    outlook = await _outlook(call)
    pool, second = outlook.pool, outlook.pool.second
    current = max((begins for begins, _ in outlook.schedule if begins <= second), default=None)
    later = [begins for begins, _ in outlook.schedule if begins > second]

    def state(begins: int) -> EmissionState:
        if begins == current:
            return "current"
        return "past" if begins < second else "scheduled"

    def shown(amount_minor: int) -> str:
        return format_amount(amount_minor, pool.scale)

    return Emission(
        asset=pool.asset_id,
        scale=pool.scale,
        second=second,
        pool=shown(pool.pool_minor),
        allocated=shown(pool.allocated_minor),
        remaining=shown(outlook.remaining_minor),
        reward_per_second=shown(0 if current is None else dict(outlook.schedule)[current]),
        next_second=later[0] if later else None,
        ends_second=outlook.ends_second(),
        items=tuple(
            EmissionStep(from_second=begins, reward_per_second=shown(reward), state=state(begins))
            for begins, reward in outlook.schedule
        ),
        position=pool.position,
    )


async def get_projection(call: Call[ProjectionOf, NoBody]) -> MiningProjection:
    """What the next second, hour, day and 30 days pay the user if nothing changes, exactly."""
    user_id = call.subject(call.parameters.user_id)
    await caught_up(call, ACCOUNTS, user_id)
    await caught_up(call, MINING)
    outlook = await _outlook(call)
    pool = outlook.pool
    view = (await call.resources.views.account(user_id)).contribution
    expiries = [
        grant.expires_second for grant in view.grants.values() if grant.expires_second is not None
    ]
    incomes = {
        name: format_amount(outlook.income_minor(view, seconds), pool.scale)
        for name, seconds in HORIZON_SECONDS.items()
    }
    return MiningProjection(
        user_id=user_id,
        asset=pool.asset_id,
        scale=pool.scale,
        second=pool.second,
        share=pool_share(view.weight, pool.weight_total),
        reward_per_second=format_amount(
            outlook.paid_minor(1) if pool.weight_total else 0, pool.scale
        ),
        income=Income(**incomes),
        pool_ends_second=outlook.ends_second(),
        weight_ends_second=min(expiries, default=None),
        position=max(view.position, pool.position),
    )


async def _outlook(call: Call[Any, Any]) -> Outlook:
    pool, rewards = await call.resources.views.emission()
    if pool is None:
        raise Refusal(RejectionCode.LEDGER_NOT_OPEN, "The ledger has no second yet.")
    return Outlook(pool, tuple(rewards.items()))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/mining/emission",
        handle=get_emission,
        summary="the emission schedule",
        access=PUBLIC,
        parameters=Reading,
        answer=Emission,
        refuses=(RejectionCode.LEDGER_NOT_OPEN,),
    ),
    Endpoint(
        method="GET",
        path="/v1/mining/projection",
        handle=get_projection,
        summary="income if nothing changes",
        access=Access(Scope.READ, Scope.READ_OTHERS),
        parameters=ProjectionOf,
        answer=MiningProjection,
        refuses=(RejectionCode.LEDGER_NOT_OPEN,),
    ),
)
