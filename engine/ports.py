"""What the engine needs from outside, and the shapes that cross these seams."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from eventsourcing.persistence import StoredEvent


class Head(NamedTuple):
    """End of the log: the leading epoch, the last position (0 if empty) and its hash."""

    epoch: int
    position: int
    hash: bytes


class LoggedEvent(NamedTuple):
    """One stored event as read back. payload: the exact stored bytes."""

    position: int
    stream_id: str
    payload: bytes
    hash: bytes


class EventLog(Protocol):
    """The append-only log with dense positions and one leading writer."""

    @property
    def head(self) -> Head:
        """As this writer knows it; valid after lead()."""
        ...

    def lead(self) -> Head:
        """Take the lead: waits for a batch in flight, bumps the epoch, learns the true head."""
        ...

    async def append(self, batch: Sequence[StoredEvent]) -> Head:
        """Append in one atomic, durable step and return the new head.

        Raises Fenced if another writer leads (nothing appended); StoreUnavailable if the outcome
        is unknown. Neither may be retried without lead().
        """
        ...

    def read(self, after: int = 0) -> Iterator[LoggedEvent]:
        """Every event after a position, in order, streamed."""
        ...


class Clock(Protocol):
    """Time as a port: the wall clock, or a virtual one that is advanced by command."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC; never less than before."""
        ...

    def seconds_to_next_tick(self) -> float | None:
        """Real seconds until the next second begins; None if time does not pass by itself."""
        ...

    def advance_to(self, to_ns: int) -> None:
        """Move a virtual clock. Raises ClockIsWall on the wall clock."""
        ...
