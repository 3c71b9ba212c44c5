"""What a projection's worker needs from the place that holds its views: read back, and commit a
batch.

Implemented by memory.py and redis_views.py (of Batch), and by the SQL history (of its own batch);
one contract suite tests those that hold the same.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec

from projections.batch import Place
from schemas.views import FIRST_GENERATION

BatchT_contra = TypeVar("BatchT_contra", contravariant=True)


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far the stored views of one partition are.

    position: of the last event folded. sequence: of the last record. offset: its Kafka offset, -1
    before the first. epoch: names this line of views; "" before the first commit.
    generation: of the views that this is about.
    """

    position: int = 0
    sequence: int = 0
    offset: int = -1
    epoch: str = ""
    generation: str = FIRST_GENERATION


class Overtaken(msgspec.Struct, frozen=True):
    """The stored checkpoint is not the expected one: another worker was first, or the store went
    back.
    """

    found: Checkpoint


class Held(msgspec.Struct, frozen=True):
    """A rebuild is about to switch: nothing may be written for some milliseconds. Try again."""


class Moved(msgspec.Struct, frozen=True):
    """Readers see another generation now: start again from that one's checkpoint."""

    generation: str


Refused = Overtaken | Held | Moved


class ViewReader(Protocol):
    """Reads of what earlier batches wrote; absent keys and fields are None or missing."""

    async def strings(self, database: int, keys: Sequence[str]) -> list[bytes | None]: ...

    async def fields(self, place: Place, names: Sequence[str]) -> list[bytes | None]: ...

    async def all_fields(self, place: Place) -> dict[str, bytes]: ...

    async def hashes(self, database: int, keys: Sequence[str]) -> list[dict[str, bytes]]:
        """All fields of each, in one round trip."""
        ...


class ViewStore(Protocol[BatchT_contra]):
    """The views of one projection, all its partitions.

    A live store follows the generation that readers see. A pinned one writes one generation beside
    it, whatever readers see, and is never held.
    """

    async def checkpoint(self, partition: int) -> Checkpoint:
        """The stored checkpoint; an empty one when there is none. generation: the live one, or
        the one this store is pinned to.
        """
        ...

    def reader(self, generation: str) -> ViewReader:
        """Reads of one generation's views."""
        ...

    async def commit(
        self, partition: int, batch: BatchT_contra, *, expected: Checkpoint, reached: Checkpoint
    ) -> Refused | None:
        """Apply batch and checkpoint in one atomic step to expected.generation, if the stored
        checkpoint is `expected` and a live store's generation is still the live one.

        None when applied; otherwise nothing was written. Of checkpoints only position and epoch
        are compared.
        """
        ...
