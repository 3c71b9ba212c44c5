"""The mining pool: one allocation per second by the cumulative index; O(1) for any number of users.

Source: ADR 0003. The tick of second t uses the weights left by all events before it; a grant that
expires at second t is gone before t's allocation.
"""

from bisect import bisect_left, bisect_right

from schemas import accrual
from schemas.events import EmissionScheduled, LedgerOpened, MiningAllocated

SECOND_NS = 1_000_000_000


class Mining:
    """Pool and index after the last allocated second (last_second is genesis - 1 before the
    first).
    """

    __slots__ = (
        "allocated_minor",
        "asset_id",
        "carry",
        "genesis_second",
        "index",
        "last_second",
        "pool_minor",
        "rewards",
        "starts",
        "weight_total",
    )

    def __init__(self, asset_id: str, pool_minor: int, genesis_second: int) -> None:
        self.asset_id = asset_id
        self.pool_minor = pool_minor
        self.genesis_second = genesis_second
        self.last_second = genesis_second - 1
        self.index = 0
        self.carry = 0
        self.weight_total = 0
        self.allocated_minor = 0
        self.starts: list[int] = []
        self.rewards: list[int] = []

    def reward_minor(self, second: int) -> int:
        """What the schedule and the pool allow second to pay; 0 when nobody has weight."""
        entry = bisect_right(self.starts, second) - 1
        if entry < 0 or self.weight_total == 0:
            return 0
        return min(self.rewards[entry], self.pool_minor - self.allocated_minor)


def opened(event: LedgerOpened) -> Mining:
    """The pool at genesis, nothing allocated."""
    return Mining(event.mined_asset, event.pool_minor, event.genesis_second)


def allocate(mining: Mining, second: int) -> MiningAllocated:
    """The event that allocates the next second."""
    assert second == mining.last_second + 1, (second, mining.last_second)
    reward = mining.reward_minor(second)
    index, carry = mining.index, mining.carry
    if reward:
        index, carry = accrual.advance(
            index=index, carry=carry, reward_minor=reward, weight_total=mining.weight_total
        )
    return MiningAllocated(
        at_ns=second * SECOND_NS,
        second=second,
        asset_id=mining.asset_id,
        reward_minor=reward,
        weight_total=mining.weight_total,
        index=index,
        carry=carry,
        allocated_minor=mining.allocated_minor + reward,
    )


def evolve_allocated(mining: Mining, event: MiningAllocated) -> None:
    mining.last_second = event.second
    mining.index = event.index
    mining.carry = event.carry
    mining.allocated_minor = event.allocated_minor


def evolve_scheduled(mining: Mining, event: EmissionScheduled) -> None:
    """A later entry for the same second replaces the earlier one."""
    at = bisect_left(mining.starts, event.from_second)
    if at < len(mining.starts) and mining.starts[at] == event.from_second:
        mining.rewards[at] = event.reward_minor
        return
    mining.starts.insert(at, event.from_second)
    mining.rewards.insert(at, event.reward_minor)
