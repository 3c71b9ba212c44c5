"""Invariants of the ledger over random histories: commands, seconds and gaps in any order."""

from collections import Counter
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain.ledger import decide, evolve, tick
from domain.mining import SECOND_NS
from domain.postings import UserPosting, postings_of
from domain.state import LedgerState
from schemas import commands
from schemas.accrual import INDEX_BITS
from schemas.codecs import decode_event, encode_event
from schemas.events import (
    ContributionExpired,
    ContributionGranted,
    LedgerEvent,
    MiningAllocated,
    OrderType,
    Side,
    TimeInForce,
)
from schemas.rejections import Rejection
from tests.unit.domain.scenario import GENESIS_SECOND, fingerprint, genesis, market, replayed

USERS = ("alice", "bob", "carol")
MARKETS = ("DUR-CNY", "TOK-CNY")

users = st.sampled_from(USERS)
weights = st.one_of(st.integers(1, 9), st.just(1 << 63))
sides = st.sampled_from(("buy", "sell"))
prices = st.integers(8, 12).map(lambda ticks: ticks * 10)
quantities = st.integers(1, 40).map(lambda lots: lots * 10)


class LedgerMachine(RuleBasedStateMachine):
    """Three users, two markets (one burns much, one nothing) and a pool that can run dry."""

    def __init__(self) -> None:
        super().__init__()
        self.state = LedgerState()
        self.log: list[LedgerEvent] = []
        self.second = GENESIS_SECOND - 1
        self.names = 0

    @initialize(
        pool=st.sampled_from((1_000, 10**12)),
        rewards=st.lists(st.integers(0, 1_000), min_size=1, max_size=3),
        burn_bps=st.sampled_from((1, 333, 9_999)),
    )
    def open(self, pool: int, rewards: list[int], burn_bps: int) -> None:
        emission = [(after * 7, reward) for after, reward in enumerate(rewards)]
        self.ask(genesis(pool_minor=pool, emission=emission))
        self.ask(market(burn_bps))
        self.ask(market(0, base_asset="TOK"))
        for user_id in USERS:
            for asset_id in ("DUR", "CNY", "TOK"):
                self.deposit(user_id, asset_id, 2_000)

    @rule(seconds=st.one_of(st.just(1), st.integers(2, 30)))
    def pass_time(self, seconds: int) -> None:
        """One second, or an outage that is caught up."""
        for _ in range(seconds):
            self.second += 1
            self.log.extend(tick(self.state, self.second))

    @rule(
        user_id=users,
        market_id=st.sampled_from(MARKETS),
        side=sides,
        limit=st.one_of(st.none(), prices),
        quantity=quantities,
        time_in_force=st.sampled_from(("gtc", "gtc", "ioc", "fok")),
    )
    def place(
        self,
        user_id: str,
        market_id: str,
        side: Side,
        limit: int | None,
        quantity: int,
        time_in_force: TimeInForce,
    ) -> None:
        order_type: OrderType = "market" if limit is None else "limit"
        command = commands.PlaceOrder(
            user_id=user_id,
            client_order_id=self.name(),
            market_id=market_id,
            side=side,
            order_type=order_type,
            time_in_force=time_in_force,
            price_minor=limit,
            quantity_minor=quantity,
        )
        self.ask(command)

    @rule(user_id=users, order_id=st.integers(1, 30))
    def cancel(self, user_id: str, order_id: int) -> None:
        self.ask(commands.CancelOrder(user_id=user_id, order_id=order_id))

    @rule(user_id=users, asset_id=st.sampled_from(("DUR", "CNY", "TOK")), amount=st.integers(0, 99))
    def deposit(self, user_id: str, asset_id: str, amount: int) -> None:
        command = commands.DepositFunds(
            user_id=user_id, asset_id=asset_id, amount_minor=amount, reference=self.name()
        )
        self.ask(command)

    @rule(user_id=users, weight=weights, lasts=st.one_of(st.none(), st.integers(0, 20)))
    def grant(self, user_id: str, weight: int, lasts: int | None) -> None:
        command = commands.GrantContribution(
            user_id=user_id,
            grant_id=self.name(),
            source="test",
            weight=weight,
            expires_second=None if lasts is None else self.second + lasts,
        )
        self.ask(command)

    @rule(user_id=users)
    def settle(self, user_id: str) -> None:
        self.ask(commands.SettleAccrual(user_id=user_id))

    def name(self) -> str:
        self.names += 1
        return f"n{self.names}"

    def ask(self, command: commands.LedgerCommand) -> None:
        now_ns = max(self.second * SECOND_NS, self.state.at_ns)
        decided = decide(command, self.state, now_ns)
        if not isinstance(decided, Rejection):
            for event in decided:
                evolve(self.state, event)
            self.log.extend(decided)

    @invariant()
    def every_event_is_balanced_and_time_never_goes_back(self) -> None:
        at_ns = 0
        for event in self.log:
            assert event.at_ns >= at_ns
            at_ns = event.at_ns
            sums: Counter[str] = Counter()
            for posting in postings_of(event):
                if isinstance(posting, UserPosting):
                    sums[posting.asset_id] += posting.available_minor + posting.held_minor
                else:
                    sums[posting.asset_id] += posting.amount_minor
            assert not any(sums.values()), event

    @invariant()
    def what_came_in_is_in_accounts_or_burned(self) -> None:
        totals: Counter[str] = Counter()
        burned: Counter[str] = Counter()
        for balances in self.state.accounts.users.values():
            for asset_id, balance in balances.items():
                assert balance.available_minor >= 0 <= balance.held_minor
                totals[asset_id] += balance.available_minor + balance.held_minor
        for (account, asset_id), amount in self.state.accounts.system.items():
            totals[asset_id] += amount
            burned[asset_id] += amount if account == "burn" else 0
        assert not any(totals.values())
        assert +burned == +Counter(self.state.burned_minor)

    @invariant()
    def what_is_held_belongs_to_open_orders(self) -> None:
        held: Counter[tuple[str, str]] = Counter()
        for order in self.state.orders.values():
            assert order.leaves_minor > 0 <= order.held_minor
            held[order.user_id, order.held_asset] += order.held_minor
        booked = {
            (user_id, asset_id): balance.held_minor
            for user_id, balances in self.state.accounts.users.items()
            for asset_id, balance in balances.items()
        }
        assert +held == +Counter(booked)

    @invariant()
    def books_hold_the_open_orders_and_are_not_crossed(self) -> None:
        found = []
        for market_state in self.state.markets.values():
            bid = market_state.book.side("buy").best_price_minor()
            ask = market_state.book.side("sell").best_price_minor()
            assert bid is None or ask is None or bid < ask
            for side in (market_state.book.side("buy"), market_state.book.side("sell")):
                found += [order.order_id for _, order in side.queue()]
        assert sorted(found) == sorted(self.state.orders)

    @invariant()
    def the_index_pays_out_what_was_allocated_to_the_last_bit(self) -> None:
        mining = self.state.mining
        if mining is None:
            return
        scaled = mining.carry
        for user in self.state.contributions.users.values():
            scaled += user.settled_minor << INDEX_BITS
            scaled += user.entry_fraction + user.weight * (mining.index - user.entry_index)
        assert scaled == mining.allocated_minor << INDEX_BITS
        weight = sum(user.weight for user in self.state.contributions.users.values())
        assert mining.weight_total == weight
        assert mining.allocated_minor <= mining.pool_minor

    def teardown(self) -> None:
        seconds = [event.second for event in self.log if isinstance(event, MiningAllocated)]
        assert seconds == list(range(GENESIS_SECOND, self.second + 1))
        if self.log:
            read_back = [decode_event(encode_event(event)) for event in self.log]
            assert read_back == self.log
            assert fingerprint(replayed(read_back)) == fingerprint(self.state)
            _assert_fair(self.log, self.state)


def _assert_fair(log: list[LedgerEvent], state: LedgerState) -> None:
    # Another way to the same figures: exact fractions of each second, no index at all.
    weights_now: Counter[str] = Counter()
    earned: dict[str, Fraction] = {}
    # What settlement keeps back, and the carries that new weights inherited from old ones.
    slack = Fraction(1)
    for event in log:
        if isinstance(event, ContributionGranted | ContributionExpired):
            slack += Fraction(weights_now.total(), 1 << INDEX_BITS)
            weights_now[event.user_id] = event.weight_after
        elif isinstance(event, MiningAllocated) and event.reward_minor:
            for user_id, weight in weights_now.items():
                share = Fraction(event.reward_minor * weight, event.weight_total)
                earned[user_id] = earned.get(user_id, Fraction(0)) + share
    slack += Fraction(weights_now.total(), 1 << INDEX_BITS)
    mining = state.mining
    assert mining is not None
    for user_id, user in state.contributions.users.items():
        paid = user.settled_minor + user.accrued_minor(mining.index)
        fair = earned.get(user_id, Fraction(0))
        assert fair - slack <= paid <= fair + slack


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(stateful_step_count=40)
