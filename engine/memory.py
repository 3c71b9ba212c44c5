"""The in-memory twin of the log: same contract as PostgreSQL's, nothing survives the process."""

from collections.abc import Iterator, Sequence

from eventsourcing.persistence import StoredEvent

from engine.errors import Fenced, StoreUnavailable
from engine.hashing import GENESIS_HASH, chain
from engine.ports import Head, LoggedEvent


class MemoryStore:
    """What several MemoryLogs (writers) of one ledger share."""

    def __init__(self) -> None:
        self.epoch = 0
        self.events: list[LoggedEvent] = []
        self.versions: set[tuple[str, int]] = set()


class MemoryLog:
    """One writer's view of a MemoryStore."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self._head = Head(0, 0, GENESIS_HASH)

    @property
    def head(self) -> Head:
        return self._head

    def lead(self) -> Head:
        self.store.epoch += 1
        last = self.store.events[-1] if self.store.events else None
        self._head = Head(
            self.store.epoch,
            last.position if last else 0,
            last.hash if last else GENESIS_HASH,
        )
        return self._head

    async def append(self, batch: Sequence[StoredEvent]) -> Head:
        head = self._head
        if head.epoch == 0:
            raise StoreUnavailable("not leading: call lead() first")
        if not batch:
            return head
        if (head.epoch, head.position) != (self.store.epoch, len(self.store.events)):
            raise Fenced(head.epoch, head.position)
        versions = {(str(event.originator_id), event.originator_version) for event in batch}
        if len(versions) < len(batch) or versions & self.store.versions:
            raise StoreUnavailable("a stream version is taken")
        self.store.versions |= versions
        hashes = chain(head.hash, (event.state for event in batch))
        # One list operation: a reader in another thread sees all of the batch or nothing.
        self.store.events += [
            LoggedEvent(position, str(event.originator_id), event.state, digest)
            for position, (event, digest) in enumerate(
                zip(batch, hashes, strict=True), start=head.position + 1
            )
        ]
        last = self.store.events[-1]
        self._head = Head(head.epoch, last.position, last.hash)
        return self._head

    def read(self, after: int = 0) -> Iterator[LoggedEvent]:
        yield from self.store.events[after:]
