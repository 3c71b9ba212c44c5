"""The projection `accounts`: balances, contributions, open orders, fills and leaderboards of the
users of one partition of ledger.postings.

Users are folded one by one, so more partitions and workers are more capacity. Each user's views
are given in before the first effect that touches them; those not needed lately are forgotten.
"""

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from projections.balances import UserBalances
from projections.batch import Batch, Publication
from projections.contributions import add_change
from projections.leaders import Scores
from projections.orders import UserOrders
from schemas import views
from schemas.effects import UserEffect
from schemas.views import AccountPublication, AccountView, ContributionView, OrderView

USERS_CACHED_MAX = 50_000
CHANNEL = "account"

encode = msgspec.json.Encoder().encode


class StoredUser(msgspec.Struct, frozen=True, kw_only=True):
    """One user's stored views; None and empty where there is nothing yet."""

    account: AccountView | None = None
    contribution: ContributionView | None = None
    orders: list[OrderView] = []


NOTHING_STORED = StoredUser()


class User:
    """All views of one user, as folded so far."""

    __slots__ = ("balances", "contribution", "orders", "scores")

    def __init__(self, user_id: str, stored: StoredUser) -> None:
        self.balances = UserBalances(user_id, stored.account)
        self.contribution = stored.contribution or ContributionView(user_id=user_id)
        self.orders = UserOrders(stored.orders)
        self.scores = Scores(stored.account, stored.contribution)


class UsersFold:
    """cached_max: users kept between batches; those of the current batch always are.

    quiet: nothing is published, for a rebuild.
    """

    __slots__ = ("_cached_max", "_contributed", "_quiet", "_touched", "_users")

    def __init__(self, *, cached_max: int = USERS_CACHED_MAX, quiet: bool = False) -> None:
        self._cached_max = cached_max
        self._quiet = quiet
        self._users: OrderedDict[str, User] = OrderedDict()
        # dicts, because the order of publications must be the log's
        self._touched: dict[str, None] = {}
        self._contributed: dict[str, None] = {}

    def unknown(self, user_ids: Iterable[str]) -> list[str]:
        """Those whose views must be given by adopt() before their effects are folded."""
        return [user_id for user_id in dict.fromkeys(user_ids) if user_id not in self._users]

    def adopt(self, user_id: str, stored: StoredUser = NOTHING_STORED) -> None:
        """Take in a user's stored views."""
        self._users[user_id] = User(user_id, stored)

    def fold(self, effect: UserEffect) -> None:
        """Add one effect. A view that already holds it (its checkpoint was lost) stays as it is."""
        user = self._users[effect.user_id]
        if effect.position > user.balances.position:
            user.balances.add(effect)
            self._touched[effect.user_id] = None
            if effect.order is not None:
                user.orders.add(effect, effect.order)
        change = effect.contribution
        if change is not None and effect.position > user.contribution.position:
            add_change(user.contribution, change, effect.position)
            self._touched[effect.user_id] = self._contributed[effect.user_id] = None

    def drain(self) -> Batch:
        """The writes since the last drain, and each touched user's newest state for the feed."""
        batch = Batch()
        for user_id in self._contributed:
            user = self._users[user_id]
            key = views.contribution_key(user_id)
            batch.put((views.CONTRIBUTION_DB, key), encode(user.contribution))
            user.scores.rank_contribution(batch, user.contribution)
        for user_id in self._touched:
            self._drain_user(batch, user_id)
        self._touched.clear()
        self._contributed.clear()
        while len(self._users) > self._cached_max:
            self._users.popitem(last=False)
        return batch

    def _drain_user(self, batch: Batch, user_id: str) -> None:
        user = self._users[user_id]
        self._users.move_to_end(user_id)
        account = user.balances.view()
        batch.put((views.TRADING_DB, views.account_key(user_id)), encode(account))
        user.scores.rank_holdings(batch, account)
        orders, fills = user.orders.drain(batch, user_id)
        if self._quiet:
            return
        whole = AccountPublication(
            account=account, contribution=user.contribution, orders=orders, fills=fills
        )
        batch.publish(Publication(CHANNEL, account.offset, encode(whole), user_id))
