"""Mining, user by user and second by second: each second adds weight x index step to each user.

Beside the specified index stands the ideal: fractions.Fraction of reward x weight / total weight.
The two differ only by where the carry lies. While the weights stay as they are, the index advances
by (rewards x 2^64 + carry before - carry after) / W, so a user's error of that time is
weight x (carry before - carry after) / W: at most weight x max(carries) / W, summed over the times.
"""

from dataclasses import dataclass
from fractions import Fraction

from tests.model.naive_state import NANOSECONDS, Event, event

SCALE = 2**64


@dataclass
class NaiveGrant:
    user_id: str
    grant_id: str
    source: str
    weight: int
    expires_second: int | None
    is_in_force: bool = True


@dataclass
class Earnings:
    """owed: scaled by 2^64, not settled yet. ideal: in units, ever. error_max: scaled."""

    owed: int = 0
    settled: int = 0
    ideal: Fraction = Fraction(0)
    error_max: int = 0

    @property
    def error(self) -> Fraction:
        """How far the index construction is from the ideal, scaled by 2^64."""
        return self.settled * SCALE + self.owed - self.ideal * SCALE


class NaiveMining:
    """The pool, the grants and what each user earned."""

    def __init__(self, asset_id: str, pool: int, genesis_second: int) -> None:
        self.asset_id = asset_id
        self.pool = pool
        self.next_second = genesis_second
        self.schedule: list[tuple[int, int]] = []
        self.grants: list[NaiveGrant] = []
        self.earnings: dict[str, Earnings] = {}
        self.index = 0
        self.carry = 0
        self.carry_limit = 1
        self.allocated = 0
        self._since_change = 0
        self._carry_at_change = 0

    def weight(self, user_id: str) -> int:
        return sum(g.weight for g in self.grants if g.is_in_force and g.user_id == user_id)

    def grant(self, user_id: str, grant_id: str) -> NaiveGrant | None:
        mine = (g for g in self.grants if g.user_id == user_id)
        return next((g for g in mine if g.grant_id == grant_id), None)

    def earned(self, user_id: str) -> Earnings:
        return self.earnings.setdefault(user_id, Earnings())

    def accrued(self, user_id: str) -> int:
        """Whole units that settling would pay."""
        return self.earned(user_id).owed // SCALE

    def settle(self, user_id: str, at_ns: int) -> list[Event]:
        """Pay the whole units, the caller writes them down; no event below one."""
        earnings, amount = self.earned(user_id), self.accrued(user_id)
        if amount == 0:
            return []
        earnings.owed -= amount * SCALE
        earnings.settled += amount
        entry = {"user_id": user_id, "asset_id": self.asset_id, "amount_minor": amount}
        return [event("accrual_settled", at_ns, **entry, **self.restart(user_id))]

    def restart(self, user_id: str) -> dict[str, int]:
        return {
            "entry_index": self.index,
            "entry_fraction": self.earned(user_id).owed % SCALE,
        }

    def due(self, second: int) -> list[NaiveGrant]:
        ending = [
            (g.expires_second, g.user_id, g.grant_id, g)
            for g in self.grants
            if g.is_in_force and g.expires_second is not None and g.expires_second <= second
        ]
        return [row[-1] for row in sorted(ending, key=lambda row: row[:3])]

    def reward(self, second: int, weight_total: int) -> int:
        if weight_total == 0:
            return 0
        starts = [start for start, _ in self.schedule if start <= second]
        if not starts:
            return 0
        newest = [reward for start, reward in self.schedule if start == max(starts)][-1]
        return min(newest, self.pool - self.allocated)

    def allocate(self, second: int) -> Event:
        users = sorted({g.user_id for g in self.grants if g.is_in_force})
        weights = {user_id: self.weight(user_id) for user_id in users}
        total = sum(weights.values())
        reward = self.reward(second, total)
        if reward > 0:
            step, self.carry = divmod(reward * SCALE + self.carry, total)
            self.index += step
            self.carry_limit = total
            for user_id, weight in weights.items():
                self.earned(user_id).owed += weight * step
            self.allocated += reward
            self._since_change += reward
        self.next_second = second + 1
        return event(
            "mining_allocated",
            second * NANOSECONDS,
            second=second,
            asset_id=self.asset_id,
            reward_minor=reward,
            weight_total=total,
            index=self.index,
            carry=self.carry,
            allocated_minor=self.allocated,
        )

    def close_time_of_these_weights(self) -> None:
        """Write the ideal share of all rewards since the last change; before any weight changes."""
        if self._since_change == 0:
            return
        total = sum(g.weight for g in self.grants if g.is_in_force)
        carry_max = max(self._carry_at_change, self.carry)
        for user_id in {g.user_id for g in self.grants if g.is_in_force}:
            weight, earnings = self.weight(user_id), self.earned(user_id)
            earnings.ideal += Fraction(weight * self._since_change, total)
            earnings.error_max += weight * carry_max // total + 1
        self._since_change, self._carry_at_change = 0, self.carry
