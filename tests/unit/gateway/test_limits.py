"""gateway.limits: how many requests a caller may make, in which time, and what it is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.access import Principal, Role
from gateway.limits import Buckets, Limits, Rate, Rates, whole_network


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def somebody(user_id: str, role: Role = "user") -> Principal:
    return Principal(user_id=user_id, role=role, expires_second=0)


def test_a_burst_then_so_many_a_second() -> None:
    clock = Clock()
    buckets = Buckets("user", Rate(per_second=50, burst=100), clock)
    told = [buckets.take("u") for _ in range(101)]
    assert [each.remaining for each in told[:100]] == list(range(99, -1, -1))
    assert [each.is_granted for each in told] == [True] * 100 + [False]
    assert told[-1].retry_seconds == 1
    assert told[99].full_seconds == 2
    clock.now += 0.02
    assert [buckets.take("u").is_granted for _ in range(2)] == [True, False]
    clock.now += 60
    assert buckets.take("u").remaining == 99
    assert buckets.take("other").is_granted


@given(
    rate=st.builds(Rate, per_second=st.integers(1, 5_000), burst=st.integers(1, 10_000)),
    gaps=st.lists(st.floats(0, 3), max_size=60),
)
def test_never_more_than_the_rate_allows(rate: Rate, gaps: list[float]) -> None:
    clock = Clock()
    buckets = Buckets("user", rate, clock)
    began, granted = clock.now, 0
    for gap in gaps:
        clock.now += gap
        allowance = buckets.take("u")
        granted += allowance.is_granted
        passed = clock.now - began
        assert granted <= rate.burst + rate.per_second * passed + 1e-3
        assert 0 <= allowance.remaining < rate.burst or not allowance.is_granted
        if not allowance.is_granted:
            assert allowance.retry_seconds >= 1


def test_waiting_as_long_as_told_is_enough() -> None:
    clock = Clock()
    buckets = Buckets("user", Rate(per_second=1, burst=3), clock)
    while (refused := buckets.take("u")).is_granted:
        pass
    clock.now += refused.retry_seconds
    assert buckets.take("u").is_granted


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CALLERS_MAX", 100)
    clock = Clock()
    buckets = Buckets("address", Rate(per_second=1, burst=5), clock)
    for number in range(1_000):
        clock.now += 0.01
        buckets.take(str(number))
        assert len(buckets) <= 100
    clock.now += 10
    buckets.take("late")
    for number in range(100):
        buckets.take(f"more {number}")
    assert len(buckets) <= 101


def test_users_staff_and_addresses_count_apart() -> None:
    one = Rate(per_second=1, burst=1)
    every = Limits(Rates(user=one, staff=Rate(per_second=2, burst=2), address=one), Clock())

    def granted(who: Principal | None, address: str) -> bool:
        allowance = every.take(who, address)
        assert allowance is not None
        return allowance.is_granted

    assert [granted(somebody("u"), "10.0.0.1") for _ in range(2)] == [True, False]
    assert [granted(somebody("o", "operator"), "10.0.0.1") for _ in range(3)] == [True, True, False]
    assert [granted(None, "10.0.0.1") for _ in range(2)] == [True, False]
    assert granted(None, "10.0.0.2")
    assert [granted(None, address) for address in ("2001:db8::1", "2001:db8::2")] == [True, False]
    assert granted(None, "2001:db8:0:1::1")


def test_zero_is_no_limit() -> None:
    none = Limits(Rates.per_second(user=0, staff=0, address=0))
    assert all(none.take(who, "a") is None for who in (None, somebody("u"), somebody("a", "admin")))


def test_what_a_client_is_told() -> None:
    every = Limits(Rates.per_second(user=50, staff=0, address=0), Clock())
    allowance = every.take(somebody("u"), "")
    assert allowance is not None
    assert dict(every.headers(allowance)) == {
        b"ratelimit-policy": b'"user";q=100;w=2',
        b"ratelimit": b'"user";r=99;t=1',
    }


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(address: str, counted: str) -> None:
    assert whole_network(address) == counted
