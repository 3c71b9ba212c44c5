"""The twin of redis_views: the same keys and values in dicts. Serves rebuild, verification and
tests.
"""

from collections.abc import Sequence

from projections.batch import Batch, Place, Publication
from projections.ports import Checkpoint
from schemas.views import FEED_KEPT

Stored = bytes | dict[str, bytes] | list[bytes] | dict[str, float]


class MemoryViews:
    """A ViewStore. views: by (database, key). feeds: by partition, oldest entry first."""

    def __init__(self) -> None:
        self.views: dict[Place, Stored] = {}
        self.feeds: dict[int, list[Publication]] = {}
        self.checkpoints: dict[int, Checkpoint] = {}

    async def strings(self, database: int, keys: Sequence[str]) -> list[bytes | None]:
        return [self._string((database, key)) for key in keys]

    async def fields(self, place: Place, names: Sequence[str]) -> list[bytes | None]:
        hashed = self._fields(place)
        return [hashed.get(name) for name in names]

    async def all_fields(self, place: Place) -> dict[str, bytes]:
        return dict(self._fields(place))

    async def checkpoint(self, partition: int) -> Checkpoint:
        return self.checkpoints.get(partition, Checkpoint())

    async def commit(
        self, partition: int, batch: Batch, *, expected: Checkpoint, reached: Checkpoint
    ) -> Checkpoint | None:
        found = self.checkpoints.get(partition, Checkpoint())
        if (found.position, found.epoch) != (expected.position, expected.epoch):
            return found
        self.apply(partition, batch)
        self.checkpoints[partition] = reached
        return None

    def apply(self, partition: int, batch: Batch) -> None:
        """What the Redis script does, in its order, without a checkpoint."""
        for place in batch.resets:
            self.views.pop(place, None)
        self.views.update(batch.strings)
        for place, changed in batch.fields.items():
            self._fields(place).update(changed)
        for place, rows in batch.rows.items():
            kept = batch.rows_kept[place]
            listed = self.views.setdefault(place, [])
            assert isinstance(listed, list), place
            listed[:0] = reversed(rows)
            del listed[kept:]
        for place, scores in batch.ranks.items():
            self._rank(place, scores)
        feed = self.feeds.setdefault(partition, [])
        feed.extend(batch.publications)
        del feed[:-FEED_KEPT]

    def _string(self, place: Place) -> bytes | None:
        stored = self.views.get(place)
        assert stored is None or isinstance(stored, bytes), place
        return stored

    def _fields(self, place: Place) -> dict[str, bytes]:
        hashed = self.views.setdefault(place, {})
        assert isinstance(hashed, dict), place
        return hashed  # type: ignore[return-value]  # one kind per key; ranks have their own

    def _rank(self, place: Place, scores: dict[str, int | None]) -> None:
        ranked = self.views.setdefault(place, {})
        assert isinstance(ranked, dict), place
        for member, score in scores.items():
            if score is None:
                ranked.pop(member, None)
            else:
                # Redis keeps scores as doubles too: they rank, the view has the exact weight.
                ranked[member] = float(score)  # type: ignore[assignment]
        if not ranked:
            del self.views[place]
