"""How many requests one caller may make: a token bucket for each, in this process's memory.

A bucket is one number, when it will be full again (GCRA), so that it costs no timer and no list.
What must survive a restart, such as the limits of sign-in, is gateway.identity's.
"""

import math
import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal

import msgspec

from gateway.access import Principal

CALLERS_MAX: Final = 100_000
SWEEP_SECONDS: Final = 1.0
STAFF: Final = frozenset({"auditor", "operator", "admin"})
# A household or a server has at least so many IPv6 addresses, all of them of one caller.
IPV6_PREFIX_BITS: Final = 64

Kind = Literal["user", "staff", "address"]


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """per_second: in the long run, 0 for no limit. burst: at once, after a silence."""

    per_second: int
    burst: int


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Of each kind of caller: users and staff by their id, everybody else by address."""

    user: Rate
    staff: Rate
    address: Rate

    @classmethod
    def per_second(cls, *, user: int, staff: int, address: int) -> "Rates":
        """Twice as many at once; 0 for no limit."""
        rates = (Rate(per_second=rate, burst=2 * rate) for rate in (user, staff, address))
        return cls(**dict(zip(("user", "staff", "address"), rates, strict=True)))


UNLIMITED: Final = Rates.per_second(user=0, staff=0, address=0)


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request.

    caller: a user's id or a network. remaining: how many more may follow at once.
    full_seconds: until a whole burst may follow. retry_seconds: until one may, if this one did not.
    """

    kind: Kind
    caller: str
    is_granted: bool
    remaining: int
    full_seconds: int
    retry_seconds: int = 0


class Buckets:
    """One Rate for any number of callers. Of more than CALLERS_MAX the longest known are forgotten.

    now: seconds that never go back.
    """

    def __init__(self, kind: Kind, rate: Rate, now: Callable[[], float] = time.monotonic) -> None:
        self.kind: Kind = kind
        self.rate = rate
        self._interval = 1 / rate.per_second if rate.per_second else 0.0
        self._depth = self._interval * rate.burst
        self._now = now
        self._full_at: dict[str, float] = {}
        self._swept_at = now()

    def take(self, caller: str) -> Allowance:
        """Let the caller make one request, or not."""
        now = self._now()
        full_at = max(self._full_at.get(caller, now), now) + self._interval
        excess = full_at - now - self._depth
        # Of times that are sums of intervals, the last bits are noise.
        if excess > self._interval * 1e-6:
            return Allowance(
                kind=self.kind,
                caller=caller,
                is_granted=False,
                remaining=0,
                full_seconds=math.ceil(full_at - now),
                retry_seconds=max(math.ceil(excess), 1),
            )
        self._full_at[caller] = full_at
        if len(self._full_at) > CALLERS_MAX:
            self._sweep(now)
        remaining = int(-excess / self._interval + 1e-6) if self._interval else self.rate.burst
        return Allowance(
            kind=self.kind,
            caller=caller,
            is_granted=True,
            remaining=remaining,
            full_seconds=math.ceil(full_at - now),
        )

    def __len__(self) -> int:
        return len(self._full_at)

    def _sweep(self, now: float) -> None:
        # A full bucket says no more than one that is not there.
        if now - self._swept_at >= SWEEP_SECONDS:
            self._swept_at = now
            self._full_at = {who: at for who, at in self._full_at.items() if at > now}
        while len(self._full_at) > CALLERS_MAX:
            del self._full_at[next(iter(self._full_at))]


class Limits:
    """The buckets of one process, shared by its services."""

    def __init__(self, rates: Rates = UNLIMITED, now: Callable[[], float] = time.monotonic) -> None:
        self._user = Buckets("user", rates.user, now)
        self._staff = Buckets("staff", rates.staff, now)
        self._address = Buckets("address", rates.address, now)
        self._policies = {
            each.kind: _policy(each) for each in (self._user, self._staff, self._address)
        }

    def take(self, principal: Principal | None, address: str) -> Allowance | None:
        """None for a caller without a limit."""
        if principal is None:
            buckets, caller = self._address, whole_network(address)
        else:
            buckets = self._staff if principal.role in STAFF else self._user
            caller = principal.user_id
        return buckets.take(caller) if buckets.rate.per_second else None

    def headers(self, allowance: Allowance) -> list[tuple[bytes, bytes]]:
        """What the client is told. Source: draft-ietf-httpapi-ratelimit-headers-10."""
        kind = allowance.kind.encode()
        told = b'"%b";r=%d;t=%d' % (kind, allowance.remaining, allowance.full_seconds)
        return [(b"ratelimit-policy", self._policies[allowance.kind]), (b"ratelimit", told)]


def _policy(buckets: Buckets) -> bytes:
    rate = buckets.rate
    window = math.ceil(rate.burst / rate.per_second) if rate.per_second else 0
    return b'"%b";q=%d;w=%d' % (buckets.kind.encode(), rate.burst, window)


def whole_network(address: str) -> str:
    """What counts as one caller: an IPv4 address, or the network of an IPv6 one."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:  # with a zone, or nothing that we know
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    network = int(parsed) >> (128 - IPV6_PREFIX_BITS) << (128 - IPV6_PREFIX_BITS)
    return f"{IPv6Address(network)}/{IPV6_PREFIX_BITS}"
