"""What a projection's worker needs from the place that holds its views: read back, and commit a
batch.

Implemented by memory.py and redis_views.py; one contract suite tests both.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from projections.batch import Batch, Place


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far the stored views of one partition are.

    position: of the last event folded. sequence: of the last record. offset: its Kafka offset, -1
    before the first. epoch: names this line of views; "" before the first commit.
    """

    position: int = 0
    sequence: int = 0
    offset: int = -1
    epoch: str = ""


class ViewReader(Protocol):
    """Reads of what earlier batches wrote; absent keys and fields are None or missing."""

    async def strings(self, database: int, keys: Sequence[str]) -> list[bytes | None]: ...

    async def fields(self, place: Place, names: Sequence[str]) -> list[bytes | None]: ...

    async def all_fields(self, place: Place) -> dict[str, bytes]: ...


class ViewStore(ViewReader, Protocol):
    """The views of one projection, all its partitions."""

    async def checkpoint(self, partition: int) -> Checkpoint:
        """The stored checkpoint; Checkpoint() when there is none."""
        ...

    async def commit(
        self, partition: int, batch: Batch, *, expected: Checkpoint, reached: Checkpoint
    ) -> Checkpoint | None:
        """Apply batch and checkpoint in one atomic step, if the stored checkpoint is `expected`.

        None when applied; otherwise nothing was written and the checkpoint found is returned.
        Only position and epoch are compared.
        """
        ...
