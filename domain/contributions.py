"""Contributions: each user's grants and total weight, and what has accrued on it since the last
change.

A change of weight first settles: whole minor units move to the available account, the fraction
stays.
"""

import heapq
from sys import intern

import msgspec

from domain.mining import SECOND_NS, Mining
from schemas import accrual
from schemas.events import (
    AccrualSettled,
    ContributionAdjusted,
    ContributionExpired,
    ContributionGranted,
)


class Grant(msgspec.Struct, frozen=True, gc=False):
    """expires_second: first second without the weight; None: until it is revoked."""

    source: str
    weight: int
    expires_second: int | None


class Contribution(msgspec.Struct, gc=False):
    """One user's weight and the index at which its accrual last restarted.

    grants: in force, by id. ended: ids of grants that are over; an id is never used again.
    """

    weight: int = 0
    entry_index: int = 0
    entry_fraction: int = 0
    settled_minor: int = 0
    grants: dict[str, Grant] = {}
    ended: set[str] = set()

    def accrued_minor(self, index: int) -> int:
        """Whole minor units accrued and not yet settled when the index stands at `index`."""
        return accrual.accrued_minor(
            weight=self.weight,
            index=index,
            entry_index=self.entry_index,
            entry_fraction=self.entry_fraction,
        )


class Contributions:
    """users: by user_id. expiries: heap of (second, user_id, grant_id), soonest first.

    The heap may name grants that were adjusted or revoked since; they are passed over.
    """

    __slots__ = ("expiries", "users")

    def __init__(self) -> None:
        self.users: dict[str, Contribution] = {}
        self.expiries: list[tuple[int, str, str]] = []


def settle(
    contributions: Contributions, mining: Mining, user_id: str, at_ns: int
) -> AccrualSettled | None:
    """The event that pays a user what has accrued; None if that is less than one minor unit."""
    contribution = contributions.users.get(user_id)
    if contribution is None:
        return None
    amount = contribution.accrued_minor(mining.index)
    if amount == 0:
        return None
    return AccrualSettled(
        at_ns=at_ns,
        user_id=user_id,
        asset_id=mining.asset_id,
        amount_minor=amount,
        entry_index=mining.index,
        entry_fraction=fraction(contribution, mining.index),
    )


def fraction(contribution: Contribution, index: int) -> int:
    """The part of a minor unit left over when whole units are settled at `index`."""
    scaled = accrual.entitlement(
        weight=contribution.weight,
        index=index,
        entry_index=contribution.entry_index,
        entry_fraction=contribution.entry_fraction,
    )
    return scaled & accrual.FRACTION_MASK


def expire_due(
    contributions: Contributions, mining: Mining, second: int
) -> list[AccrualSettled | ContributionExpired]:
    """Events for every grant whose last second has passed when `second` begins."""
    due: list[AccrualSettled | ContributionExpired] = []
    weights: dict[str, int] = {}
    at_ns = second * SECOND_NS
    for _, user_id, grant_id in _due(contributions, second):
        contribution = contributions.users[user_id]
        if user_id not in weights:
            weights[user_id] = contribution.weight
            settled = settle(contributions, mining, user_id, at_ns)
            if settled is not None:
                due.append(settled)
        weight = contribution.grants[grant_id].weight
        weights[user_id] -= weight
        due.append(
            ContributionExpired(
                at_ns=at_ns,
                user_id=user_id,
                grant_id=grant_id,
                weight=weight,
                weight_after=weights[user_id],
                entry_index=mining.index,
                entry_fraction=fraction(contribution, mining.index),
            )
        )
    return due


def _due(contributions: Contributions, second: int) -> list[tuple[int, str, str]]:
    # Walks only the due top of the heap: a tick with nothing due costs one comparison.
    expiries = contributions.expiries
    found: set[tuple[int, str, str]] = set()
    frontier = [0]
    while frontier:
        at = frontier.pop()
        if at < len(expiries) and expiries[at][0] <= second:
            if _is_current(contributions, expiries[at]):
                found.add(expiries[at])
            frontier += (2 * at + 1, 2 * at + 2)
    return sorted(found)


def _is_current(contributions: Contributions, expiry: tuple[int, str, str]) -> bool:
    second, user_id, grant_id = expiry
    grant = contributions.users[user_id].grants.get(grant_id)
    return grant is not None and grant.expires_second == second


def evolve_granted(contributions: Contributions, event: ContributionGranted) -> None:
    contribution = contributions.users.get(event.user_id)
    if contribution is None:
        contribution = contributions.users[intern(event.user_id)] = Contribution()
    grant = Grant(event.source, event.weight, event.expires_second)
    _put_grant(contributions, contribution, event, grant)
    _enter(contribution, event)


def evolve_adjusted(contributions: Contributions, event: ContributionAdjusted) -> None:
    contribution = contributions.users[event.user_id]
    before = contribution.grants[event.grant_id]
    if event.weight == 0:
        _end_grant(contribution, event.grant_id)
    else:
        grant = Grant(before.source, event.weight, event.expires_second)
        _put_grant(contributions, contribution, event, grant)
    _enter(contribution, event)


def evolve_expired(contributions: Contributions, event: ContributionExpired) -> None:
    contribution = contributions.users[event.user_id]
    _end_grant(contribution, event.grant_id)
    _enter(contribution, event)


def evolve_settled(contributions: Contributions, event: AccrualSettled) -> None:
    contribution = contributions.users[event.user_id]
    contribution.settled_minor += event.amount_minor
    contribution.entry_index = event.entry_index
    contribution.entry_fraction = event.entry_fraction


def forget_expiries(contributions: Contributions, second: int) -> None:
    """Drop heap entries that second has dealt with."""
    while contributions.expiries and contributions.expiries[0][0] <= second:
        heapq.heappop(contributions.expiries)


def _put_grant(
    contributions: Contributions,
    contribution: Contribution,
    event: ContributionGranted | ContributionAdjusted,
    grant: Grant,
) -> None:
    contribution.grants[event.grant_id] = grant
    if grant.expires_second is not None:
        expiry = (grant.expires_second, event.user_id, event.grant_id)
        heapq.heappush(contributions.expiries, expiry)


def _end_grant(contribution: Contribution, grant_id: str) -> None:
    del contribution.grants[grant_id]
    contribution.ended.add(grant_id)


def _enter(
    contribution: Contribution,
    event: ContributionGranted | ContributionAdjusted | ContributionExpired,
) -> None:
    contribution.weight = event.weight_after
    contribution.entry_index = event.entry_index
    contribution.entry_fraction = event.entry_fraction
