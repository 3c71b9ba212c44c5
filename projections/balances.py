"""One user's balances, by the ledger's own arithmetic (domain.accounts.move)."""

from domain import accounts
from domain.postings import UserPosting
from schemas.effects import UserEffect
from schemas.views import AccountView, BalanceView

_FREEZES = frozenset({"account_frozen", "account_unfrozen"})


class UserBalances:
    """frozen: why the account is, None if it is not.

    position: of the user's last effect, later ones only are added. offset: effects so far.
    """

    __slots__ = ("_balances", "_user_id", "frozen", "offset", "position")

    def __init__(self, user_id: str, view: AccountView | None) -> None:
        self._user_id = user_id
        self._balances: dict[str, accounts.Balance] = {}
        self.offset = self.position = 0
        self.frozen: str | None = None
        if view is not None:
            self.offset, self.position = view.offset, view.position
            self.frozen = view.frozen
            for asset_id, balance in view.balances.items():
                self._balances[asset_id] = accounts.Balance(balance.available, balance.held)

    def add(self, effect: UserEffect) -> None:
        """Move the user's balances by one effect that comes after `position`."""
        for change in effect.balances:
            posting = UserPosting(
                effect.user_id, change.asset_id, change.available_minor, change.held_minor
            )
            accounts.move(self._balances, posting)
        if effect.event_type in _FREEZES:
            self.frozen = effect.frozen_for
        self.offset += 1
        self.position = effect.position

    def view(self) -> AccountView:
        return AccountView(
            user_id=self._user_id,
            balances={
                asset_id: BalanceView(available=balance.available_minor, held=balance.held_minor)
                for asset_id, balance in self._balances.items()
            },
            offset=self.offset,
            position=self.position,
            frozen=self.frozen,
        )
