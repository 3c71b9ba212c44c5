"""The pool and its schedule: what each second pays, from genesis to the last minor unit."""

import pytest

from domain.mining import allocate
from schemas import commands
from schemas.events import MiningAllocated
from tests.unit.domain.scenario import GENESIS_SECOND, Scenario, of_kind


def _rewards(given: Scenario, seconds: int) -> list[int]:
    first = len(of_kind(given.log, MiningAllocated))
    given.tick(seconds)
    return [event.reward_minor for event in of_kind(given.log, MiningAllocated)[first:]]


@pytest.mark.parametrize(
    ("emission", "rewards"),
    [
        (((0, 100),), [100, 100, 100, 100]),
        (((0, 100), (3, 50), (4, 25)), [100, 100, 50, 25]),
        (((2, 100),), [0, 100, 100, 100]),
        (((0, 100), (2, 0), (3, 7)), [100, 0, 7, 7]),
        ((), [0, 0, 0, 0]),
    ],
)
def test_the_schedule_changes_the_reward_at_its_exact_second(
    emission: tuple[tuple[int, int], ...], rewards: list[int]
) -> None:
    given = Scenario(emission=emission)
    given.grant("alice", 1)
    assert _rewards(given, 4) == rewards


def test_the_last_second_pays_what_is_left_and_then_nothing() -> None:
    given = Scenario(pool_minor=250)
    given.grant("alice", 1)
    assert _rewards(given, 5) == [100, 100, 50, 0, 0]
    assert given.system("mining:pool", "DUR") == 0
    assert given.system("mining:accrued", "DUR") == 250
    assert given.system("issuance", "DUR") == -250


def test_the_last_minor_unit_of_the_pool_is_paid() -> None:
    given = Scenario(pool_minor=101)
    given.grant("alice", 1)
    assert _rewards(given, 3) == [100, 1, 0]
    given.accept(commands.SettleAccrual(user_id="alice"))
    assert given.balance("alice", "DUR") == (101, 0)
    assert (given.system("mining:pool", "DUR"), given.system("mining:accrued", "DUR")) == (0, 0)


def test_a_pool_that_is_exactly_used_up_ends_without_a_short_second() -> None:
    given = Scenario(pool_minor=200)
    given.grant("alice", 1)
    assert _rewards(given, 4) == [100, 100, 0, 0]


def test_the_carry_outlives_seconds_without_weight_and_changes_of_weight() -> None:
    given = Scenario(emission=((0, 1),))
    given.grant("alice", 3, expires_second=given.second + 2)
    given.tick()
    mining = given.state.mining
    assert mining is not None
    assert mining.carry == 1
    index = mining.index
    given.tick(5)
    assert (mining.index, mining.carry) == (index, 1)
    given.grant("bob", 5)
    given.tick()
    # 2**64 + 1 leaves 2 when divided by 5.
    assert mining.carry == 2


def test_a_second_without_weight_leaves_its_reward_in_the_pool() -> None:
    given = Scenario(pool_minor=250)
    assert _rewards(given, 3) == [0, 0, 0]
    given.grant("alice", 1, expires_second=given.second + 2)
    assert _rewards(given, 4) == [100, 0, 0, 0]
    given.grant("alice", 7)
    last = given.tick()[-1]
    assert isinstance(last, MiningAllocated)
    assert (last.reward_minor, last.allocated_minor, last.weight_total) == (100, 200, 7)


def test_what_a_division_leaves_is_carried_into_the_next_second() -> None:
    given = Scenario(emission=((0, 1),))
    given.grant("alice", 3)
    carries = [of_kind(given.tick(), MiningAllocated)[0].carry for _ in range(4)]
    assert carries == [1, 2, 0, 1]  # 2**64 leaves 1 when divided by 3


def test_a_second_is_never_skipped_or_repeated() -> None:
    mining = Scenario().state.mining
    assert mining is not None
    for second in (GENESIS_SECOND, GENESIS_SECOND + 2):
        with pytest.raises(AssertionError):
            allocate(mining, second)
