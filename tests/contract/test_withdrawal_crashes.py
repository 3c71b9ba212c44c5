"""Withdrawals by processes that die between any two steps: nothing is lost or happens twice.

The rows are real; the ledger is the domain behind the gateway's port, so that a test can cut the
way to it before a command, or after it and before its answer is written down.
"""

import asyncio
import contextlib
from typing import Literal

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from domain.ledger import decide, evolve
from gateway.database import Database
from gateway.desk import withdrawals
from gateway.desk.withdrawals import Decision, NewWithdrawal, Withdrawals
from gateway.errors import EngineUnavailable, Refusal
from gateway.withdrawing import RETURNED, Withdrawing
from schemas.commands import DepositFunds, FreezeAccount, LedgerCommand, UnfreezeAccount
from schemas.events import FundsDeposited, FundsWithdrawn
from schemas.frames import Accepted, Refused
from schemas.rejections import Rejection, RejectionCode
from schemas.wire import WireCode
from schemas.wire_withdrawals import WithdrawalState
from tests.fixtures._desk import desk_url
from tests.fixtures.ledger_logs import LogBuilder

pytestmark = pytest.mark.services
FUNDS = 1_000
DECIDED = (WithdrawalState.APPROVED, WithdrawalState.REJECTED, WithdrawalState.CANCELLED)
Fault = Literal["none", "before", "after", "overloaded"]
faults = st.sampled_from(("none", "before", "after", "overloaded"))


