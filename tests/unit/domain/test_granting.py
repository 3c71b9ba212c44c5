"""Grants by command: ids used once, weights changed and revoked, accrual settled before."""

import pytest

from schemas import commands
from schemas.events import (
    AccrualSettled,
    ContributionAdjusted,
    ContributionExpired,
    ContributionGranted,
    MiningAllocated,
)
from schemas.rejections import RejectionCode
from tests.unit.domain.scenario import Scenario, of_kind


def _adjust(
    grant_id: str, weight: int, expires_second: int | None = None, user_id: str = "alice"
) -> commands.AdjustContribution:
    return commands.AdjustContribution(
        user_id=user_id, grant_id=grant_id, weight=weight, expires_second=expires_second
    )


def _weight(given: Scenario) -> int:
    (allocated,) = of_kind(given.tick(), MiningAllocated)
    return allocated.weight_total


@pytest.mark.parametrize("how", ["in force", "expired", "revoked"])
def test_a_grants_id_is_used_once_by_a_user_even_after_it_ended(how: str) -> None:
    given = Scenario()
    expires = given.second + 1 if how == "expired" else None
    given.grant("alice", 1, grant_id="g", expires_second=expires)
    if how == "revoked":
        given.accept(_adjust("g", 0))
    given.tick()
    again = commands.GrantContribution(user_id="alice", grant_id="g", source="s", weight=1)
    refused = given.refuse(again)
    assert refused.code == RejectionCode.DUPLICATE_GRANT
    assert refused.details == {"grant_id": "g"}
    # It is the user's own name for it.
    given.grant("bob", 1, grant_id="g")


def test_a_users_weight_is_the_sum_of_the_grants_in_force() -> None:
    given = Scenario()
    given.grant("alice", 5, grant_id="a")
    given.grant("alice", 7, grant_id="b", expires_second=given.second + 3)
    given.grant("bob", 1)
    assert _weight(given) == 13
    given.accept(_adjust("a", 2))
    assert _weight(given) == 10
    assert _weight(given) == 3
    given.accept(_adjust("a", 0))
    assert _weight(given) == 1


def test_adjusting_settles_what_accrued_on_the_old_weight() -> None:
    given = Scenario()
    given.grant("alice", 2, grant_id="g")
    given.grant("bob", 5)
    given.tick()
    settled, adjusted = given.accept(_adjust("g", 9))
    assert isinstance(settled, AccrualSettled)
    assert isinstance(adjusted, ContributionAdjusted)
    assert settled.amount_minor == 28
    assert (adjusted.weight_before, adjusted.weight, adjusted.weight_after) == (2, 9, 9)
    assert (adjusted.entry_index, adjusted.entry_fraction) == (
        settled.entry_index,
        settled.entry_fraction,
    )


@pytest.mark.parametrize("commands_between", [0, 1, 3])
def test_less_than_a_unit_is_no_event_and_not_lost(commands_between: int) -> None:
    given = Scenario(emission=((0, 1),))
    given.grant("alice", 1, grant_id="g")
    given.grant("bob", 1)
    for _ in range(commands_between):
        happened = given.accept(_adjust("g", 1))
        assert [type(event) for event in happened] == [ContributionAdjusted]
    given.tick()
    (adjusted,) = given.accept(_adjust("g", 1))
    assert isinstance(adjusted, ContributionAdjusted)
    assert adjusted.entry_fraction == 1 << 63
    given.tick()
    settled, _ = given.accept(_adjust("g", 1))
    assert isinstance(settled, AccrualSettled)
    assert (settled.amount_minor, settled.entry_fraction) == (1, 0)


def test_an_adjustment_sets_the_expiry_anew() -> None:
    given = Scenario()
    start = given.second
    given.grant("alice", 1, grant_id="later", expires_second=start + 2)
    given.grant("alice", 1, grant_id="sooner", expires_second=start + 9)
    given.grant("alice", 1, grant_id="never", expires_second=start + 3)
    given.grant("alice", 1, grant_id="same", expires_second=start + 4)
    given.accept(_adjust("later", 1, start + 5))
    given.accept(_adjust("sooner", 1, start + 4))
    given.accept(_adjust("never", 1, None))
    given.accept(_adjust("same", 6, start + 4))
    ends = [
        (event.at_ns // 10**9 - start, event.grant_id, event.weight)
        for _ in range(12)
        for event in of_kind(given.tick(), ContributionExpired)
    ]
    assert ends == [(4, "same", 6), (4, "sooner", 1), (5, "later", 1)]
    assert _weight(given) == 1


def test_a_revoked_grant_does_not_expire_later() -> None:
    given = Scenario()
    given.grant("alice", 1, grant_id="g", expires_second=given.second + 2)
    (revoked,) = given.accept(_adjust("g", 0, given.second + 5))
    assert isinstance(revoked, ContributionAdjusted)
    assert (revoked.weight_before, revoked.weight, revoked.weight_after) == (1, 0, 0)
    ended = [event for _ in range(7) for event in of_kind(given.tick(), ContributionExpired)]
    assert ended == []
    assert given.refuse(_adjust("g", 1)).code == RejectionCode.UNKNOWN_GRANT


@pytest.mark.parametrize(("after", "is_valid"), [(-1, False), (0, False), (1, True)])
def test_an_expiry_lies_after_the_current_second(after: int, is_valid: bool) -> None:
    given = Scenario()
    given.grant("alice", 1, grant_id="g")
    for command in (
        _adjust("g", 1, given.second + after),
        commands.GrantContribution(
            user_id="alice", grant_id="h", source="s", weight=1, expires_second=given.second + after
        ),
    ):
        if is_valid:
            given.accept(command)
        else:
            refused = given.refuse(command)
            assert refused.code == RejectionCode.INVALID_EXPIRY
            assert refused.details == {"now_second": given.second}


def test_grants_name_their_source_and_totals() -> None:
    given = Scenario()
    given.grant("alice", 1)
    (granted,) = given.grant("alice", 1 << 63)
    assert isinstance(granted, ContributionGranted)
    assert (granted.source, granted.weight, granted.weight_after) == (
        "test",
        1 << 63,
        (1 << 63) + 1,
    )
