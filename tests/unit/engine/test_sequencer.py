"""The single writer: time and commands become events in one order; answers wait for the disk."""

import asyncio
import logging
from collections.abc import Sequence

import msgspec
import pytest

from engine.clock import VirtualClock, WallClock
from engine.errors import Fenced, LogCorrupt
from engine.hashing import chain
from engine.memory import MemoryLog, MemoryStore
from engine.outcomes import Pending
from engine.ports import AnswerBlock, Head, NewEvent
from engine.sequencer import BATCH_EVENTS_MAX, INBOX_COMMANDS_MAX, SLICE_COMMANDS
from schemas import commands, frames
from schemas.codecs import encode_event
from schemas.commands import EmissionEntry
from schemas.events import (
    ContributionExpired,
    EpochStarted,
    FundsDeposited,
    LedgerEvent,
    MiningAllocated,
)
from schemas.rejections import Rejection, RejectionCode
from tests.unit.domain.scenario import GENESIS_SECOND, fingerprint, of_kind
from tests.unit.engine.engine_line import (
    DEADLINE_SECONDS,
    SECOND_NS,
    SMALL,
    Line,
    RecordedLog,
    deposit,
    told,
    until,
)

MOST_PER_SECOND = 2  # events of a second: its allocation, rarely an expiry


def _tags(events: Sequence[LedgerEvent]) -> list[str]:
    return [str(event.__struct_config__.tag) for event in events]


def _seconds(events: Sequence[LedgerEvent]) -> list[int]:
    return [event.second for event in of_kind(events, MiningAllocated)]


def _started(line: Line) -> Line:
    """An engine that has started, and is gone."""
    told(line.start())
    line.log.close_writer()
    return line


def test_a_new_ledger_begins_with_its_epoch_genesis_and_first_second_in_one_batch() -> None:
    line = _started(Line())
    (batch,) = line.log.batches
    assert _tags(batch) == [
        "epoch_started", "ledger_opened", "emission_scheduled", "market_opened", "mining_allocated",
    ]  # fmt: skip
    assert {event.at_ns for event in batch} == {GENESIS_SECOND * SECOND_NS}
    assert _seconds(batch) == [GENESIS_SECOND]
    assert [event.stream_id for event in line.log.read()] == [
        "ledger", "ledger", "ledger", "market:DUR-CNY", "mining",
    ]  # fmt: skip


def test_genesis_without_a_second_is_the_one_in_which_the_engine_starts() -> None:
    now_ns = GENESIS_SECOND * SECOND_NS + 700
    line = Line(clock=VirtualClock(now_ns))
    told(line.start(msgspec.structs.replace(SMALL, genesis_second=None)))
    (epoch,) = of_kind(line.events, EpochStarted)
    assert (epoch.at_ns, epoch.started_at_ns) == (GENESIS_SECOND * SECOND_NS, now_ns)
    assert _seconds(line.events) == [GENESIS_SECOND]


def test_a_genesis_the_domain_refuses_stores_nothing() -> None:
    line = Line()
    bad = msgspec.structs.replace(
        SMALL, emission=(EmissionEntry(after_seconds=-1, reward_minor=1),)
    )
    with pytest.raises(LogCorrupt, match="invalid_schedule"):
        told(line.start(bad))
    assert line.events == []


def test_each_second_is_ticked_once_before_its_commands() -> None:
    async def story() -> Line:
        async with Line().running() as line:
            for number in range(3):
                await line.ask(deposit(f"r{number}"))
                await line.advance(1, ns=400_000_000)
            return line

    events = told(story()).events
    assert _seconds(events) == list(range(GENESIS_SECOND, _seconds(events)[-1] + 1))
    assert [event.at_ns for event in events] == sorted(event.at_ns for event in events)
    for at, event in enumerate(events):
        if isinstance(event, FundsDeposited):
            assert _seconds(events[:at])[-1] == event.at_ns // SECOND_NS


class SteppingClock(VirtualClock):
    """Time passes with every reading, as on a busy machine."""

    def now_ns(self) -> int:
        self.advance_to(super().now_ns() + 300_000_000)
        return super().now_ns()


