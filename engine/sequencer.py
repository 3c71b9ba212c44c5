"""The one writer: ticks and commands in, decided one after another, committed in groups.

Order within a batch: the missing seconds, then commands; a command of second t is decided only
after t's tick. The next batch is decided while the last one commits; one commit is under way at a
time. Answers, refusals too, leave only after their batch has passed the log's fence: memory may be
ahead of the log, what has been said never is.
"""

import asyncio
import hashlib
import logging
import time
from collections import Counter, deque
from typing import NamedTuple

import msgspec

from domain import ledger
from domain.snapshot import dump
from domain.state import LedgerState
from engine import answers
from engine.errors import ClockIsWall, LogCorrupt
from engine.fold import LedgerFold
from engine.outcomes import Digest, Outcome, Pending, Stored, code_of
from engine.ports import AnswerBlock, Clock, EventLog, Figures
from engine.repeats import Repeats
from engine.settling import Settled, append_settled
from schemas import frames
from schemas.codecs import encode_event, topic_of
from schemas.events import EpochStarted, LedgerEvent
from schemas.genesis import Genesis
from schemas.history import history_keys
from schemas.rejections import Rejection, RejectionCode
from schemas.snapshots import encode_snapshot
from schemas.streams import stream_id

log = logging.getLogger("durian.engine")

INBOX_COMMANDS_MAX = 20_000
BATCH_EVENTS_MAX = 1_000
# Commands decided before the loop looks at the network and a finished commit again.
SLICE_COMMANDS = 32
# The store gives the lead to another writer when this one is silent for three.
KEEP_ALIVE_SECONDS = 1.0
SLOW_COMMIT_SECONDS = 1.0
SECOND_NS = 1_000_000_000


class DecidedEvent(msgspec.Struct, gc=False):
    """engine.ports.NewEvent; a tenth of what the library's own frozen dataclass costs to make."""

    originator_id: str
    originator_version: int
    topic: str
    state: bytes


class Batch:
    """What one commit appends, and whom it answers.

    block_id: of its keyed answers. seconds: that its commit took.
    """

    __slots__ = ("answers", "block_id", "events", "history", "records", "seconds")

    def __init__(self, block_id: int) -> None:
        self.seconds = 0.0
        self.events: list[DecidedEvent] = []
        self.history: list[tuple[int, int]] = []
        self.answers: list[tuple[Pending, Outcome]] = []
        self.records: list[answers.AnswerRecord] = []
        self.block_id = block_id

    def is_full(self) -> bool:
        return len(self.events) >= BATCH_EVENTS_MAX or len(self.answers) >= BATCH_EVENTS_MAX

    def block(self, at_ns: int) -> AnswerBlock | None:
        return answers.pack_block(self.block_id, at_ns, self.records) if self.records else None


class _Flight(NamedTuple):
    batch: Batch
    commit: "asyncio.Task[Settled | None]"