class CutLedger(LogBuilder):
    """gateway.ports.CommandPort. fault: of the next command."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: Fault = "none"
        self._first: dict[str, Accepted | Refused] = {}
        self.pass_seconds(1)
        self.accept(
            DepositFunds(user_id="ann", asset_id="CNY", amount_minor=FUNDS, reference="funds")
        )

    def is_connected(self) -> bool:
        return True

    def forget_keys(self) -> None:
        self._first.clear()

    async def submit(
        self, command: LedgerCommand, *, key: str = "", trace: str = ""
    ) -> Accepted | Refused:
        fault, self.fault = self.fault, "none"
        if fault == "before":
            raise EngineUnavailable("not_sent")
        if fault == "overloaded":
            return Refused(id=1, rejection=Rejection(RejectionCode.OVERLOADED))
        scope = f"{command.__struct_config__.tag} {key}"
        answer = self._first.get(scope) or self.offer(command)
        self._first[scope] = answer
        if fault == "after":
            raise EngineUnavailable("unknown")
        return answer

    def offer(self, command: LedgerCommand) -> Accepted | Refused:
        decided = decide(command, self.state, self.now_ns)
        if isinstance(decided, Rejection):
            return Refused(id=1, rejection=decided)
        for event in decided:
            evolve(self.state, event)
        self.log.extend(decided)
        return Accepted(id=1, last_position=len(self.log), events=decided)

    def booked(self, kind: type[FundsWithdrawn] | type[FundsDeposited], reference: str) -> int:
        return sum(isinstance(one, kind) and one.reference == reference for one in self.log)


async def scale_of(asset_id: str) -> int:
    return 8


class AnnsWithdrawals(RuleBasedStateMachine):
    """One user's withdrawals. url: of the desk's database, as its role."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.ledger = CutLedger()
        self.database = Database(self.url, WireCode.DESK_UNAVAILABLE)
        self.runner.run(self.database.open())
        self.flow = Withdrawing(Withdrawals(self.database), self.ledger, scale_of)
        self.ids: list[str] = []

    def teardown(self) -> None:
        self.runner.run(self.flow.sweep())
        for withdrawal_id in self.ids:
            row = self.runner.run(self.flow.withdrawals.get(withdrawal_id))
            assert row.state not in withdrawals.UNFINISHED
        self.nothing_is_lost()
        self.runner.run(self.database.close())
        self.runner.close()

    @rule(amount=st.integers(1, FUNDS), fault=faults)
    def request(self, amount: int, fault: Fault) -> None:
        self.ids.append(self.runner.run(self._insert(amount)))
        self._carry_on(self.ids[-1], fault)

    @precondition(lambda self: self.ids)
    @rule(chosen=st.integers(0), fault=faults)
    def try_again(self, chosen: int, fault: Fault) -> None:
        self._carry_on(self.ids[chosen % len(self.ids)], fault)

    @precondition(lambda self: self.ids)
    @rule(chosen=st.integers(0), state=st.sampled_from(DECIDED), fault=faults)
    def decide(self, chosen: int, state: WithdrawalState, fault: Fault) -> None:
        withdrawal_id = self.ids[chosen % len(self.ids)]
        if self.runner.run(self._decide(withdrawal_id, state)):
            self._carry_on(withdrawal_id, fault)

    @rule(fault=faults)
    def sweep(self, fault: Fault) -> None:
        self.ledger.fault = fault
        with contextlib.suppress(EngineUnavailable):
            self.runner.run(self.flow.sweep())
        self.ledger.fault = "none"

    @rule(is_frozen=st.booleans())
    def freeze(self, is_frozen: bool) -> None:
        """What an operator does in the meantime; refused if it is so already."""
        command: LedgerCommand = UnfreezeAccount(user_id="ann")
        if is_frozen:
            command = FreezeAccount(user_id="ann", reason="suspicious")
        self.ledger.offer(command)

    @rule()
    def a_day_passes(self) -> None:
        self.ledger.forget_keys()

    @invariant()
    def nothing_is_lost(self) -> None:
        balance = FUNDS
        for withdrawal_id in self.ids:
            row = self.runner.run(self.flow.withdrawals.get(withdrawal_id))
            taken = self.ledger.booked(FundsWithdrawn, withdrawal_id)
            back = self.ledger.booked(FundsDeposited, withdrawal_id + RETURNED)
            assert (taken, back) in _POSSIBLE[row.state], row
            balance += row.amount_minor * (back - taken)
        assert self.ledger.state.accounts.available_minor("ann", "CNY") == balance >= 0

    def _carry_on(self, withdrawal_id: str, fault: Fault) -> None:
        self.ledger.fault = fault
        with contextlib.suppress(EngineUnavailable, Refusal):
            self.runner.run(self.flow.carry_on(withdrawal_id))
        self.ledger.fault = "none"

    async def _insert(self, amount: int) -> str:
        wanted = NewWithdrawal(
            user_id="ann",
            requested_by="ann",
            asset_id="CNY",
            amount_minor=amount,
            destination="there",
            trace="t",
        )
        async with self.database.transaction() as connection:
            return await withdrawals.insert(connection, wanted)

    async def _decide(self, withdrawal_id: str, state: WithdrawalState) -> bool:
        async with self.database.transaction() as connection:
            row = await withdrawals.read(connection, withdrawal_id, is_locked=True)
            if row.state is not WithdrawalState.PENDING:
                return False
            is_paid = state is WithdrawalState.APPROVED
            by = "ann" if state is WithdrawalState.CANCELLED else "olga"
            decision = Decision(state=state, by=by, payout_reference="p" if is_paid else None)
            await withdrawals.decide(connection, withdrawal_id, decision)
            return True


# How often the ledger may have taken it and given it back, by what the row says.
_POSSIBLE = {
    WithdrawalState.REQUESTED: {(0, 0), (1, 0)},
    WithdrawalState.REFUSED: {(0, 0)},
    WithdrawalState.PENDING: {(1, 0)},
    WithdrawalState.APPROVED: {(1, 0)},
    WithdrawalState.REJECTED: {(1, 0), (1, 1)},
    WithdrawalState.CANCELLED: {(1, 0), (1, 1)},
    WithdrawalState.RETURNED: {(1, 1)},
}


def test_nothing_is_lost_and_nothing_happens_twice(empty_database: str) -> None:
    AnnsWithdrawals.url = desk_url(empty_database)
    bounded = settings(max_examples=25, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(AnnsWithdrawals, settings=bounded)


def test_a_booked_one_stays_booked_though_the_account_is_frozen_since(empty_database: str) -> None:
    """The answer was lost, the key is forgotten, the account is frozen: the amount is not lost."""
    AnnsWithdrawals.url = desk_url(empty_database)
    machine = AnnsWithdrawals()
    machine.request(700, "after")
    machine.a_day_passes()
    machine.freeze(is_frozen=True)
    machine.sweep("none")
    (withdrawal_id,) = machine.ids
    row = machine.runner.run(machine.flow.withdrawals.get(withdrawal_id))
    assert row.state is WithdrawalState.PENDING
    machine.teardown()
