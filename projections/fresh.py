"""A fresh fold: (position, event) from any source into the very keys and values that Redis would
hold.

The measure of every other way to build views: tests compare them with it.
"""

from collections.abc import Iterable

from domain.effects import effects_of
from projections.folders import EventFold
from projections.markets import MarketsFold
from projections.memory import MemoryViews
from projections.pool import PoolFold
from projections.users import UsersFold
from schemas import views
from schemas.effects import partition_of
from schemas.events import LedgerEvent
from schemas.records import POSTINGS_PARTITIONS

DRAIN_EVENTS = 5_000


class FreshFold:
    """Folds events of one projection in the log's order; finish() gives the views.

    partition_count: of ledger.postings; projections of ledger.events have one.
    """

    def __init__(self, projection: str, *, partition_count: int = POSTINGS_PARTITIONS) -> None:
        self._views = MemoryViews()
        self._partition_count = partition_count
        self._events: EventFold | None = None
        self._users: list[UsersFold] = []
        if projection == views.ACCOUNTS:
            # Everyone stays: memory is the store, so nobody could be read back.
            everyone = 1 << 62
            self._users = [UsersFold(cached_max=everyone) for _ in range(partition_count)]
        else:
            self._events = MarketsFold() if projection == views.MARKET else PoolFold()
        self.position = 0

    def fold(self, position: int, event: LedgerEvent) -> None:
        """Add one event; position must follow the last one's."""
        assert position == self.position + 1, (position, self.position)
        self.position = position
        if self._events is not None:
            self._events.fold(position, event)
        else:
            self._fold_effects(position, event)
        if position % DRAIN_EVENTS == 0:
            self._drain()

    def fold_all(self, log: Iterable[tuple[int, LedgerEvent]]) -> MemoryViews:
        """Fold everything a source gives and finish."""
        for position, event in log:
            self.fold(position, event)
        return self.finish()

    def finish(self) -> MemoryViews:
        """The views up to the last event; folding may go on afterwards."""
        self._drain()
        return self._views

    def _fold_effects(self, position: int, event: LedgerEvent) -> None:
        for effect in effects_of(position, event):
            users = self._users[partition_of(effect.user_id, self._partition_count)]
            for user_id in users.unknown([effect.user_id]):
                users.adopt(user_id)
            users.fold(effect)

    def _drain(self) -> None:
        if self._events is not None:
            self._views.apply(0, self._events.drain())
        for partition, users in enumerate(self._users):
            self._views.apply(partition, users.drain())