class Sequencer:
    """Owns the state; nobody else reads or changes it while it runs.

    address: where gateways reach this engine, told to the log when it leads again.
    """

    def __init__(
        self, ledger_log: EventLog, clock: Clock, repeats: Repeats, figures: Figures, address: str
    ) -> None:
        self.log = ledger_log
        self.clock = clock
        self._repeats = repeats
        self._figures = figures
        self._address = address
        self._fold = LedgerFold()
        self._answers = answers.FirstAnswers()
        self._position = 0
        self._inbox: deque[Pending] = deque()
        self._batch = Batch(1)
        self._flight: _Flight | None = None
        self._wake = asyncio.Event()
        self._committed_at = 0.0
        self._stopping = False

    @property
    def state(self) -> LedgerState:
        return self._fold.state

    def waiting(self) -> int:
        """Commands in the inbox."""
        return len(self._inbox)

    def remembered(self) -> int:
        """Keys whose first answer is known."""
        return len(self._answers)

    # -- start --------------------------------------------------------------------------------

    async def start(
        self, fold: LedgerFold, first_answers: answers.FirstAnswers, genesis: Genesis
    ) -> None:
        """Go on from the fold of the whole log as its elected writer: mark the epoch, open the
        ledger if the log is empty, append the missing seconds.

        Raises LogCorrupt if the log ends elsewhere than the fold does, or refuses genesis.
        """
        head = self.log.head
        fold.require_end(head)
        self._fold, self._answers, self._position = fold, first_answers, head.position
        self._batch = Batch(first_answers.last_id + 1)
        self._repeats.committed(first_answers.last_id)
        started_at_ns = self.clock.now_ns()
        if head.position == 0:
            second = genesis.genesis_second
            second = started_at_ns // SECOND_NS if second is None else second
            self.state.at_ns = second * SECOND_NS
        self._resume_clock()
        self._mark_epoch()
        if self.state.mining is None:
            for command in genesis.commands(self.state.at_ns // SECOND_NS):
                decided = ledger.decide(command, self.state, self.state.at_ns)
                if isinstance(decided, Rejection):
                    raise LogCorrupt(1, f"genesis is refused: {decided}")
                self._take(decided)
        behind = True
        while behind:
            behind = self._tick(self.clock.now_ns())
            batch = self._next_batch()
            self._landed(await self._append(batch))
            self._answer(batch)
        self._figures.leads(self.log.head.epoch, self.log.head.position)

    def _resume_clock(self) -> None:
        # A virtual clock goes on where the log ends; the wall clock needs no telling.
        try:
            self.clock.advance_to(self.state.at_ns)
        except ClockIsWall:
            behind_ns = self.state.at_ns - self.clock.now_ns()
            if behind_ns > SECOND_NS:
                log.warning(
                    "the clock is %.1f s behind the log: engine time stands still until it is not",
                    behind_ns / SECOND_NS,
                )

    def _mark_epoch(self) -> None:
        epoch = EpochStarted(
            at_ns=self.state.at_ns,
            epoch=self.log.head.epoch,
            started_at_ns=self.clock.now_ns(),
        )
        self._take((epoch,))

    # -- run ----------------------------------------------------------------------------------

    def submit(self, pending: Pending) -> None:
        """Queue a request; it is answered once, in the log's order.

        A full inbox refuses at once.
        """
        if len(self._inbox) >= INBOX_COMMANDS_MAX:
            refused = Rejection(RejectionCode.OVERLOADED, {"commands_waiting": len(self._inbox)})
            self._figures.answered({code_of(refused): 1})
            pending.answer(pending.request.id, refused, False)
            return
        self._inbox.append(pending)
        self._wake.set()

    def stop(self) -> None:
        """Commit what is decided, leave the rest unanswered (its senders ask again)."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Until stop(). Raises what the log raises: the process must end then."""
        self._ring()
        try:
            while True:
                landed = self._land()
                if self._flight is None and self._is_due():
                    self._take_off()
                if landed is not None:
                    self._answer(landed)
                if not self._stopping:
                    self._fill()
                if self._flight is None and self._is_due():
                    self._take_off()
                if self._stopping and self._flight is None:
                    return
                if self._inbox and not self._batch.is_full() and not self._stopping:
                    await asyncio.sleep(0)
                else:
                    await self._wake.wait()
                    self._wake.clear()
        finally:
            self._stopping = True

    def _ring(self) -> None:
        # Wakes run() when a second begins, and often enough to keep the lead in a quiet hour.
        if self._stopping:
            return
        self._wake.set()
        seconds = self.clock.seconds_to_next_tick()
        seconds = KEEP_ALIVE_SECONDS if seconds is None else min(seconds, KEEP_ALIVE_SECONDS)
        asyncio.get_running_loop().call_later(seconds, self._ring)

    def _land(self) -> Batch | None:
        """The batch whose commit has ended; raises what the log raised."""
        flight = self._flight
        if flight is None or not flight.commit.done():
            return None
        self._flight = None
        self._landed(flight.commit.result())
        return flight.batch

    def _is_due(self) -> bool:
        if self._batch.events or self._batch.answers:
            return True
        quiet = asyncio.get_running_loop().time() - self._committed_at
        return quiet >= KEEP_ALIVE_SECONDS and not self._stopping

    def _take_off(self) -> None:
        batch = self._next_batch()
        commit = asyncio.create_task(self._append(batch))
        commit.add_done_callback(lambda _: self._wake.set())
        self._flight = _Flight(batch, commit)

    def _next_batch(self) -> Batch:
        batch = self._batch
        self._batch = Batch(batch.block_id + bool(batch.records))
        return batch

    def _fill(self) -> None:
        """Decide what has come, up to a slice of it; the missing seconds first.

        One reading of the clock serves the slice: its commands are of the second that was ticked.
        """
        inbox, batch, now_ns = self._inbox, self._batch, self.clock.now_ns()
        if batch.is_full() or self._tick(now_ns):
            return
        for _ in range(min(SLICE_COMMANDS, len(inbox))):
            if batch.is_full():
                return
            pending = inbox.popleft()
            self._decide(pending, max(self.state.at_ns, now_ns))
            if isinstance(pending.request.command, frames.AdvanceClock):
                return

    def _tick(self, now_ns: int) -> bool:
        """Append the seconds that have begun; True if the batch is full before they are all in."""
        mining = self.state.mining
        assert mining is not None
        now_second = now_ns // SECOND_NS
        if mining.last_second >= now_second:
            return False
        self._figures.ticked(now_ns / SECOND_NS - mining.last_second - 1)
        while mining.last_second < now_second:
            if self._batch.is_full():
                return True
            self._store(ledger.tick(self.state, mining.last_second + 1))
        return False

    def _decide(self, pending: Pending, now_ns: int) -> None:
        request = pending.request
        if not request.key:
            self._batch.answers.append((pending, self._outcome(request, now_ns)))
            return
        scope, body = answers.scope_of(request), answers.body_of(request)
        brief = answers.is_brief(request)
        known = self._answers.find(scope, now_ns, brief=brief)
        if known is not None:
            self._repeats.ask(known, scope, body, pending)
        elif self._answers.is_full(self.state.at_ns):
            refused = Rejection(
                RejectionCode.OVERLOADED, {"answers_remembered": len(self._answers)}
            )
            self._batch.answers.append((pending, refused))
        else:
            outcome = self._outcome(request, now_ns)
            self._batch.answers.append((pending, outcome))
            if isinstance(outcome, Digest):
                return
            record = answers.AnswerRecord(scope, body, brief, *_place(outcome))
            self._batch.records.append(record)
            self._answers.remember(scope, self._batch.block_id, self.state.at_ns, brief=brief)

    def _outcome(self, request: frames.Request, now_ns: int) -> Outcome:
        command = request.command
        if isinstance(command, frames.AdvanceClock):
            return self._advance(command)
        if isinstance(command, frames.DigestState):
            digest = hashlib.sha256(encode_snapshot(dump(self.state))).hexdigest()
            return Digest(self._position, digest)
        decided = ledger.decide(command, self.state, now_ns)
        if isinstance(decided, Rejection):
            return decided
        payloads = self._take(decided)
        return Stored(self._position, payloads)

    def _advance(self, command: frames.AdvanceClock) -> Outcome:
        try:
            self.clock.advance_to(command.to_ns)
        except ClockIsWall as exc:
            return Rejection(RejectionCode.CLOCK_IS_WALL, {"clock": str(exc)})
        self._tick(self.clock.now_ns())
        return Stored(self._position, ())

    def _take(self, happened: tuple[LedgerEvent, ...]) -> tuple[bytes, ...]:
        for event in happened:
            ledger.evolve(self.state, event)
        return self._store(happened)

    def _store(self, happened: tuple[LedgerEvent, ...]) -> tuple[bytes, ...]:
        events, history, versions = self._batch.events, self._batch.history, self._fold.versions
        payloads = []
        for event in happened:
            stream = stream_id(event)
            version = versions[stream] = versions.get(stream, 0) + 1
            payload = encode_event(event)
            for key in history_keys(event):
                history.append((key, len(events)))
            events.append(DecidedEvent(stream, version, topic_of(event), payload))
            payloads.append(payload)
        self._position += len(payloads)
        return tuple(payloads)

    # -- commit -------------------------------------------------------------------------------

    async def _append(self, batch: Batch) -> Settled | None:
        """One batch through the fence."""
        started = time.perf_counter()
        settled = await append_settled(
            self.log,
            self._repeats.open_tail,
            self._address,
            batch.events,
            batch.history,
            batch.block(self.state.at_ns),
        )
        batch.seconds = time.perf_counter() - started
        return settled

    def _landed(self, settled: Settled | None) -> None:
        self._committed_at = asyncio.get_running_loop().time()
        if settled is not None:
            self._figures.settled(settled)
            self._figures.leads(self.log.head.epoch, self.log.head.position)
            self._mark_epoch()

    def _answer(self, batch: Batch) -> None:
        """What a durable batch has to say; the next one is under way already."""
        if batch.records:
            self._answers.last_id = batch.block_id
            self._repeats.committed(batch.block_id)
        for pending, outcome in batch.answers:
            pending.answer(pending.request.id, outcome, False)
        if batch.seconds > SLOW_COMMIT_SECONDS:
            log.warning("a commit of %d events took %.1f s", len(batch.events), batch.seconds)
        if log.isEnabledFor(logging.DEBUG):
            _trace(batch)
        self._figures.committed(
            events=len(batch.events),
            seconds=batch.seconds,
            outcomes=Counter(code_of(outcome) for _, outcome in batch.answers),
        )


def _place(outcome: Stored | Rejection) -> tuple[int, int, Rejection | None]:
    """First position and number of an answer's events, or the refusal."""
    if isinstance(outcome, Rejection):
        return 0, 0, outcome
    count = len(outcome.payloads)
    return outcome.last_position - count + 1, count, None


def _trace(batch: Batch) -> None:
    """What each request came to, under the id that its gateway logged too."""
    for (request, _), outcome in batch.answers:
        tag, place = request.command.__struct_config__.tag, {"trace": request.trace}
        if isinstance(outcome, Stored):
            place["position"] = str(outcome.last_position)
        log.debug("%s: %s", tag, code_of(outcome), extra=place)
