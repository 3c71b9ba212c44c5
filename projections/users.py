"""The projection `accounts`: balances and contributions of the users of one partition of
ledger.postings.

Users are folded one by one, so more partitions and workers are more capacity. Each user's views
are given in before the first effect that touches them; those not needed lately are forgotten.
"""

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from projections.balances import UserBalances
from projections.batch import Batch, Publication
from projections.contributions import add_change
from schemas import views
from schemas.effects import UserEffect
from schemas.views import AccountPublication, AccountView, ContributionView

USERS_CACHED_MAX = 50_000
CHANNEL = "account"

encode = msgspec.json.Encoder().encode


class User:
    """Both views of one user, as folded so far."""

    __slots__ = ("balances", "contribution")

    def __init__(
        self, user_id: str, account: AccountView | None, contribution: ContributionView | None
    ) -> None:
        self.balances = UserBalances(user_id, account)
        self.contribution = contribution or ContributionView(user_id=user_id)


class UsersFold:
    """cached_max: users kept between batches; those of the current batch always are."""

    __slots__ = ("_cached_max", "_contributed", "_touched", "_users")

    def __init__(self, *, cached_max: int = USERS_CACHED_MAX) -> None:
        self._cached_max = cached_max
        self._users: OrderedDict[str, User] = OrderedDict()
        # dicts, because the order of publications must be the log's
        self._touched: dict[str, None] = {}
        self._contributed: dict[str, None] = {}

    def unknown(self, user_ids: Iterable[str]) -> list[str]:
        """Those whose views must be given by adopt() before their effects are folded."""
        return [user_id for user_id in dict.fromkeys(user_ids) if user_id not in self._users]

    def adopt(
        self, user_id: str, account: AccountView | None, contribution: ContributionView | None
    ) -> None:
        """Take in a user's stored views; None if there are none yet."""
        self._users[user_id] = User(user_id, account, contribution)

    def fold(self, effect: UserEffect) -> None:
        """Add one effect. A view that already holds it (its checkpoint was lost) stays as it is."""
        user = self._users[effect.user_id]
        if effect.position > user.balances.position:
            user.balances.add(effect)
            self._touched[effect.user_id] = None
        change = effect.contribution
        if change is not None and effect.position > user.contribution.position:
            add_change(user.contribution, change, effect.position)
            self._touched[effect.user_id] = self._contributed[effect.user_id] = None

    def drain(self) -> Batch:
        """The writes since the last drain, and each touched user's newest state for the feed."""
        batch = Batch()
        for user_id in self._touched:
            user = self._users[user_id]
            self._users.move_to_end(user_id)
            account = user.balances.view()
            batch.put((views.TRADING_DB, views.account_key(user_id)), encode(account))
            whole = AccountPublication(account=account, contribution=user.contribution)
            batch.publish(Publication(CHANNEL, account.offset, encode(whole), user_id))
        for user_id in self._contributed:
            contribution = self._users[user_id].contribution
            key = views.contribution_key(user_id)
            batch.put((views.CONTRIBUTION_DB, key), encode(contribution))
            place = (views.CONTRIBUTION_DB, views.WEIGHTS_KEY)
            batch.rank(place, user_id, contribution.weight)
        self._touched.clear()
        self._contributed.clear()
        while len(self._users) > self._cached_max:
            self._users.popitem(last=False)
        return batch
