"""The twin of store.py: the same rows in lists. Serves verification and tests.

Also the fresh fold: the measure of every other way to build the history.
"""

from collections.abc import Iterable, Sequence

import msgspec

from projections.batch import Place
from projections.history.fold import HistoryBatch, HistoryFold, contributors
from projections.history.folder import STATE_PLACE, WEIGHTS_PLACE
from projections.ports import Checkpoint, Moved, Overtaken, Refused
from schemas.deep_history import WeightChange
from schemas.events import LedgerEvent
from schemas.views import FIRST_GENERATION

_encode = msgspec.json.Encoder().encode


def fresh_history(log: Iterable[tuple[int, LedgerEvent]]) -> HistoryBatch:
    """All rows of a log, in its order."""
    fold = HistoryFold(cached_max=1 << 62)
    for position, event in log:
        for user_id in fold.unknown(contributors([(position, event)])):
            fold.adopt(user_id, None)
        fold.fold(position, event)
    return fold.drain()


class MemoryRows:
    """One generation's rows and checkpoint; a ViewReader of them."""

    def __init__(self, generation: str) -> None:
        self.checkpoint = Checkpoint(generation=generation)
        self.rows = HistoryBatch()
        self._newest: dict[str, WeightChange] = {}

    def append(self, batch: HistoryBatch) -> None:
        self.rows.extend(batch)
        for change in batch.weights:
            self._newest[change.user_id] = change

    async def strings(self, database: int, keys: Sequence[str]) -> list[bytes | None]:
        assert (database, *keys) == STATE_PLACE, keys
        return [self.rows.state or None]

    async def fields(self, place: Place, names: Sequence[str]) -> list[bytes | None]:
        assert place == WEIGHTS_PLACE, place
        found = [self._newest.get(user_id) for user_id in names]
        return [None if change is None else _encode(change) for change in found]

    async def all_fields(self, place: Place) -> dict[str, bytes]:
        return {}

    async def hashes(self, database: int, keys: Sequence[str]) -> list[dict[str, bytes]]:
        return [{} for _ in keys]


class MemoryHistory:
    """A ViewStore[HistoryBatch]. live: the generation that readers see."""

    def __init__(self) -> None:
        self.live = FIRST_GENERATION
        self.generations = {FIRST_GENERATION: MemoryRows(FIRST_GENERATION)}
        self._pinned: str | None = None

    def pinned(self, generation: str) -> "MemoryHistory":
        """A store of one generation, which is made if it is missing."""
        self.generations.setdefault(generation, MemoryRows(generation))
        store = MemoryHistory()
        store.generations, store._pinned = self.generations, generation
        return store

    @property
    def rows(self) -> HistoryBatch:
        return self.generations[self._pinned or self.live].rows

    async def checkpoint(self, partition: int) -> Checkpoint:
        return self.generations[self._pinned or self.live].checkpoint

    def reader(self, generation: str) -> MemoryRows:
        return self.generations[generation]

    async def commit(
        self, partition: int, batch: HistoryBatch, *, expected: Checkpoint, reached: Checkpoint
    ) -> Refused | None:
        if self._pinned is None and expected.generation != self.live:
            return Moved(self.live)
        stored = self.generations[expected.generation]
        found = stored.checkpoint
        if (found.position, found.epoch) != (expected.position, expected.epoch):
            return Overtaken(found)
        stored.append(batch)
        stored.checkpoint = reached
        return None
