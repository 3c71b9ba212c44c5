"""Accounts, deposits, withdrawals, freezing: what is booked, once, and what stops it."""

import pytest

from schemas import commands
from schemas.events import (
    AccountFrozen,
    AccountOpened,
    AccountUnfrozen,
    AccrualSettled,
    FundsDeposited,
    FundsWithdrawn,
    OrderCancelled,
)
from schemas.rejections import RejectionCode
from tests.unit.domain.scenario import Scenario, fingerprint, market, of_kind


def _deposit(user_id: str, reference: str, amount: int = 5) -> commands.DepositFunds:
    return commands.DepositFunds(
        user_id=user_id, asset_id="CNY", amount_minor=amount, reference=reference
    )


def test_an_account_is_opened_once_by_command_deposit_or_grant() -> None:
    given = Scenario()
    (opened,) = given.accept(commands.OpenAccount(user_id="alice"))
    assert isinstance(opened, AccountOpened)
    given.deposit("bob", "CNY", 1)
    given.grant("carol", 1)
    for user_id in ("alice", "bob", "carol"):
        again = given.refuse(commands.OpenAccount(user_id=user_id))
        assert again.code == RejectionCode.ACCOUNT_ALREADY_OPEN
        assert of_kind(given.accept(_deposit(user_id, user_id)), AccountOpened) == []


def test_a_first_deposit_opens_the_account_and_books_the_amount() -> None:
    given = Scenario()
    opened, deposited = given.accept(_deposit("alice", "r1", 70))
    assert isinstance(opened, AccountOpened)
    assert isinstance(deposited, FundsDeposited)
    assert given.balance("alice", "CNY") == (70, 0)
    assert given.system("external", "CNY") == -70


def test_a_reference_is_booked_once_whoever_it_is_for() -> None:
    given = Scenario()
    given.accept(_deposit("alice", "r1", 70))
    withdrawal = commands.WithdrawFunds(
        user_id="alice", asset_id="CNY", amount_minor=20, reference="w1"
    )
    given.accept(withdrawal)
    before = fingerprint(given.state)
    for again in (
        _deposit("alice", "r1", 70),
        _deposit("bob", "r1", 1),
        _deposit("alice", "w1", 20),
        withdrawal,
        commands.WithdrawFunds(user_id="alice", asset_id="CNY", amount_minor=1, reference="r1"),
    ):
        assert given.refuse(again).code == RejectionCode.DUPLICATE_REFERENCE
    assert fingerprint(given.state) == before
    assert given.balance("alice", "CNY") == (50, 0)


def test_a_refused_withdrawal_does_not_use_its_reference_up() -> None:
    given = Scenario()
    given.deposit("alice", "CNY", 10)
    withdrawal = given.withdraw("alice", "CNY", 30)
    refused = given.refuse(withdrawal)
    assert refused.code == RejectionCode.INSUFFICIENT_FUNDS
    assert refused.details == {"asset_id": "CNY", "needed_minor": 30, "available_minor": 10}
    given.deposit("alice", "CNY", 20)
    (withdrawn,) = given.accept(withdrawal)
    assert isinstance(withdrawn, FundsWithdrawn)
    assert given.balance("alice", "CNY") == (0, 0)


def test_what_an_order_holds_cannot_be_withdrawn() -> None:
    given = Scenario()
    given.deposit("alice", "CNY", 100)
    given.rest("alice", "buy", 40, 100)
    code = given.refuse(given.withdraw("alice", "CNY", 61)).code
    assert code == RejectionCode.INSUFFICIENT_FUNDS
    given.accept(given.withdraw("alice", "CNY", 60))


@pytest.mark.parametrize(("amount", "settles"), [(50, False), (51, True), (250, True), (251, None)])
def test_a_withdrawal_settles_what_was_mined_only_if_it_needs_it(
    amount: int, settles: bool | None
) -> None:
    given = Scenario()
    given.deposit("alice", "DUR", 50)
    given.grant("alice", 1)
    given.tick(2)
    withdrawal = given.withdraw("alice", "DUR", amount)
    if settles is None:
        refused = given.refuse(withdrawal)
        assert refused.code == RejectionCode.INSUFFICIENT_FUNDS
        assert refused.details["available_minor"] == 50
        return
    happened = given.accept(withdrawal)
    assert [event.amount_minor for event in of_kind(happened, AccrualSettled)] == [200] * settles
    left = 50 - amount + (200 if settles else 0)
    assert given.balance("alice", "DUR") == (left, 0)


