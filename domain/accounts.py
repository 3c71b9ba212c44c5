"""Balances: the sum of all postings so far. No user account is ever negative."""

from collections.abc import Iterable
from sys import intern

import msgspec

from domain.postings import MAY_BE_NEGATIVE, Posting, UserPosting


class Balance(msgspec.Struct, gc=False):
    """One user's two accounts of one asset, minor units, both >= 0."""

    available_minor: int = 0
    held_minor: int = 0


class Accounts:
    """users: user_id -> asset_id -> Balance. system: (account, asset_id) -> signed minor units."""

    __slots__ = ("system", "users")

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Balance]] = {}
        self.system: dict[tuple[str, str], int] = {}

    def available_minor(self, user_id: str, asset_id: str) -> int:
        """0 for an unknown user or asset."""
        balances = self.users.get(user_id)
        balance = None if balances is None else balances.get(asset_id)
        return 0 if balance is None else balance.available_minor

    def system_minor(self, account: str, asset_id: str) -> int:
        """Signed; 0 for an account that nothing was posted to."""
        return self.system.get((account, asset_id), 0)


def evolve(accounts: Accounts, postings: Iterable[Posting]) -> None:
    """Add postings in place. Asserts that no account that must not be negative became so."""
    for posting in postings:
        if isinstance(posting, UserPosting):
            balances = accounts.users.get(posting.user_id)
            if balances is None:
                balances = accounts.users[intern(posting.user_id)] = {}
            move(balances, posting)
        else:
            key = (posting.account, posting.asset_id)
            amount = accounts.system.get(key, 0) + posting.amount_minor
            assert amount >= 0 or posting.account in MAY_BE_NEGATIVE, posting
            accounts.system[key] = amount


def move(balances: dict[str, Balance], posting: UserPosting) -> None:
    """Add one user's posting to that user's balances, in place."""
    balance = balances.get(posting.asset_id)
    if balance is None:
        balance = balances[intern(posting.asset_id)] = Balance()
    balance.available_minor += posting.available_minor
    balance.held_minor += posting.held_minor
    assert balance.available_minor >= 0 <= balance.held_minor, posting
