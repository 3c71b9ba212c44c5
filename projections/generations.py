"""What a rebuild needs of one projection's store: a generation beside the live one, comparison,
switch.

Implemented for Redis by redis_generations.py and for the SQL history by its own store; driven by
rebuild.py, which knows neither.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from projections.differences import Difference
from projections.ports import Checkpoint, ViewStore

State = Literal["building", "built", "live", "previous", "dropped"]
# Brings the generation that is being built up to exactly these positions, by partition.
CatchUp = Callable[[Sequence[int]], Awaitable[None]]


class GenerationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a generation beside its views. Times: ISO 8601; "" if not yet.

    source: what it is built from. switched_at: when readers last came to it, or left it.
    """

    state: State
    started_at: str = ""
    source: str = ""
    switched_at: str = ""


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of a projection's views. checkpoints: by partition."""

    name: str
    state: State
    checkpoints: tuple[Checkpoint, ...]
    record: GenerationRecord = GenerationRecord(state="live")


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What a generation takes up. entries: keys or rows. bytes: about, with indexes."""

    entries: int
    bytes: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two generations at the same positions, by partition. Digests: hex of 32 bytes.

    entries: compared. differences: key by key, at most as many as asked for; differing: all of
    them. is_compared: not, if the live one was behind what the new one holds (lost views); then
    old_digest is "". switched: whether readers see the new one. held_ms: for how long nothing was
    written to the live one.
    """

    positions: tuple[int, ...]
    old_digest: str
    new_digest: str
    entries: int
    differing: int
    differences: tuple[Difference, ...]
    is_compared: bool = True
    switched: bool = False
    held_ms: float = 0.0


class GenerationStore(Protocol):
    """The generations of one projection. Every method raises ViewsUnavailable if the store does
    not answer.
    """

    async def generations(self) -> list[Generation]:
        """All that exist, oldest first; exactly one of them is live."""
        ...

    async def begin(self, source: str = "") -> str:
        """The name of the unfinished generation, or of a new one; drops what was kept before the
        previous one. source: what it is built from. Raises RebuildUnderWay if another process is
        at it.
        """
        ...

    def store(self, generation: str) -> ViewStore[Any]:
        """A store pinned to one generation."""
        ...

    async def compare(
        self, generation: str, catch_up: CatchUp, *, switch: Literal["never", "if_equal", "always"]
    ) -> Comparison:
        """Compare with the live generation at the same positions, and switch if wished.

        The generation may not be ahead of the live one, unless that was lost: then it is switched
        to without being compared. Raises RebuildRefused when that cannot be done.
        """
        ...

    async def close(self) -> None:
        """Let others at it."""
        ...

    async def size(self, generation: str) -> Size:
        """What it takes up in the store, estimated."""
        ...

    async def drop(self, generation: str) -> int:
        """Delete a generation that is not live; how many keys or rows that were."""
        ...
