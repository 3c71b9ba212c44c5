"""Leaderboards: who holds, mined and weighs most. Scores are doubles and only rank; exact values
are in the users' views.
"""

from projections.batch import Batch
from schemas import views
from schemas.views import AccountView, ContributionView

MINED_PLACE = (views.ADMIN_DB, views.MINED_KEY)
WEIGHTS_PLACE = (views.CONTRIBUTION_DB, views.WEIGHTS_KEY)


class Scores:
    """One user's scores, as ranked by the batches so far; only those that change are written."""

    __slots__ = ("_holdings", "_mined", "_weight")

    def __init__(self, account: AccountView | None, contribution: ContributionView | None) -> None:
        self._holdings = _holdings(account) if account else {}
        self._mined = contribution.settled_minor if contribution else 0
        self._weight = contribution.weight if contribution else 0

    def rank_holdings(self, batch: Batch, account: AccountView) -> None:
        """Rank the user by each asset of which the holding changed."""
        for asset_id, holding in _holdings(account).items():
            if holding != self._holdings.get(asset_id, 0):
                self._holdings[asset_id] = holding
                place = (views.ADMIN_DB, views.holding_key(asset_id))
                batch.rank(place, account.user_id, holding)

    def rank_contribution(self, batch: Batch, contribution: ContributionView) -> None:
        """Rank the user by weight and by what was mined, where they changed."""
        if contribution.weight != self._weight:
            self._weight = contribution.weight
            batch.rank(WEIGHTS_PLACE, contribution.user_id, contribution.weight)
        if contribution.settled_minor != self._mined:
            self._mined = contribution.settled_minor
            batch.rank(MINED_PLACE, contribution.user_id, contribution.settled_minor)


def _holdings(account: AccountView) -> dict[str, int]:
    return {
        asset_id: balance.available + balance.held for asset_id, balance in account.balances.items()
    }
