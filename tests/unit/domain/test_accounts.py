"""Balances: sums of postings, and the accounts that must never be negative."""

import pytest

from domain.accounts import Accounts, evolve
from domain.postings import MAY_BE_NEGATIVE, SYSTEM_ACCOUNTS, SystemPosting, UserPosting


def test_balances_are_the_sums_of_postings() -> None:
    accounts = Accounts()
    evolve(accounts, [UserPosting("alice", "DUR", 5, 0), SystemPosting("external", "DUR", -5)])
    evolve(accounts, [UserPosting("alice", "DUR", -3, 3), UserPosting("bob", "CNY", 1, 0)])
    balance = accounts.users["alice"]["DUR"]
    assert (balance.available_minor, balance.held_minor) == (2, 3)
    assert accounts.available_minor("alice", "DUR") == 2
    assert accounts.system_minor("external", "DUR") == -5


def test_what_nothing_was_posted_to_is_zero() -> None:
    accounts = Accounts()
    evolve(accounts, [UserPosting("alice", "DUR", 5, 0)])
    assert accounts.available_minor("alice", "CNY") == 0
    assert accounts.available_minor("nobody", "DUR") == 0
    assert accounts.system_minor("fees", "DUR") == 0


@pytest.mark.parametrize(
    "posting", [UserPosting("a", "DUR", -1, 1), UserPosting("a", "DUR", 1, -1)]
)
def test_a_user_account_that_would_be_negative_stops_the_process(posting: UserPosting) -> None:
    with pytest.raises(AssertionError):
        evolve(Accounts(), [posting])


@pytest.mark.parametrize("account", SYSTEM_ACCOUNTS)
def test_of_the_ledgers_own_accounts_only_those_facing_outside_may_be_negative(
    account: str,
) -> None:
    posting = SystemPosting(account, "DUR", -1)
    if account in MAY_BE_NEGATIVE:
        evolve(Accounts(), [posting])
    else:
        with pytest.raises(AssertionError):
            evolve(Accounts(), [posting])
