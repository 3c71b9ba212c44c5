"""The domain and the naive model side by side: the same steps, and where they first differ.

Equal, always: every event field and rejection code; at checks every balance, held amount, system
account, book in priority order, weight, grant and accrued amount, and what all users accrued plus
the carry against what was allocated. A user's accrual may differ from the Fraction ideal by what
naive_mining proves; dust is below a unit a user plus the carry, so below users + W / 2^64 units.
"""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import msgspec

from domain import ledger, snapshot
from domain.state import LedgerState
from schemas import commands as c
from schemas.events import Side
from schemas.rejections import Rejection
from tests.model.naive_ledger import NaiveLedger
from tests.model.naive_mining import SCALE
from tests.model.naive_state import NANOSECONDS, Event
from tests.model.random_world import ASSETS, START_SECOND

SIDES: tuple[Side, ...] = ("buy", "sell")
SYSTEM = {
    "issuance": "<issuance>",
    "mining:pool": "<pool>",
    "mining:accrued": "<accrued>",
    "treasury": "<treasury>",
    "fees": "<fees>",
    "burn": "<burn>",
    "external": "<external>",
}
BROKEN = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError)
Step = tuple[int, c.Command]


@dataclass
class Difference(Exception):
    """what: the command's answer, a tick, or the name of a checked amount."""

    what: str
    domain: object
    naive: object


class TwoLedgers:
    """seen: how often each event type, rejection code and cancel reason occurred."""

    def __init__(self) -> None:
        self.state = LedgerState()
        self.naive = NaiveLedger()
        self.now_ns = START_SECOND * NANOSECONDS
        self.naive.now_ns = self.now_ns
        self.seen: Counter[str] = Counter()
        self.error_max = Fraction(0)
        self.ticks = 0

    def take(self, step: Step) -> None:
        """Let the time pass, then decide; raises Difference."""
        wait_ns, command = step
        self.now_ns += wait_ns
        while self.naive.is_open and self.naive.mining.next_second <= self.now_ns // NANOSECONDS:
            self._tick(self.naive.mining.next_second)
        decided = self._decided(command)
        expected = self.naive.answer(command, self.now_ns)
        if decided != expected:
            raise Difference("answer", decided, expected)
        if isinstance(expected, list):
            self._count(expected)
            # Engine time never goes back; a genesis may lie ahead.
            self.now_ns = max(self.now_ns, *(event["at_ns"] for event in expected))
        else:
            self.seen[expected] += 1

    def _decided(self, command: c.Command) -> list[Event] | str:
        try:
            decided = ledger.decide(command, self.state, self.now_ns)  # type: ignore[arg-type]
            if isinstance(decided, Rejection):
                return decided.code.value
            for event in decided:
                ledger.evolve(self.state, event)
        except BROKEN as error:
            return f"raised {error!r}"
        return [msgspec.to_builtins(event) for event in decided]

    def _tick(self, second: int) -> None:
        happened = [msgspec.to_builtins(event) for event in ledger.tick(self.state, second)]
        expected = self.naive.tick(second)
        if happened != expected:
            raise Difference(f"tick of {second}", happened, expected)
        self._count(expected)
        self.ticks += 1

    def _count(self, events: list[Event]) -> None:
        for event in events:
            self.seen[event["type"]] += 1
            if event["type"] == "order_cancelled":
                self.seen[f"cancelled: {event['reason']}"] += 1

    def check(self) -> None:
        """Compare everything both remember; raises Difference."""
        if not self.naive.is_open:
            return
        row = snapshot.dump(self.state)
        self._check_accounts(row.balances, row.system)
        self._check_mining(row)
        self._check_markets()
        _same("accounts", list(row.open_accounts), sorted(self.naive.accounts))
        _same("frozen accounts", list(row.frozen_accounts), sorted(self.naive.frozen))
        _same("references", list(row.references), sorted(self.naive.references))
        burned = {asset: self.naive.books.total("<burn>", asset) for asset in ASSETS}
        _same("burned totals", dict.fromkeys(ASSETS, 0) | dict(row.burned), burned)

    def _check_accounts(self, balances: Any, system: Any) -> None:
        books = self.naive.books
        domain = {(r.user_id, r.asset_id): (r.available_minor, r.held_minor) for r in balances}
        domain |= {(SYSTEM[r.account], r.asset_id): (r.amount_minor, 0) for r in system}
        for owner, asset in sorted(domain.keys() | books.entries.keys()):
            naive = (books.available(owner, asset), books.held(owner, asset))
            _same(f"available, held of {owner} {asset}", domain.get((owner, asset), (0, 0)), naive)
        for asset in ASSETS:
            total = sum(books.total(owner, asset) for owner, of in books.entries if of == asset)
            _same(f"sum of all accounts of {asset}", 0, total)

    def _check_mining(self, row: Any) -> None:
        mining, pool = self.naive.mining, row.mining
        mining.close_time_of_these_weights()
        _same("index, carry", (pool.index, pool.carry), (mining.index, mining.carry))
        users = {contribution.user_id: contribution for contribution in row.contributions}
        owed_by_all = dust = 0
        for user_id in sorted(users.keys() | mining.earnings.keys()):
            found, earned = users.get(user_id), mining.earned(user_id)
            weight, owed, settled = 0, 0, 0
            if found is not None:
                weight, settled = found.weight, found.settled_minor
                owed = weight * (pool.index - found.entry_index) + found.entry_fraction
            naive = (mining.weight(user_id), earned.owed, earned.settled)
            _same(f"weight, owed, settled of {user_id}", (weight, owed, settled), naive)
            if abs(earned.error) > earned.error_max:
                bound = f"at most {earned.error_max} / 2^64 from the ideal"
                raise Difference(f"accrued of {user_id}", float(earned.error / SCALE), bound)
            self.error_max = max(self.error_max, abs(earned.error))
            owed_by_all += settled * SCALE + owed
            dust += owed % SCALE
        allocated = pool.allocated_minor * SCALE
        _same("what users accrued + carry", owed_by_all + pool.carry, allocated)
        dust_limit = len(users) * SCALE + mining.carry_limit
        if dust + pool.carry >= dust_limit:
            raise Difference("dust, scaled", dust + pool.carry, f"below {dust_limit}")
        grants = [
            (u.user_id, g.grant_id, g.source, g.weight, g.expires_second)
            for u in row.contributions
            for g in u.grants
        ]
        in_force = [
            (g.user_id, g.grant_id, g.source, g.weight, g.expires_second)
            for g in mining.grants
            if g.is_in_force
        ]
        _same("grants in force", sorted(grants, key=str), sorted(in_force, key=str))

    def _check_markets(self) -> None:
        books = self.naive.books
        for market_id, market in self.state.markets.items():
            naive = books.market(market_id)
            assert naive is not None
            facts = (market.rules, market.is_halted, market.last_price_minor)
            _same(f"market {market_id}", facts, (naive.rules, naive.is_halted, naive.last_price))
            for side in SIDES:
                queue = [
                    (price, order.order_id, order.user_id, order.leaves_minor)
                    for price, order in market.book.side(side).queue()
                ]
                expected = [
                    (o.price, o.order_id, o.user_id, o.leaves) for o in books.queue(naive, side)
                ]
                _same(f"{side} side of {market_id}", queue, expected)


def _same(what: str, domain: object, naive: object) -> None:
    if domain != naive:
        raise Difference(what, domain, naive)