def test_what_was_mined_pays_no_withdrawal_in_another_asset() -> None:
    given = Scenario()
    given.grant("alice", 1)
    given.tick(2)
    code = given.refuse(given.withdraw("alice", "CNY", 1)).code
    assert code == RejectionCode.INSUFFICIENT_FUNDS


def test_freezing_cancels_all_open_orders_by_rising_id() -> None:
    given = Scenario(burn_bps=0)
    given.accept(market(0, base_asset="TOK"))
    given.deposit("alice", "CNY", 1_000)
    given.deposit("alice", "TOK", 1_000)
    given.deposit("bob", "CNY", 1_000)
    given.rest("alice", "buy", 100, 100)
    given.rest("alice", "sell", 50, 200, market_id="TOK-CNY")
    given.rest("bob", "buy", 100, 100)
    given.rest("alice", "buy", 100, 90)
    frozen, *cancelled = given.accept(commands.FreezeAccount(user_id="alice", reason="kyc"))
    assert isinstance(frozen, AccountFrozen)
    assert frozen.reason == "kyc"
    gone = of_kind(cancelled, OrderCancelled)
    assert [(o.order_id, o.reason, o.released_minor) for o in gone] == [
        (1, "account_frozen", 100), (2, "account_frozen", 50), (4, "account_frozen", 90),
    ]  # fmt: skip
    assert given.balance("alice", "CNY") == (1_000, 0)
    assert given.balance("alice", "TOK") == (1_000, 0)
    assert list(given.state.orders) == [3]


def test_a_frozen_account_takes_deposits_and_mines_and_does_nothing_else() -> None:
    given = Scenario(burn_bps=0)
    given.deposit("alice", "CNY", 1_000)
    given.grant("alice", 1, grant_id="g")
    order_id = given.rest("alice", "buy", 100, 100)
    given.tick(2)
    given.accept(commands.FreezeAccount(user_id="alice", reason="kyc"))
    for command in (
        given.order("alice", "buy", 10, 100),
        given.replace("alice", order_id, 10, 100),
        given.withdraw("alice", "CNY", 1),
        commands.SettleAccrual(user_id="alice"),
        commands.FreezeAccount(user_id="alice", reason="again"),
    ):
        refused = given.refuse(command)
        assert refused.code == RejectionCode.ACCOUNT_FROZEN
        assert refused.details == {"user_id": "alice"}
    cancelling = given.refuse(commands.CancelAllOrders(user_id="alice"))
    assert cancelling.code == RejectionCode.NO_OPEN_ORDERS
    given.accept(_deposit("alice", "late"))
    given.accept(commands.AdjustContribution(user_id="alice", grant_id="g", weight=9))
    given.grant("alice", 3)
    given.tick(2)
    (thawed,) = given.accept(commands.UnfreezeAccount(user_id="alice"))
    assert isinstance(thawed, AccountUnfrozen)
    (settled,) = given.accept(commands.SettleAccrual(user_id="alice"))
    assert isinstance(settled, AccrualSettled)
    # Changing the weight paid for the first two seconds; of 200 / 12 a remainder is carried.
    assert (settled.amount_minor, given.balance("alice", "DUR")) == (199, (399, 0))
    again = given.refuse(commands.UnfreezeAccount(user_id="alice"))
    assert again.code == RejectionCode.ACCOUNT_NOT_FROZEN


def test_freezing_one_user_leaves_the_others_alone() -> None:
    given = Scenario()
    for user_id in ("alice", "bob"):
        given.deposit(user_id, "CNY", 100)
    given.accept(commands.FreezeAccount(user_id="alice", reason="kyc"))
    given.rest("bob", "buy", 100, 100)
