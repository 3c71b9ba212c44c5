"""Random histories of a ledger: every command, valid or not, seconds and outages, in any order.

After each command all invariants hold, a second ledger fed by the encoded events is equal to the
byte, and so is one that goes on from a snapshot.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from domain.book import Order
from domain.ledger import decide, evolve, tick
from domain.mining import SECOND_NS
from domain.snapshot import load
from domain.state import LedgerState
from schemas import commands
from schemas.codecs import decode_event, encode_event
from schemas.events import LedgerEvent, MarketRules, MiningAllocated, OrderPlaced, OrderReduced
from schemas.rejections import Rejection, RejectionCode
from schemas.snapshots import decode_snapshot
from tests.property import ledger_commands as drawn
from tests.property.ledger_checks import (
    LogAudit,
    check_accounts,
    check_mining,
    check_orders,
    check_shortage,
)
from tests.property.order_checks import MarketBefore, check_placement, market_before
from tests.unit.domain.scenario import GENESIS_SECOND, fingerprint

# What the same command is told the second time.
ANSWERS = {
    commands.DepositFunds: {RejectionCode.DUPLICATE_REFERENCE},
    commands.WithdrawFunds: {RejectionCode.DUPLICATE_REFERENCE, RejectionCode.ACCOUNT_FROZEN},
    commands.GrantContribution: {RejectionCode.DUPLICATE_GRANT, RejectionCode.INVALID_EXPIRY},
    commands.PlaceOrder: {RejectionCode.DUPLICATE_CLIENT_ORDER_ID, RejectionCode.ACCOUNT_FROZEN},
    commands.OpenAccount: {RejectionCode.ACCOUNT_ALREADY_OPEN},
    commands.OpenMarket: {RejectionCode.MARKET_ALREADY_OPEN},
}


class LedgerMachine(RuleBasedStateMachine):
    """Three users, three markets that share their funds, and a pool that can run dry.

    twin: the same ledger as another machine sees it, from the bytes of the events.
    """

    def __init__(self) -> None:
        super().__init__()
        self.state = LedgerState()
        self.twin = LedgerState()
        self.audit = LogAudit()
        self.log: list[LedgerEvent] = []
        self.bytes = fingerprint(self.state)
        self.second = GENESIS_SECOND - 1
        self.names = 0
        self.once: list[commands.LedgerCommand] = []
        self.accepted: list[commands.LedgerCommand] = []

    @initialize(
        opening=drawn.openings,
        rules=st.tuples(*[drawn.rules_of_markets] * 3),
        funds=st.sampled_from((20_000, 1_000)),
    )
    def open(
        self, opening: commands.OpenLedger, rules: tuple[MarketRules, ...], funds: int
    ) -> None:
        self.ask(commands.SettleAccrual(user_id="alice"))
        self.ask(opening)
        for market_id, market_rules in zip(drawn.MARKETS, rules, strict=True):
            self.ask(drawn.market_of(market_id, market_rules))
        for user_id in drawn.USERS:
            for asset in drawn.ASSETS:
                self.ask_named(
                    commands.DepositFunds(
                        user_id=user_id,
                        asset_id=asset.asset_id,
                        amount_minor=funds,
                        reference=drawn.NAME,
                    )
                )

    @rule(seconds=st.one_of(st.just(1), st.integers(2, 30), st.just(61)))
    def pass_time(self, seconds: int) -> None:
        """One second, or an outage that is caught up."""
        for _ in range(seconds):
            self.second += 1
            happened = tick(self.state, self.second)
            assert isinstance(happened[-1], MiningAllocated)
            self.record(happened)
        self.check()

    @rule(command=drawn.policies)
    def change_policy(self, command: commands.LedgerCommand) -> None:
        self.ask_named(command)

    @rule(command=drawn.of_accounts)
    def change_account(self, command: commands.LedgerCommand) -> None:
        self.ask_named(command)

    @rule(command=drawn.grants)
    def grant(self, command: commands.GrantContribution) -> None:
        self.ask_named(command)

    @rule(command=drawn.adjustments, pick=drawn.picks)
    def adjust(self, command: commands.AdjustContribution, pick: int) -> None:
        for grant in self.chosen(pick, of_kind=commands.GrantContribution):
            command = msgspec.structs.replace(
                command, user_id=grant.user_id, grant_id=grant.grant_id
            )
        self.ask_named(command)

    @rule(placements=st.lists(drawn.limit_orders, min_size=2, max_size=6))
    def place_several(self, placements: Sequence[commands.PlaceOrder]) -> None:
        for command in placements:
            self.ask_named(command)

    @rule(commands_drawn=st.lists(drawn.limit_orders, min_size=1, max_size=4), pick=drawn.picks)
    def cross(self, commands_drawn: Sequence[commands.PlaceOrder], pick: int) -> None:
        """Orders on the other side and at the price of one that rests."""
        for command in commands_drawn:
            order = self.an_order(pick)
            if order is not None:
                command = msgspec.structs.replace(
                    command,
                    market_id=order.market_id,
                    side="sell" if order.side == "buy" else "buy",
                    price_minor=order.price_minor,
                )
            self.ask_named(command)

    @rule(command=drawn.market_orders)
    def place_market(self, command: commands.PlaceOrder) -> None:
        self.ask_named(command)

    @rule(command=drawn.replacements, pick=drawn.picks, is_price_kept=st.booleans())
    def replace(self, command: commands.ReplaceOrder, pick: int, is_price_kept: bool) -> None:
        order = self.an_order(pick)
        if order is not None:
            price = order.price_minor if is_price_kept else command.price_minor
            command = msgspec.structs.replace(
                command, user_id=order.user_id, order_id=order.order_id, price_minor=price
            )
        self.ask_named(command)

    @rule(pick=drawn.picks, user_id=drawn.users, is_owner=st.booleans())
    def cancel(self, pick: int, user_id: str, is_owner: bool) -> None:
        order = self.an_order(pick)
        owner = order.user_id if order and is_owner else user_id
        order_id = order.order_id if order else pick
        self.ask(commands.CancelOrder(user_id=owner, order_id=order_id))

    @rule(pick=drawn.picks, field=drawn.picks, bad=st.integers(0, 4))
    def spoil(self, pick: int, field: int, bad: int) -> None:
        """An accepted command under new names, with a field that is absurd or another's."""
        for command in self.chosen(pick, of_kind=commands.Command):
            spoiled = drawn.spoiled(drawn.unnamed(command), field, bad)
            self.ask_named(spoiled)

    @precondition(lambda self: self.once)
    @rule(pick=drawn.picks)
    def retry(self, pick: int) -> None:
        """The same order, payment or grant again has no second effect."""
        command = self.once[-1 - pick % len(self.once)]
        answer = self.ask(command)
        assert answer in ANSWERS[type(command)], (command, answer)

    @rule(is_twin_too=st.booleans())
    def restart(self, is_twin_too: bool) -> None:
        """Go on from a snapshot."""
        self.state = load(decode_snapshot(self.bytes))
        if is_twin_too:
            self.twin = load(decode_snapshot(self.bytes))
        self.check()

    def chosen(self, pick: int, *, of_kind: type[Any]) -> list[Any]:
        """One accepted command of a kind, or none if there is none."""
        found = [command for command in self.accepted if isinstance(command, of_kind)]
        return found[-1 - pick % len(found) :][:1] if found else []

    def an_order(self, pick: int) -> Order | None:
        open_orders = list(self.state.orders.values())
        return open_orders[-1 - pick % len(open_orders)] if open_orders else None

    def ask_named(self, command: commands.LedgerCommand) -> None:
        """Ask under names never used before, with seconds counted from now."""
        self.names += 1
        self.ask(drawn.named(command, f"n{self.names}", self.second))

    def ask(self, command: commands.LedgerCommand) -> RejectionCode | None:
        """Decide, then apply; the code if it was refused."""
        now_ns = max(self.second * SECOND_NS + self.names, self.state.at_ns)
        before = self.market_before(command)
        decided = decide(command, self.state, now_ns)
        assert fingerprint(self.state) == self.bytes, "deciding changed the state"
        if isinstance(decided, Rejection):
            if decided.code == RejectionCode.INSUFFICIENT_FUNDS:
                check_shortage(self.state, command, decided)
            return decided.code
        for event in decided:
            evolve(self.state, event)
        self.record(decided)
        if before is not None and not isinstance(decided[0], OrderReduced):
            kinds = [type(event) for event in decided]
            check_placement(before, decided[kinds.index(OrderPlaced) :])
        self.check()
        self.accepted.append(command)
        if type(command) in ANSWERS:
            self.once.append(command)
        return None

    def market_before(self, command: commands.LedgerCommand) -> MarketBefore | None:
        """What a placement will meet; None for other commands."""
        if isinstance(command, commands.PlaceOrder) and command.market_id in self.state.markets:
            return market_before(self.state, command.market_id)
        if isinstance(command, commands.ReplaceOrder) and command.order_id in self.state.orders:
            order = self.state.orders[command.order_id]
            return market_before(self.state, order.market_id, without=command.order_id)
        return None

    def record(self, happened: Sequence[LedgerEvent]) -> None:
        """Tell the auditor and the twin what has happened."""
        for event in happened:
            self.audit.read(event)
            read_back = decode_event(encode_event(event))
            assert read_back == event
            evolve(self.twin, read_back)
        self.log.extend(happened)

    def check(self) -> None:
        self.bytes = fingerprint(self.state)
        assert fingerprint(self.twin) == self.bytes
        if self.state.mining is None:
            return
        check_accounts(self.state, self.audit)
        check_orders(self.state)
        check_mining(self.state)
        assert self.state.order_id_last == self.audit.order_id
        assert self.state.trade_id_last == self.audit.trade_id
        assert self.state.mining.last_second == self.second

    def teardown(self) -> None:
        if fingerprint(self.state) != self.bytes:
            return  # a step failed before its end; its own complaint says more
        from_genesis = LedgerState()
        for event in self.log:
            evolve(from_genesis, event)
        assert fingerprint(from_genesis) == self.bytes


# A history costs little beside its worth: deep tries 2,100, of about 75 commands each.
HISTORIES_PER_EXAMPLE = 7
TestLedger = pytest.mark.timeout(1_200)(LedgerMachine.TestCase)
TestLedger.settings = settings(max_examples=settings().max_examples * HISTORIES_PER_EXAMPLE)
