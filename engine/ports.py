"""What the engine needs from outside, and the shapes that cross these seams."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol
from uuid import UUID


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


class NewEvent(Protocol):
    """What is appended; eventsourcing's StoredEvent has it. state: the payload."""

    @property
    def originator_id(self) -> UUID | str: ...
    @property
    def originator_version(self) -> int: ...
    @property
    def topic(self) -> str: ...
    @property
    def state(self) -> bytes: ...


class AnswerBlock(NamedTuple):
    """First answers of one batch. id: dense, given by the writer. records: engine.answers'."""

    id: int
    at_ns: int
    records: bytes


class EventLog(Protocol):
    """The append-only log with dense positions and one leading writer."""

    @property
    def head(self) -> Head:
        """As this writer knows it; valid after lead() or elect()."""
        ...

    def lead(self) -> Head:
        """Seize the lead at once: waits for a batch in flight, bumps the epoch, learns the true
        head. Whoever led is fenced from now on.
        """
        ...

    async def elect(self, address: str) -> Head:
        """Wait until no other live writer leads, then lead; `address` is where we take commands.

        Cancelling stops waiting. Raises StoreUnavailable if the store does not answer.
        """
        ...

    async def append(
        self,
        events: Sequence[NewEvent],
        history: Sequence[tuple[int, int]] = (),
        answers: AnswerBlock | None = None,
    ) -> Head:
        """Append in one atomic, durable step and return the new head.

        history: (schemas.history key, index in `events`). Without events and answers it only makes
        sure that this writer still leads, and keeps it so.
        Raises Fenced if another writer leads (nothing appended); StoreUnavailable if the outcome
        is unknown. Neither may be retried without lead() or elect().
        """
        ...

    def read(self, after: int = 0) -> Iterator[LoggedEvent]:
        """Every event after a position, in order, streamed."""
        ...

    def close_writer(self) -> None:
        """Give up the lead; the epoch stays taken."""
        ...


class LogTail(Protocol):
    """Reading side of the log: follows it while it grows."""

    async def page(self, after: int, limit: int) -> Sequence[LoggedEvent]:
        """The next events after a position, in order, none if there are none yet."""
        ...

    async def answers_page(self, after_id: int, limit: int) -> Sequence[AnswerBlock]:
        """The next answer blocks after an id, oldest first."""
        ...

    async def head(self) -> Head:
        """As stored, whoever leads."""
        ...

    async def leader(self) -> str:
        """The address that the last elected writer gave; "" if there was none."""
        ...

    async def forget_answers(self, before_ns: int) -> None:
        """Delete the answer blocks older than that; needs the writer's role."""
        ...

    async def wait(self, timeout: float) -> None:
        """Until the log may have grown, or timeout seconds."""
        ...


class Clock(Protocol):
    """Time as a port: the wall clock, or a virtual one that is advanced by command."""

    @property
    def leap_ns(self) -> int:
        """How far the machine's clock is from this one; 0 unless a leap is being ignored."""
        ...

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC; never less than before."""
        ...

    def seconds_to_next_tick(self) -> float | None:
        """Real seconds until the next second begins; None if time does not pass by itself."""
        ...

    def advance_to(self, to_ns: int) -> None:
        """Move a virtual clock. Raises ClockIsWall on the wall clock."""
        ...


class StoredSnapshot(NamedTuple):
    """A snapshot as stored, not yet trusted. body: compressed; digest: its SHA-256.

    log_hash: the log's hash at `position`. version: of the fold that made it.
    """

    position: int
    version: int
    log_hash: bytes
    digest: bytes
    body: bytes


class SnapshotStore(Protocol):
    """Where snapshots are kept, newest first."""

    def snapshots(self) -> Iterator[StoredSnapshot]:
        """Newest first; read one at a time."""
        ...

    def save_snapshot(self, snapshot: StoredSnapshot) -> None:
        """Keep one more, and the few newest before it."""
        ...


class Figures(Protocol):
    """Where the engine tells how it is doing: once per batch, never per command."""

    def committed(self, *, events: int, seconds: float, outcomes: Mapping[str, int]) -> None:
        """A batch is durable and answered. outcomes: commands by code, "accepted" among them."""
        ...

    def answered(self, outcomes: Mapping[str, int]) -> None:
        """Commands answered without a commit of their own: "repeated", "overloaded"."""
        ...

    def ticked(self, lateness_s: float) -> None:
        """A second was allocated so long after it began."""
        ...

    def leads(self, epoch: int, position: int) -> None:
        """This engine leads from here on."""
        ...

    def settled(self, result: Literal["committed", "lost", "fenced"]) -> None:
        """A commit's unknown outcome was found out; a lost one has been sent again since."""
        ...

    def standby(self, position: int, lag: int) -> None:
        """It folds the log while another leads; lag: events it has not folded yet."""
        ...
