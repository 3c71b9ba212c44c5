"""Grants, accrual and expiry: who is paid what for which second."""

import pytest

from schemas import commands
from schemas.accrual import INDEX_BITS
from schemas.events import (
    AccountOpened,
    AccrualSettled,
    ContributionExpired,
    ContributionGranted,
    MiningAllocated,
)
from schemas.rejections import RejectionCode
from tests.unit.domain.scenario import GENESIS_SECOND, Scenario, of_kind


def _accrued(given: Scenario, user_id: str) -> int:
    mining = given.state.mining
    assert mining is not None
    return given.state.contributions.users[user_id].accrued_minor(mining.index)


def test_a_grant_opens_the_account_and_counts_from_the_next_tick() -> None:
    given = Scenario()
    opened, granted = given.grant("alice", 3)
    assert isinstance(opened, AccountOpened)
    assert isinstance(granted, ContributionGranted)
    assert (granted.weight_after, granted.entry_index, granted.entry_fraction) == (3, 0, 0)
    assert _accrued(given, "alice") == 0
    given.tick()
    assert _accrued(given, "alice") == 99  # the remainder of 100/3 is carried
    given.tick(2)
    assert _accrued(given, "alice") == 300  # after three seconds nothing of it is left over


def test_two_users_share_each_second_by_weight() -> None:
    given = Scenario()
    given.grant("alice", 3)
    given.grant("bob", 1)
    given.tick(2)
    assert (_accrued(given, "alice"), _accrued(given, "bob")) == (150, 50)


def test_a_second_grant_settles_what_accrued_on_the_first() -> None:
    given = Scenario()
    given.grant("alice", 2)
    given.grant("bob", 5)
    given.tick()
    settled, granted = given.grant("alice", 1)
    assert isinstance(settled, AccrualSettled)
    assert isinstance(granted, ContributionGranted)
    assert settled.amount_minor == 200 // 7
    assert granted.weight_after == 3
    assert (settled.entry_index, settled.entry_fraction) == (
        granted.entry_index,
        granted.entry_fraction,
    )
    assert 0 < granted.entry_fraction < 1 << INDEX_BITS
    assert given.balance("alice", "DUR") == (28, 0)
    assert given.system("mining:accrued", "DUR") == 100 - 28


def test_changing_weight_often_loses_nothing() -> None:
    given = Scenario(emission=((0, 1),))
    given.grant("alice", 1)
    given.grant("bob", 2)
    for _ in range(30):
        given.tick()
        given.grant("alice", 1)
        given.grant("bob", 2)
    total = sum(given.balance(user_id, "DUR")[0] for user_id in ("alice", "bob"))
    # 30 seconds of one minor unit; each user may hold back less than one.
    assert 28 <= total <= 30


def test_settling_pays_whole_units_and_keeps_the_fraction() -> None:
    given = Scenario()
    given.grant("alice", 3)
    given.tick()
    (settled,) = given.accept(commands.SettleAccrual(user_id="alice"))
    assert isinstance(settled, AccrualSettled)
    assert settled.amount_minor == 99
    again = given.refuse(commands.SettleAccrual(user_id="alice"))
    assert again.code == RejectionCode.NOTHING_TO_SETTLE
    given.tick(2)
    (settled,) = given.accept(commands.SettleAccrual(user_id="alice"))
    assert isinstance(settled, AccrualSettled)
    assert given.balance("alice", "DUR") == (300, 0)


def test_a_grant_expires_at_its_exact_second_before_that_seconds_allocation() -> None:
    given = Scenario()
    second = given.second
    given.grant("alice", 1, expires_second=second + 3)
    given.grant("bob", 1)
    assert [len(given.tick()) for _ in range(2)] == [1, 1]
    settled, expired, allocated = given.tick()
    assert isinstance(settled, AccrualSettled)
    assert isinstance(expired, ContributionExpired)
    assert isinstance(allocated, MiningAllocated)
    assert (settled.amount_minor, expired.weight, expired.weight_after) == (100, 1, 0)
    assert (allocated.second, allocated.weight_total) == (second + 3, 1)
    assert expired.at_ns == allocated.at_ns == (second + 3) * 10**9
    given.tick(2)
    assert (_accrued(given, "alice"), _accrued(given, "bob")) == (0, 400)


