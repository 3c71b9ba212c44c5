"""The one writer: ticks and commands in, decided one after another, committed in groups.

Order within a batch: the missing seconds, then commands; a command of second t is decided only
after t's tick. Answers, refusals too, leave only after everything decided before them is on disk.
Any fault of the log ends the process: memory may be ahead of the log then, and a restart folds the
truth again.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from eventsourcing.persistence import StoredEvent

from domain import ledger
from domain.state import LedgerState
from engine.errors import ClockIsWall, LogCorrupt
from engine.hashing import GENESIS_HASH, chain
from engine.ports import Clock, EventLog, Head
from schemas import commands, frames
from schemas.codecs import decode_event, encode_event, topic_of
from schemas.events import EpochStarted, LedgerEvent
from schemas.genesis import Genesis
from schemas.rejections import Rejection, RejectionCode
from schemas.streams import stream_id

INBOX_COMMANDS_MAX = 20_000
BATCH_EVENTS_MAX = 1_000
SECOND_NS = 1_000_000_000

Outcome = tuple[int, tuple[bytes, ...]] | Rejection
"""(last position, stored payloads) of an accepted command, or the refusal."""
Answer = Callable[[Outcome], None]


class Pending(NamedTuple):
    command: commands.LedgerCommand | frames.AdvanceClock
    answer: Answer


class Batch:
    """What one commit appends, and whom it answers."""

    __slots__ = ("answers", "events")

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.answers: list[tuple[Answer, Outcome]] = []


class Sequencer:
    """Owns the state; nobody else reads or changes it while it runs."""

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self.log = log
        self.clock = clock
        self.state = LedgerState()
        self._versions: dict[str, int] = {}
        self._inbox: deque[Pending] = deque()
        self._work = asyncio.Event()
        self._stopping = False

    # -- start --------------------------------------------------------------------------------

    async def start(self, genesis: Genesis) -> None:
        """Take the lead, fold the log, mark the epoch; open the ledger if the log is empty.

        Raises LogCorrupt if a stored event contradicts the hash chain or cannot be read, or if the
        log ends elsewhere than its head says.
        """
        head = self.log.lead()
        self._replay(head)
        started_at_ns = self.clock.now_ns()
        if head.position == 0:
            second = genesis.genesis_second
            second = started_at_ns // SECOND_NS if second is None else second
            self.state.at_ns = second * SECOND_NS
        self._resume_clock()
        batch = Batch()
        epoch = EpochStarted(at_ns=self.state.at_ns, epoch=head.epoch, started_at_ns=started_at_ns)
        self._take(batch, (epoch,))
        if self.state.mining is None:
            for command in genesis.commands(self.state.at_ns // SECOND_NS):
                decided = ledger.decide(command, self.state, self.state.at_ns)
                if isinstance(decided, Rejection):
                    raise LogCorrupt(1, f"genesis is refused: {decided}")
                self._take(batch, decided)
        behind = True
        while behind:
            behind = self._tick(batch, self.clock.now_ns())
            await self._commit(batch)
            batch = Batch()

    def _resume_clock(self) -> None:
        # A virtual clock goes on where the log ends; the wall clock needs no telling.
        try:
            self.clock.advance_to(self.state.at_ns)
        except ClockIsWall:
            return

    def _replay(self, head: Head) -> None:
        previous = GENESIS_HASH
        for logged in self.log.read():
            (expected,) = chain(previous, (logged.payload,))
            if logged.hash != expected:
                raise LogCorrupt(logged.position, "its hash does not follow from the one before")
            try:
                event = decode_event(logged.payload)
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                raise LogCorrupt(logged.position, f"cannot be read: {exc}") from exc
            ledger.evolve(self.state, event)
            self._versions[logged.stream_id] = self._versions.get(logged.stream_id, 0) + 1
            previous = expected
        if previous != head.hash:
            raise LogCorrupt(head.position, "the log does not end where its head says")

    # -- run ----------------------------------------------------------------------------------

    def submit(self, pending: Pending) -> None:
        """Queue a command; it is answered once, in the log's order.

        A full inbox refuses at once.
        """
        if len(self._inbox) >= INBOX_COMMANDS_MAX:
            pending.answer(
                Rejection(RejectionCode.OVERLOADED, {"commands_waiting": len(self._inbox)})
            )
            return
        self._inbox.append(pending)
        self._work.set()

    def stop(self) -> None:
        """Finish the batch under way, leave the rest unanswered (its senders ask again)."""
        self._stopping = True
        self._work.set()

    async def run(self) -> None:
        """Until stop(). Raises what the log raises: the process must end then."""
        while not self._stopping:
            batch = Batch()
            behind = self._tick(batch, self.clock.now_ns())
            if not behind:
                self._decide(batch)
            if batch.events or batch.answers:
                await self._commit(batch)
            elif not self._inbox:
                await self._wait()

    async def _wait(self) -> None:
        self._work.clear()
        try:
            await asyncio.wait_for(self._work.wait(), self.clock.seconds_to_next_tick())
        except TimeoutError:
            return

    def _tick(self, batch: Batch, now_ns: int) -> bool:
        """Append the seconds that have begun; True if the batch is full before they are all in."""
        mining = self.state.mining
        assert mining is not None
        now_second = now_ns // SECOND_NS
        while mining.last_second < now_second:
            if len(batch.events) >= BATCH_EVENTS_MAX:
                return True
            self._store(batch, ledger.tick(self.state, mining.last_second + 1))
        return False

    def _decide(self, batch: Batch) -> None:
        inbox = self._inbox
        while inbox and len(batch.events) < BATCH_EVENTS_MAX:
            # One reading for both, or a second that begins in between is decided before its tick.
            now_ns = self.clock.now_ns()
            if self._tick(batch, now_ns):
                return
            now_ns = max(self.state.at_ns, now_ns)
            command, answer = inbox.popleft()
            if isinstance(command, frames.AdvanceClock):
                batch.answers.append((answer, self._advance(command)))
                if self._tick(batch, self.clock.now_ns()):
                    return
            else:
                decided = ledger.decide(command, self.state, now_ns)
                batch.answers.append((answer, self._outcome(batch, decided)))

    def _advance(self, command: frames.AdvanceClock) -> Outcome:
        try:
            self.clock.advance_to(command.to_ns)
        except ClockIsWall as exc:
            return Rejection(RejectionCode.INVALID_ORDER, {"clock": str(exc)})
        return self.log.head.position, ()

    def _outcome(self, batch: Batch, decided: ledger.Decision) -> Outcome:
        if isinstance(decided, Rejection):
            return decided
        payloads = self._take(batch, decided)
        return self.log.head.position + len(batch.events), payloads

    def _take(self, batch: Batch, happened: tuple[LedgerEvent, ...]) -> tuple[bytes, ...]:
        for event in happened:
            ledger.evolve(self.state, event)
        return self._store(batch, happened)

    def _store(self, batch: Batch, happened: tuple[LedgerEvent, ...]) -> tuple[bytes, ...]:
        payloads = []
        for event in happened:
            stream = stream_id(event)
            version = self._versions[stream] = self._versions.get(stream, 0) + 1
            payload = encode_event(event)
            batch.events.append(StoredEvent(stream, version, topic_of(event), payload))
            payloads.append(payload)
        return tuple(payloads)

    async def _commit(self, batch: Batch) -> None:
        if batch.events:
            await self.log.append(batch.events)
        for answer, outcome in batch.answers:
            answer(outcome)