def test_a_second_that_begins_while_commands_are_decided_is_ticked_first() -> None:
    async def story() -> Line:
        line = Line(clock=SteppingClock(GENESIS_SECOND * SECOND_NS))
        async with line.running(), asyncio.timeout(DEADLINE_SECONDS):
            await asyncio.gather(*(line.submit(deposit(f"r{number}")) for number in range(40)))
        return line

    events = told(story()).events
    at_ns = [event.at_ns for event in events]
    assert at_ns == sorted(at_ns)
    deposits = [at for at, event in enumerate(events) if isinstance(event, FundsDeposited)]
    assert len(deposits) == 40
    assert {_seconds(events[:at])[-1] - at_ns[at] // SECOND_NS for at in deposits} == {0}


class LeapingClock(VirtualClock):
    """The machine sleeps for 3,000 seconds after so many readings."""

    def __init__(self, now_ns: int, *, readings: int) -> None:
        super().__init__(now_ns)
        self._readings = readings

    def now_ns(self) -> int:
        self._readings -= 1
        if self._readings == 0:
            self.advance_to(super().now_ns() + 3_000 * SECOND_NS)
        return super().now_ns()


@pytest.mark.parametrize("readings", range(1, 9))
def test_a_leap_between_two_commands_is_ticked_before_the_second(readings: int) -> None:
    async def story() -> Line:
        line = Line(clock=LeapingClock(GENESIS_SECOND * SECOND_NS, readings=readings))
        async with line.running(), asyncio.timeout(DEADLINE_SECONDS):
            for number in range(3):
                await line.ask(deposit(f"r{number}"))
            # Reads the clock until it has leapt, whenever that is.
            for _ in range(4):
                await line.advance(1)
        return line

    events = told(story()).events
    at_ns = [event.at_ns for event in events]
    assert at_ns == sorted(at_ns)
    assert len(of_kind(events, FundsDeposited)) == 3
    seconds = _seconds(events)
    assert seconds == list(range(GENESIS_SECOND, seconds[-1] + 1))
    assert seconds[-1] >= GENESIS_SECOND + 3_000


def test_a_gap_is_caught_up_in_batches_before_any_command() -> None:
    store = MemoryStore()
    _started(Line(store))
    seconds = 2 * BATCH_EVENTS_MAX + 500

    async def story() -> Line:
        line = Line(store, clock=VirtualClock((GENESIS_SECOND + seconds) * SECOND_NS))
        async with line.running():
            await line.ask(deposit("r"))
        return line

    line = told(story())
    assert _seconds(line.events) == list(range(GENESIS_SECOND, GENESIS_SECOND + seconds + 1))
    sizes = [len(batch) for batch in line.log.batches]
    assert max(sizes) <= BATCH_EVENTS_MAX + MOST_PER_SECOND
    assert len(sizes) == 4
    assert _tags(line.log.batches[0])[0] == "epoch_started"
    assert _tags(line.log.batches[-1])[-1] == "funds_deposited"


def test_a_long_jump_of_the_clock_is_ticked_second_by_second() -> None:
    async def story() -> Line:
        async with Line().running() as line:
            first = line.submit(frames.AdvanceClock(to_ns=(GENESIS_SECOND + 3_000) * SECOND_NS))
            last = line.submit(deposit("r"))
            async with asyncio.timeout(DEADLINE_SECONDS):
                await asyncio.gather(first, last)
            return line

    events = told(story()).events
    assert _seconds(events) == list(range(GENESIS_SECOND, GENESIS_SECOND + 3_001))
    assert _tags(events)[-1] == "funds_deposited"


def test_grants_expire_in_their_second_even_if_the_engine_was_down() -> None:
    store = MemoryStore()

    async def story() -> Line:
        async with Line(store).running() as line:
            grant = commands.GrantContribution(
                user_id="a", grant_id="g", source="s", weight=1, expires_second=GENESIS_SECOND + 50
            )
            await line.ask(grant)
        later = Line(store, clock=VirtualClock((GENESIS_SECOND + 100) * SECOND_NS))
        await later.start()
        return later

    events = told(story()).events
    (expired,) = of_kind(events, ContributionExpired)
    assert expired.at_ns == (GENESIS_SECOND + 50) * SECOND_NS
    assert of_kind(events, MiningAllocated)[-1].allocated_minor == 49 * 100


def test_an_answer_names_the_position_and_the_stored_payloads() -> None:
    async def story() -> None:
        async with Line().running() as line:
            outcomes = await asyncio.gather(line.submit(deposit("r1")), line.submit(deposit("r2")))
            stored = {logged.position: logged.payload for logged in line.log.read()}
            for outcome in outcomes:
                assert not isinstance(outcome, Rejection)
                last, payloads = outcome
                assert payloads == tuple(
                    stored[position] for position in range(last - len(payloads) + 1, last + 1)
                )

    told(story())


class GatedLog(RecordedLog):
    """Appends only while the gate is open, as a disk that takes its time."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__(store)
        self.gate = asyncio.Event()
        self.is_waiting = asyncio.Event()

    async def append(
        self,
        events: Sequence[NewEvent],
        history: Sequence[tuple[int, int]] = (),
        answers: AnswerBlock | None = None,
    ) -> Head:
        self.is_waiting.set()
        await self.gate.wait()
        self.is_waiting.clear()
        return await super().append(events, history, answers)


def test_answers_and_refusals_wait_for_what_was_decided_before_them() -> None:
    async def story() -> None:
        log = GatedLog()
        log.gate.set()
        async with Line(log=log).running() as line, asyncio.timeout(DEADLINE_SECONDS):
            log.gate.clear()
            log.is_waiting.clear()
            accepted, refused = line.submit(deposit("r")), line.submit(deposit("r"))
            await log.is_waiting.wait()
            late = line.submit(commands.SettleAccrual(user_id="alice"))
            assert not (accepted.done() or refused.done() or late.done())
            log.gate.set()
            outcome = await refused
            assert isinstance(outcome, Rejection)
            assert outcome.code == RejectionCode.DUPLICATE_REFERENCE
            assert accepted.done()
            assert len(of_kind(line.events, FundsDeposited)) == 1
            settled = await late
            assert isinstance(settled, Rejection)

    told(story())


def test_a_restart_folds_the_same_state_and_goes_on() -> None:
    store = MemoryStore()

    async def story() -> None:
        async with Line(store).running() as first:
            await first.ask(deposit("r1"))
            await first.advance(5)
        second = Line(store)
        await second.start()
        assert fingerprint(second.sequencer.state) == fingerprint(first.sequencer.state)
        assert [event.epoch for event in of_kind(second.events, EpochStarted)] == [1, 2]
        # The virtual clock resumes where the log ends, not at its own beginning.
        assert second.clock.now_ns() == first.sequencer.state.at_ns
        second.log.close_writer()
        async with Line(store).running() as third:
            outcome = await third.ask(deposit("r1"))
            assert isinstance(outcome, Rejection)
            assert not isinstance(await third.ask(deposit("r2")), Rejection)
            await third.advance(2)
        assert _seconds(third.events) == list(range(GENESIS_SECOND, GENESIS_SECOND + 8))

    told(story())


def _tampered(store: MemoryStore, position: int, payload: bytes, *, rehash: bool) -> None:
    """Replace a payload, with hashes to match or without."""
    store.events[position - 1] = store.events[position - 1]._replace(payload=payload)
    if rehash:
        hashes = chain(bytes(32), [event.payload for event in store.events])
        store.events[:] = [
            event._replace(hash=digest) for event, digest in zip(store.events, hashes, strict=True)
        ]


@pytest.mark.parametrize(
    ("payload", "rehash", "reason"),
    [
        (encode_event(EpochStarted(at_ns=0, epoch=9, started_at_ns=0)), False, "does not follow"),
        (b'{"type":"no_such_event","v":1,"at_ns":1}', True, "cannot be read"),
        (b'{"type":', True, "cannot be read"),
        (b'{"type":"\xff"}', True, "cannot be read"),
        (b"", True, "cannot be read"),
    ],
)
def test_a_log_that_contradicts_itself_stops_the_start(
    payload: bytes, rehash: bool, reason: str
) -> None:
    store = MemoryStore()
    _started(Line(store))
    _tampered(store, 3, payload, rehash=rehash)
    with pytest.raises(LogCorrupt, match=reason) as corrupt:
        told(Line(store).start())
    assert corrupt.value.position == 3
    assert len(store.events) == 5


class LongHead(MemoryStore):
    """Its head counts an event that is not there."""

    @property
    def head(self) -> Head:
        head = super().head
        return head._replace(position=head.position + 1) if self.events else head


def test_a_log_shorter_than_its_head_stops_the_start() -> None:
    store = LongHead()
    with pytest.raises(LogCorrupt, match="does not end where its head says"):
        _started(Line(store))
        _started(Line(store))
    assert len(store.events) == 5


def test_a_full_inbox_refuses_at_once() -> None:
    async def story() -> None:
        line = Line()
        waiting = [line.submit(deposit("r")) for _ in range(INBOX_COMMANDS_MAX)]
        one_too_many = line.submit(deposit("r"))
        assert one_too_many.result() == Rejection(
            RejectionCode.OVERLOADED, {"commands_waiting": INBOX_COMMANDS_MAX}
        )
        assert not any(answer.done() for answer in waiting)

    told(story())


def test_many_waiting_commands_are_committed_in_bounded_batches() -> None:
    async def story() -> Line:
        async with Line().running() as line, asyncio.timeout(DEADLINE_SECONDS):
            answers = [line.submit(deposit(f"r{number}")) for number in range(2_500)]
            await asyncio.gather(*answers)
            return line

    async def slowly() -> Line:
        log = GatedLog()
        log.gate.set()
        async with Line(log=log).running() as line, asyncio.timeout(DEADLINE_SECONDS):
            log.gate.clear()
            answers = [line.submit(deposit(f"r{number}")) for number in range(2_500)]
            await log.is_waiting.wait()
            # One batch is under way; the next is decided meanwhile, as far as it may grow.
            most = 2_500 - SLICE_COMMANDS - BATCH_EVENTS_MAX
            await until(lambda: line.sequencer.waiting() <= most)
            log.gate.set()
            await asyncio.gather(*answers)
            return line

    for line in (told(story()), told(slowly())):
        sizes = [len(batch) for batch in line.log.batches[1:]]
        assert sum(sizes) == 2_501
        assert max(sizes) <= BATCH_EVENTS_MAX + MOST_PER_SECOND
    assert sizes[1] == BATCH_EVENTS_MAX


def test_the_wall_clock_cannot_be_advanced() -> None:
    async def story() -> None:
        line = Line(clock=WallClock())
        async with line.running(msgspec.structs.replace(SMALL, genesis_second=None)):
            refused = await line.ask(frames.AdvanceClock(to_ns=1 << 62))
            assert isinstance(refused, Rejection)
            assert "wall clock" in str(refused.details["clock"])

    told(story())


def test_on_the_wall_clock_seconds_come_by_themselves() -> None:
    async def story() -> Line:
        line = Line(clock=WallClock())
        async with line.running(msgspec.structs.replace(SMALL, genesis_second=None)):
            await line.seconds_until(_seconds(line.events)[0] + 1)
        return line

    assert len(_seconds(told(story()).events)) >= 2


def test_a_fenced_append_ends_the_run() -> None:
    store = MemoryStore()

    async def story() -> None:
        line = Line(store)
        await line.start()
        running = asyncio.create_task(line.sequencer.run())
        MemoryLog(store).lead()
        answer = line.submit(deposit("r"))
        with pytest.raises(Fenced):
            await running
        assert not answer.done()
        assert of_kind(line.events, FundsDeposited) == []

    told(story())


def test_stopping_leaves_what_was_not_decided_unanswered() -> None:
    async def story() -> None:
        line = Line()
        await line.start()
        answer = line.submit(deposit("r"))
        line.sequencer.stop()
        await line.sequencer.run()
        assert not answer.done()
        assert of_kind(line.events, FundsDeposited) == []

    told(story())


def test_each_answer_can_be_traced_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with Line().running() as line, asyncio.timeout(DEADLINE_SECONDS):
            answered = asyncio.Event()
            for number, command in enumerate((deposit("r"), deposit("r"))):
                request = frames.Request(id=number, command=command, trace=f"t{number}")
                line.sequencer.submit(Pending(request, lambda *_: None))
            line.request(deposit("r2")).add_done_callback(lambda _: answered.set())
            await answered.wait()

    with caplog.at_level(logging.DEBUG, "durian.engine"):
        told(story())
    traced = {
        getattr(record, "trace", ""): record.getMessage()
        for record in caplog.records
        if record.levelno == logging.DEBUG
    }
    assert traced["t0"] == "deposit_funds: accepted"
    assert traced["t1"] == "deposit_funds: duplicate_reference"