def test_grants_that_expire_together_settle_once_and_go_in_the_order_of_their_ids() -> None:
    given = Scenario()
    second = given.second
    for user_id, grant_id, weight in (("bob", "b", 3), ("alice", "z", 5), ("alice", "a", 1)):
        given.accept(
            commands.GrantContribution(
                user_id=user_id, grant_id=grant_id, source="s", weight=weight,
                expires_second=second + 2,
            )
        )  # fmt: skip
    given.grant("alice", 10)
    given.tick()
    happened = given.tick()
    expired = of_kind(happened, ContributionExpired)
    assert [(e.user_id, e.grant_id, e.weight_after) for e in expired] == [
        ("alice", "a", 15), ("alice", "z", 10), ("bob", "b", 0),
    ]  # fmt: skip
    assert [e.user_id for e in of_kind(happened, AccrualSettled)] == ["alice", "bob"]
    (allocated,) = of_kind(happened, MiningAllocated)
    assert allocated.weight_total == 10


def test_only_what_is_due_expires() -> None:
    given = Scenario()
    start = given.second
    for after in (9, 2, 5, 7, 2, 3):
        given.grant(f"user{after}", 1, expires_second=start + after)
    seconds = [
        (event.at_ns // 10**9 - start, event.user_id)
        for _ in range(10)
        for event in of_kind(given.tick(), ContributionExpired)
    ]
    assert seconds == [(after, f"user{after}") for after in (2, 2, 3, 5, 7, 9)]


@pytest.mark.parametrize("lasts", [1, 2, 5])
def test_a_grant_is_paid_for_every_second_before_its_expiry_and_none_after(lasts: int) -> None:
    given = Scenario()
    given.grant("alice", 1, expires_second=given.second + lasts)
    for _ in range(8):
        given.tick()
    # It counts from the tick after the grant, and no longer at expires_second itself.
    assert given.balance("alice", "DUR") == (100 * (lasts - 1), 0)
    mining = given.state.mining
    assert mining is not None
    assert mining.allocated_minor == 100 * (lasts - 1)


def test_a_user_with_the_largest_weight_twice_is_still_exact() -> None:
    given = Scenario(emission=((0, 3),), pool_minor=10**30)
    for user_id in ("whale", "whale", "whale", "shrimp"):
        given.grant(user_id, (1 << 63) if user_id == "whale" else 1)
    given.tick(7)
    mining = given.state.mining
    assert mining is not None
    assert mining.weight_total == 3 * (1 << 63) + 1
    shares = sum(user.weight * mining.index for user in given.state.contributions.users.values())
    assert shares + mining.carry == mining.allocated_minor << INDEX_BITS
    # With a weight above 2**64 the carry alone may be more than a minor unit.
    assert mining.carry < mining.weight_total


@pytest.mark.parametrize("weight", [1, 1 << 63])
def test_the_largest_weight_gets_the_whole_second(weight: int) -> None:
    given = Scenario(emission=((0, 1 << 40),), pool_minor=10**30)
    given.grant("whale", weight)
    given.tick(3)
    assert (3 << 40) - 1 <= _accrued(given, "whale") <= 3 << 40


def test_dust_beside_the_largest_weight_is_kept_to_the_last_bit() -> None:
    given = Scenario(emission=((0, 1 << 40),), pool_minor=10**30)
    given.grant("whale", 1 << 63)
    given.grant("shrimp", 1)
    given.tick(5)
    mining = given.state.mining
    assert mining is not None
    shares = sum(user.weight * mining.index for user in given.state.contributions.users.values())
    assert shares + mining.carry == mining.allocated_minor << INDEX_BITS
    assert _accrued(given, "shrimp") == 0


def test_genesis_second_is_allocated_too() -> None:
    first = of_kind(Scenario().log, MiningAllocated)[0]
    assert (first.second, first.reward_minor, first.weight_total) == (GENESIS_SECOND, 0, 0)
