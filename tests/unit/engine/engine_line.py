"""An engine on the in-memory log, from standby to writer, run for the length of a block, and ways
to ask it.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from engine.clock import VirtualClock
from engine.memory import MemoryLog, MemorySnapshots, MemoryStore, MemoryTail
from engine.metrics import EngineMetrics
from engine.outcomes import Outcome, Pending
from engine.ports import AnswerBlock, Clock, Head, LogTail, NewEvent
from engine.repeats import Repeats
from engine.sequencer import Sequencer
from engine.standby import Standby
from schemas import commands, frames
from schemas.codecs import decode_event
from schemas.commands import EmissionEntry
from schemas.events import AssetSpec, LedgerEvent
from schemas.genesis import Genesis
from tests.unit.domain.scenario import GENESIS_SECOND, market

SECOND_NS = 1_000_000_000
DEADLINE_SECONDS = 20.0
ADDRESS = "tcp://engine:1"
SMALL = Genesis(
    genesis_second=GENESIS_SECOND,
    mined_asset="DUR",
    pool_minor=1_000_000,
    assets=tuple(AssetSpec(asset_id=asset_id, scale=2) for asset_id in ("DUR", "CNY")),
    emission=(EmissionEntry(after_seconds=0, reward_minor=100),),
    markets=(market(),),
)
Result = TypeVar("Result")


class RecordedLog(MemoryLog):
    """The in-memory log, which also remembers what was appended in one step."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__(store)
        self.batches: list[list[LedgerEvent]] = []
        self.grown = asyncio.Event()

    async def append(
        self,
        events: Sequence[NewEvent],
        history: Sequence[tuple[int, int]] = (),
        answers: AnswerBlock | None = None,
    ) -> Head:
        head = await super().append(events, history, answers)
        self.batches.append([decode_event(event.state) for event in events])
        self.grown.set()
        return head


class Told(NamedTuple):
    """An answer as the command port would send it."""

    outcome: Outcome
    is_repeat: bool


class Line:
    """One engine process: log, clock, sequencer. store: what survives it."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        *,
        clock: Clock | None = None,
        log: RecordedLog | None = None,
        snapshots: MemorySnapshots | None = None,
        address: str = ADDRESS,
    ) -> None:
        self.address = address
        self.log = log or RecordedLog(store)
        self.clock = clock or VirtualClock()
        self.metrics = EngineMetrics()
        self.repeats = Repeats(self.open_tail, self.metrics)
        self.sequencer = Sequencer(self.log, self.clock, self.repeats, self.metrics, address)
        self.standby = Standby(
            self.log, MemoryTail(self.log.store), snapshots or MemorySnapshots(), self.metrics
        )

    @property
    def events(self) -> list[LedgerEvent]:
        return [decode_event(logged.payload) for logged in self.log.read()]

    @contextlib.asynccontextmanager
    async def open_tail(self) -> AsyncIterator[LogTail]:
        yield MemoryTail(self.log.store)

    async def start(self, genesis: Genesis = SMALL) -> None:
        """Fold the log, wait for the lead, and lead."""
        await self.standby.fold_log()
        await self.standby.take_lead(self.address, lambda: None)
        await self.sequencer.start(self.standby.fold, self.standby.answers, genesis)

    @contextlib.asynccontextmanager
    async def running(self, genesis: Genesis = SMALL) -> AsyncIterator["Line"]:
        """Started before the block, stopped after it; then the lead is free."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.start(genesis)
        writing = asyncio.create_task(self.sequencer.run())
        repeating = asyncio.create_task(self.repeats.run())
        try:
            yield self
        finally:
            self.sequencer.stop()
            async with asyncio.timeout(DEADLINE_SECONDS):
                await writing
            repeating.cancel()
            self.log.close_writer()

    def request(
        self,
        command: commands.LedgerCommand | frames.AdvanceClock | frames.DigestState,
        key: str = "",
    ) -> "asyncio.Future[Told]":
        """Queue a command under a key."""
        answer: asyncio.Future[Told] = asyncio.get_running_loop().create_future()

        def told(request_id: int, outcome: Outcome, is_repeat: bool) -> None:
            assert request_id == 1
            answer.set_result(Told(outcome, is_repeat))

        self.sequencer.submit(Pending(frames.Request(id=1, command=command, key=key), told))
        return answer

    def submit(
        self, command: commands.LedgerCommand | frames.AdvanceClock
    ) -> "asyncio.Future[Outcome]":
        """Queue a command without a key."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.sequencer.submit(
            Pending(
                frames.Request(id=1, command=command),
                lambda _, outcome, __: answer.set_result(outcome),
            )
        )
        return answer

    async def ask(self, command: commands.LedgerCommand | frames.AdvanceClock) -> Outcome:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.submit(command)

    async def advance(self, seconds: int, *, ns: int = 0) -> None:
        """Move the virtual clock on from the last event's time, and see it done."""
        to_ns = self.sequencer.state.at_ns + seconds * SECOND_NS + ns
        await self.ask(frames.AdvanceClock(to_ns=to_ns))
        await self.seconds_until(to_ns // SECOND_NS)

    async def seconds_until(self, second: int) -> None:
        """Wait until the log holds the allocation of a second."""
        mining = self.sequencer.state.mining
        assert mining is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            while mining.last_second < second:
                self.log.grown.clear()
                await self.log.grown.wait()


async def until(condition: Callable[[], bool]) -> None:
    """Let others work until the condition holds."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        for pause_s in itertools.chain([0.0] * 1_000, itertools.repeat(0.001)):
            if condition():
                return
            await asyncio.sleep(pause_s)


def told(story: Coroutine[Any, Any, Result]) -> Result:
    """Run a story to its end."""
    return asyncio.run(story)


def deposit(reference: str, user_id: str = "alice", amount: int = 100) -> commands.DepositFunds:
    return commands.DepositFunds(
        user_id=user_id, asset_id="CNY", amount_minor=amount, reference=reference
    )
