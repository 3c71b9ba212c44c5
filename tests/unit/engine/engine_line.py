"""A sequencer on the in-memory log, run for the length of a block, and ways to ask it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from eventsourcing.persistence import StoredEvent

from engine.clock import VirtualClock
from engine.memory import MemoryLog, MemoryStore
from engine.ports import Clock, Head
from engine.sequencer import Outcome, Pending, Sequencer
from schemas import commands, frames
from schemas.codecs import decode_event
from schemas.commands import EmissionEntry
from schemas.events import AssetSpec, LedgerEvent
from schemas.genesis import Genesis
from tests.unit.domain.scenario import GENESIS_SECOND, market

SECOND_NS = 1_000_000_000
DEADLINE_SECONDS = 20.0
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

    async def append(self, batch: Sequence[StoredEvent]) -> Head:
        head = await super().append(batch)
        self.batches.append([decode_event(event.state) for event in batch])
        self.grown.set()
        return head


class Line:
    """One engine process: log, clock, sequencer. store: what survives it."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        *,
        clock: Clock | None = None,
        log: RecordedLog | None = None,
    ) -> None:
        self.log = log or RecordedLog(store)
        self.clock = clock or VirtualClock()
        self.sequencer = Sequencer(self.log, self.clock)

    @property
    def events(self) -> list[LedgerEvent]:
        return [decode_event(logged.payload) for logged in self.log.read()]

    @contextlib.asynccontextmanager
    async def running(self, genesis: Genesis = SMALL) -> AsyncIterator["Line"]:
        """Started before the block, stopped after it."""
        await self.sequencer.start(genesis)
        task = asyncio.create_task(self.sequencer.run())
        try:
            yield self
        finally:
            self.sequencer.stop()
            async with asyncio.timeout(DEADLINE_SECONDS):
                await task

    def submit(
        self, command: commands.LedgerCommand | frames.AdvanceClock
    ) -> "asyncio.Future[Outcome]":
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.sequencer.submit(Pending(command, answer.set_result))
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


def told(story: Coroutine[Any, Any, Result]) -> Result:
    """Run a story to its end."""
    return asyncio.run(story)


def deposit(reference: str, user_id: str = "alice", amount: int = 100) -> commands.DepositFunds:
    return commands.DepositFunds(
        user_id=user_id, asset_id="CNY", amount_minor=amount, reference=reference
    )
