"""Contributions by command: grants, and changes to grants in force."""

from domain import contributions
from domain.checks import SECOND_MAX, WEIGHT_MAX
from domain.funds import opened_if_missing
from domain.mining import SECOND_NS
from domain.state import LedgerState
from schemas import commands, events
from schemas.rejections import Rejection, RejectionCode

Decision = tuple[events.LedgerEvent, ...] | Rejection


def decide_grant(command: commands.GrantContribution, state: LedgerState, now_ns: int) -> Decision:
    """Weight for a user; what accrued on the old weight is settled first."""
    refused = _check(command.weight, command.expires_second, now_ns, least=1)
    if refused is not None:
        return refused
    contribution = state.contributions.users.get(command.user_id)
    if contribution is not None and (
        command.grant_id in contribution.grants or command.grant_id in contribution.ended
    ):
        return Rejection(RejectionCode.DUPLICATE_GRANT, {"grant_id": command.grant_id})
    assert state.mining is not None
    index = state.mining.index
    granted = events.ContributionGranted(
        at_ns=now_ns,
        user_id=command.user_id,
        grant_id=command.grant_id,
        source=command.source,
        weight=command.weight,
        expires_second=command.expires_second,
        weight_after=command.weight + (contribution.weight if contribution else 0),
        entry_index=index,
        entry_fraction=contributions.fraction(contribution, index) if contribution else 0,
    )
    opened = opened_if_missing(command.user_id, state, now_ns)
    return (*opened, *_settled(command.user_id, state, now_ns), granted)


def decide_adjust(
    command: commands.AdjustContribution, state: LedgerState, now_ns: int
) -> Decision:
    """Another weight or expiry for a grant in force; weight 0 revokes it."""
    refused = _check(command.weight, command.expires_second, now_ns, least=0)
    if refused is not None:
        return refused
    if command.user_id not in state.open_accounts:
        return Rejection(RejectionCode.UNKNOWN_ACCOUNT, {"user_id": command.user_id})
    contribution = state.contributions.users.get(command.user_id)
    grant = contribution.grants.get(command.grant_id) if contribution else None
    if contribution is None or grant is None:
        return Rejection(RejectionCode.UNKNOWN_GRANT, {"grant_id": command.grant_id})
    assert state.mining is not None
    index = state.mining.index
    adjusted = events.ContributionAdjusted(
        at_ns=now_ns,
        user_id=command.user_id,
        grant_id=command.grant_id,
        weight_before=grant.weight,
        weight=command.weight,
        expires_second=command.expires_second,
        weight_after=contribution.weight - grant.weight + command.weight,
        entry_index=index,
        entry_fraction=contributions.fraction(contribution, index),
    )
    return (*_settled(command.user_id, state, now_ns), adjusted)


def _check(weight: int, expires_second: int | None, now_ns: int, *, least: int) -> Rejection | None:
    if not least <= weight <= WEIGHT_MAX:
        return Rejection(RejectionCode.INVALID_WEIGHT, {"least": least, "most": WEIGHT_MAX})
    now_second = now_ns // SECOND_NS
    if expires_second is not None and not now_second < expires_second <= SECOND_MAX:
        return Rejection(RejectionCode.INVALID_EXPIRY, {"now_second": now_second})
    return None


def _settled(user_id: str, state: LedgerState, now_ns: int) -> tuple[events.AccrualSettled, ...]:
    assert state.mining is not None
    settled = contributions.settle(state.contributions, state.mining, user_id, now_ns)
    return (settled,) if settled is not None else ()
