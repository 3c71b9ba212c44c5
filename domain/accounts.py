"""Balances: the sum of all postings so far. No user account is ever negative."""

from collections.abc import Iterable

from domain.postings import MAY_BE_NEGATIVE, Posting, UserPosting


class Balance:
    """One user's two accounts of one asset, minor units, both >= 0."""

    __slots__ = ("available_minor", "held_minor")

    def __init__(self, available_minor: int = 0, held_minor: int = 0) -> None:
        self.available_minor = available_minor
        self.held_minor = held_minor


class Accounts:
    """users: user_id -> asset_id -> Balance. system: (account, asset_id) -> signed minor units."""

    __slots__ = ("system", "users")

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Balance]] = {}
        self.system: dict[tuple[str, str], int] = {}

    def available_minor(self, user_id: str, asset_id: str) -> int:
        """0 for an unknown user or asset."""
        balance = self.users.get(user_id, {}).get(asset_id)
        return balance.available_minor if balance else 0


def evolve(accounts: Accounts, postings: Iterable[Posting]) -> None:
    """Add postings in place. Asserts that no account that must not be negative became so."""
    for posting in postings:
        if isinstance(posting, UserPosting):
            move(accounts.users.setdefault(posting.user_id, {}), posting)
        else:
            key = (posting.account, posting.asset_id)
            amount = accounts.system.get(key, 0) + posting.amount_minor
            assert amount >= 0 or posting.account in MAY_BE_NEGATIVE, posting
            accounts.system[key] = amount


def move(balances: dict[str, Balance], posting: UserPosting) -> None:
    """Add one user's posting to that user's balances, in place."""
    balance = balances.get(posting.asset_id)
    if balance is None:
        balance = balances[posting.asset_id] = Balance()
    balance.available_minor += posting.available_minor
    balance.held_minor += posting.held_minor
    assert balance.available_minor >= 0 <= balance.held_minor, posting
