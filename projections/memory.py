"""The twin of redis_views: the same keys and values in dicts. Serves rebuild, verification and
tests.
"""

from collections.abc import Sequence

from projections.batch import Batch, Place, Publication
from projections.ports import Checkpoint, Held, Moved, Overtaken, Refused, ViewReader
from schemas.views import FEED_KEPT, FIRST_GENERATION

Stored = bytes | dict[str, bytes] | list[bytes] | dict[str, float]


class MemoryGeneration:
    """One generation's views, by (database, key); feeds, by partition, oldest entry first."""

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

    async def hashes(self, database: int, keys: Sequence[str]) -> list[dict[str, bytes]]:
        return [dict(self._fields((database, key))) for key in keys]

    def apply(self, partition: int, batch: Batch) -> None:
        """What the Redis script does, in its order, without a checkpoint."""
        for place in batch.resets:
            self.views.pop(place, None)
        self.views.update(batch.strings)
        for place, changed in batch.fields.items():
            self._put_fields(place, changed)
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
        hashed = self.views.get(place, {})
        assert isinstance(hashed, dict), place
        return hashed  # type: ignore[return-value]  # one kind per key; ranks have their own

    def _put_fields(self, place: Place, changed: dict[str, bytes | None]) -> None:
        hashed = self._fields(place)
        for name, content in changed.items():
            if content is None:
                hashed.pop(name, None)
            else:
                hashed[name] = content
        self._keep(place, hashed)

    def _rank(self, place: Place, scores: dict[str, int | None]) -> None:
        ranked = self.views.get(place, {})
        assert isinstance(ranked, dict), place
        for member, score in scores.items():
            if score is None:
                ranked.pop(member, None)
            else:
                # Redis keeps scores as doubles too: they rank, the view has the exact weight.
                ranked[member] = float(score)  # type: ignore[assignment]
        self._keep(place, ranked)

    def _keep(self, place: Place, collection: Stored) -> None:
        # As in Redis, a collection that lost its last entry is gone.
        if collection:
            self.views[place] = collection
        else:
            self.views.pop(place, None)


class MemoryViews:
    """A ViewStore that follows the live generation.

    generations: by name; made when first written. live: the one that readers see. held: whether a
    rebuild is about to switch. What is read of it without naming a generation is the live one's.
    """

    def __init__(self) -> None:
        self.generations: dict[str, MemoryGeneration] = {}
        self.live = FIRST_GENERATION
        self.held = False

    def generation(self, name: str) -> MemoryGeneration:
        """One generation, whether or not anything was written to it."""
        return self.generations.setdefault(name, MemoryGeneration())

    def pinned(self, generation: str) -> "PinnedMemoryViews":
        """A store of one generation beside the live one."""
        return PinnedMemoryViews(self, generation)

    @property
    def views(self) -> dict[Place, Stored]:
        return self.generation(self.live).views

    @property
    def feeds(self) -> dict[int, list[Publication]]:
        return self.generation(self.live).feeds

    @property
    def checkpoints(self) -> dict[int, Checkpoint]:
        return self.generation(self.live).checkpoints

    def reader(self, generation: str) -> ViewReader:
        return self.generation(generation)

    async def checkpoint(self, partition: int) -> Checkpoint:
        return self.checkpoints.get(partition, Checkpoint(generation=self.live))

    async def commit(
        self, partition: int, batch: Batch, *, expected: Checkpoint, reached: Checkpoint
    ) -> Refused | None:
        if expected.generation != self.live:
            return Moved(self.live)
        if self.held:
            return Held()
        return self.write(partition, batch, expected=expected, reached=reached)

    def write(
        self, partition: int, batch: Batch, *, expected: Checkpoint, reached: Checkpoint
    ) -> Overtaken | None:
        """commit() to expected.generation, whichever is live."""
        assert expected.generation == reached.generation, (expected, reached)
        stored = self.generation(expected.generation)
        found = stored.checkpoints.get(partition, Checkpoint(generation=expected.generation))
        if (found.position, found.epoch) != (expected.position, expected.epoch):
            return Overtaken(found)
        stored.apply(partition, batch)
        stored.checkpoints[partition] = reached
        return None

    async def strings(self, database: int, keys: Sequence[str]) -> list[bytes | None]:
        return await self.generation(self.live).strings(database, keys)

    async def fields(self, place: Place, names: Sequence[str]) -> list[bytes | None]:
        return await self.generation(self.live).fields(place, names)

    async def all_fields(self, place: Place) -> dict[str, bytes]:
        return await self.generation(self.live).all_fields(place)

    async def hashes(self, database: int, keys: Sequence[str]) -> list[dict[str, bytes]]:
        return await self.generation(self.live).hashes(database, keys)

    def apply(self, partition: int, batch: Batch) -> None:
        self.generation(self.live).apply(partition, batch)


class PinnedMemoryViews:
    """A ViewStore of one generation of the twin, whatever readers see."""

    def __init__(self, twin: MemoryViews, generation: str) -> None:
        self._twin = twin
        self._generation = generation

    def reader(self, generation: str) -> ViewReader:
        return self._twin.reader(generation)

    async def checkpoint(self, partition: int) -> Checkpoint:
        stored = self._twin.generation(self._generation).checkpoints
        return stored.get(partition, Checkpoint(generation=self._generation))

    async def commit(
        self, partition: int, batch: Batch, *, expected: Checkpoint, reached: Checkpoint
    ) -> Refused | None:
        assert expected.generation == self._generation, (expected, self._generation)
        return self._twin.write(partition, batch, expected=expected, reached=reached)
