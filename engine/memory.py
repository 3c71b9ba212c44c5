"""The in-memory twins of the log, its tail and the snapshots: PostgreSQL's contracts, nothing kept.

Several logs (writers) and tails share one MemoryStore, also from several threads and event loops.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from engine.errors import Fenced, StoreUnavailable
from engine.hashing import GENESIS_HASH, chain
from engine.ports import AnswerBlock, Head, LoggedEvent, NewEvent, StoredSnapshot
from schemas.history import stream_key

SNAPSHOTS_KEPT = 3


class MemoryStore:
    """What is stored. history: (schemas.history key, position), the streams' keys included."""

    def __init__(self) -> None:
        self.epoch = 0
        self.address = ""
        self.events: list[LoggedEvent] = []
        self.history: list[tuple[int, int]] = []
        self.answers: list[AnswerBlock] = []
        self.leader: MemoryLog | None = None
        self.changes = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def head(self) -> Head:
        last = self.events[-1] if self.events else None
        return Head(self.epoch, last.position if last else 0, last.hash if last else GENESIS_HASH)

    def disconnect_leader(self) -> None:
        """What PostgreSQL does to an elected writer that it cannot hear."""
        if self.leader is not None:
            self.leader.close_writer()

    async def changed(self, seen: int, timeout: float | None = None) -> int:
        """Until `changes` is not `seen`, or timeout seconds; return it."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        if self.changes == seen:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waiting, timeout)
        return self.changes

    def wake(self) -> None:
        """Something was appended, or the lead is free."""
        self.changes += 1
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.get_loop().is_closed():
                one.get_loop().call_soon_threadsafe(_settle, one)


class MemoryLog:
    """One writer's view of a MemoryStore."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self._head = Head(0, 0, GENESIS_HASH)
        self._is_open = False

    @property
    def head(self) -> Head:
        return self._head

    def lead(self) -> Head:
        self.close_writer()
        return self._seize("")

    async def elect(self, address: str) -> Head:
        self.close_writer()
        seen = self.store.changes
        while self.store.leader is not None:
            seen = await self.store.changed(seen)
        self.store.leader = self
        return self._seize(address)

    def close_writer(self) -> None:
        self._is_open = False
        if self.store.leader is self:
            self.store.leader = None
            self.store.wake()

    def _seize(self, address: str) -> Head:
        self._is_open = True
        self.store.epoch += 1
        self.store.address = address
        self._head = self.store.head
        return self._head

    async def append(
        self,
        events: Sequence[NewEvent],
        history: Sequence[tuple[int, int]] = (),
        answers: AnswerBlock | None = None,
    ) -> Head:
        head, store = self._head, self.store
        if not self._is_open:
            raise StoreUnavailable("not leading: call elect() or lead() first")
        if (head.epoch, head.position) != (store.epoch, len(store.events)):
            raise Fenced(head.epoch, head.position)
        if answers is not None and any(answers.id == block.id for block in store.answers):
            # PostgreSQL's writer gives up its connection after a fault, and the lead with it.
            self.close_writer()
            raise StoreUnavailable("an answer block's id is taken")
        hashes = chain(head.hash, (event.state for event in events))
        added = [
            LoggedEvent(position, str(event.originator_id), event.state, digest)
            for position, (event, digest) in enumerate(
                zip(events, hashes, strict=True), start=head.position + 1
            )
        ]
        # One list operation: a reader in another thread sees all of the batch or nothing.
        store.events += added
        store.history += [
            *((stream_key(event.stream_id), event.position) for event in added),
            *((key, head.position + 1 + index) for key, index in history),
        ]
        store.answers += () if answers is None else (answers,)
        if events or answers is not None:
            store.wake()
        self._head = store.head
        return self._head

    def read(self, after: int = 0) -> Iterator[LoggedEvent]:
        yield from self.store.events[after:]


class MemoryTail:
    """engine.ports.LogTail of a MemoryStore."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._changes_seen = store.changes

    async def page(self, after: int, limit: int) -> Sequence[LoggedEvent]:
        return self._store.events[after : after + limit]

    async def answers_page(self, after_id: int, limit: int) -> Sequence[AnswerBlock]:
        blocks = [block for block in self._store.answers if block.id > after_id]
        return sorted(blocks)[:limit]

    async def head(self) -> Head:
        return self._store.head

    async def leader(self) -> str:
        return self._store.address

    async def forget_answers(self, before_ns: int) -> None:
        self._store.answers = [b for b in self._store.answers if b.at_ns >= before_ns]

    async def wait(self, timeout: float) -> None:
        self._changes_seen = await self._store.changed(self._changes_seen, timeout)


class MemorySnapshots:
    """engine.ports.SnapshotStore; keeps the newest SNAPSHOTS_KEPT."""

    def __init__(self) -> None:
        self.kept: list[StoredSnapshot] = []

    def snapshots(self) -> Iterator[StoredSnapshot]:
        yield from sorted(self.kept, key=_age, reverse=True)

    def save_snapshot(self, snapshot: StoredSnapshot) -> None:
        if all(_age(one) != _age(snapshot) for one in self.kept):
            self.kept = sorted([*self.kept, snapshot], key=_age)[-SNAPSHOTS_KEPT:]


def _age(snapshot: StoredSnapshot) -> tuple[int, int]:
    return snapshot.position, snapshot.version


def _settle(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)
