"""Engine time against a machine whose clocks say what the test says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import SECOND_NS, STEP_NS_MAX, VirtualClock, WallClock
from engine.errors import ClockIsWall

HOUR_NS = 3_600 * SECOND_NS
NOON_NS = 1_700_000_000 * SECOND_NS


class Machine:
    """A wall clock that can be set and a steady one that cannot."""

    def __init__(self) -> None:
        self.wall_ns = NOON_NS
        self.steady_ns = 50 * SECOND_NS

    def clock(self) -> WallClock:
        return WallClock(lambda: self.wall_ns, lambda: self.steady_ns)

    def passes(self, ns: int) -> None:
        self.wall_ns += ns
        self.steady_ns += ns


def test_it_shows_the_wall_clock() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.now_ns() == NOON_NS
    machine.passes(3 * SECOND_NS)
    assert clock.now_ns() == NOON_NS + 3 * SECOND_NS
    assert clock.leap_ns == 0


@pytest.mark.parametrize("step_ns", [-STEP_NS_MAX, -1, 1, SECOND_NS, STEP_NS_MAX])
def test_small_corrections_are_followed_and_never_back(step_ns: int) -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.now_ns() == NOON_NS
    machine.wall_ns += step_ns
    assert clock.now_ns() == NOON_NS + max(0, step_ns)
    machine.passes(5 * SECOND_NS)
    assert clock.now_ns() == NOON_NS + step_ns + 5 * SECOND_NS
    assert clock.leap_ns == 0


@pytest.mark.parametrize("leap_ns", [-HOUR_NS, HOUR_NS, STEP_NS_MAX + 1, -STEP_NS_MAX - 1])
def test_leaps_are_told_and_not_followed(leap_ns: int) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall_ns += leap_ns
    machine.passes(10 * SECOND_NS)
    assert clock.now_ns() == NOON_NS + 10 * SECOND_NS
    assert clock.leap_ns == leap_ns
    machine.wall_ns -= leap_ns
    assert clock.now_ns() == NOON_NS + 10 * SECOND_NS
    assert clock.leap_ns == 0


def test_a_new_clock_takes_the_time_that_is_set() -> None:
    machine = Machine()
    machine.clock()
    machine.wall_ns += HOUR_NS
    assert machine.clock().now_ns() == NOON_NS + HOUR_NS


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(-(10**13), 10**13)), max_size=30))
def test_time_never_goes_back_nor_runs_ahead(happenings: list[tuple[int, int]]) -> None:
    machine = Machine()
    clock = machine.clock()
    last_ns = clock.now_ns()
    for passed_ns, step_ns in happenings:
        machine.passes(passed_ns)
        machine.wall_ns += step_ns
        now_ns = clock.now_ns()
        assert last_ns <= now_ns <= last_ns + passed_ns + 2 * STEP_NS_MAX
        last_ns = now_ns


def test_the_next_tick_is_a_whole_second() -> None:
    machine = Machine()
    machine.wall_ns += 300_000_000
    assert machine.clock().seconds_to_next_tick() == pytest.approx(0.7)


def test_only_a_virtual_clock_is_advanced() -> None:
    virtual = VirtualClock(5)
    virtual.advance_to(9)
    virtual.advance_to(7)
    assert (virtual.now_ns(), virtual.seconds_to_next_tick(), virtual.leap_ns) == (9, None, 0)
    with pytest.raises(ClockIsWall):
        Machine().clock().advance_to(9)


def test_this_machine_has_such_clocks() -> None:
    clock = WallClock()
    first_ns = clock.now_ns()
    assert clock.now_ns() >= first_ns > NOON_NS
