"""Contributions: each user's grants and total weight, and what has accrued on it since the last
change.

A change of weight first settles: whole minor units move to the available account, the fraction
stays.
"""

import heapq

from domain.mining import SECOND_NS, Mining
from schemas import accrual
from schemas.events import AccrualSettled, ContributionExpired, ContributionGranted


class Contribution:
    """One user's weight and the index at which its accrual last restarted."""

    __slots__ = ("entry_fraction", "entry_index", "grants", "settled_minor", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self.entry_index = 0
        self.entry_fraction = 0
        self.settled_minor = 0
        self.grants: dict[str, int] = {}

    def accrued_minor(self, index: int) -> int:
        """Whole minor units accrued and not yet settled when the index stands at `index`."""
        return accrual.accrued_minor(
            weight=self.weight,
            index=index,
            entry_index=self.entry_index,
            entry_fraction=self.entry_fraction,
        )


class Contributions:
    """users: by user_id. expiries: heap of (second, user_id, grant_id), oldest first."""

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
    for _, user_id, grant_id in _due(contributions.expiries, second):
        contribution = contributions.users[user_id]
        if user_id not in weights:
            weights[user_id] = contribution.weight
            settled = settle(contributions, mining, user_id, at_ns)
            if settled is not None:
                due.append(settled)
        weights[user_id] -= contribution.grants[grant_id]
        due.append(
            ContributionExpired(
                at_ns=at_ns,
                user_id=user_id,
                grant_id=grant_id,
                weight=contribution.grants[grant_id],
                weight_after=weights[user_id],
                entry_index=mining.index,
                entry_fraction=fraction(contribution, mining.index),
            )
        )
    return due


def _due(expiries: list[tuple[int, str, str]], second: int) -> list[tuple[int, str, str]]:
    # Walks only the due top of the heap: a tick with nothing due costs one comparison.
    found, frontier = [], [0]
    while frontier:
        at = frontier.pop()
        if at < len(expiries) and expiries[at][0] <= second:
            found.append(expiries[at])
            frontier += (2 * at + 1, 2 * at + 2)
    return sorted(found)


def evolve_granted(contributions: Contributions, event: ContributionGranted) -> None:
    contribution = contributions.users.get(event.user_id)
    if contribution is None:
        contribution = contributions.users[event.user_id] = Contribution()
    contribution.grants[event.grant_id] = event.weight
    if event.expires_second is not None:
        heapq.heappush(
            contributions.expiries, (event.expires_second, event.user_id, event.grant_id)
        )
    _enter(contribution, event)


def evolve_expired(contributions: Contributions, event: ContributionExpired) -> None:
    second, user_id, grant_id = heapq.heappop(contributions.expiries)
    assert (user_id, grant_id) == (event.user_id, event.grant_id), (second, event)
    contribution = contributions.users[user_id]
    del contribution.grants[grant_id]
    _enter(contribution, event)


def evolve_settled(contributions: Contributions, event: AccrualSettled) -> None:
    contribution = contributions.users[event.user_id]
    contribution.settled_minor += event.amount_minor
    contribution.entry_index = event.entry_index
    contribution.entry_fraction = event.entry_fraction


def _enter(contribution: Contribution, event: ContributionGranted | ContributionExpired) -> None:
    contribution.weight = event.weight_after
    contribution.entry_index = event.entry_index
    contribution.entry_fraction = event.entry_fraction
