"""A commit whose outcome is unknown: found out, sent again only if it is not there, or given up."""

import asyncio
from collections.abc import Sequence

import pytest

from engine import settling
from engine.errors import Fenced, StoreUnavailable
from engine.memory import MemoryStore
from engine.outcomes import Stored
from engine.ports import AnswerBlock, Head, NewEvent
from schemas import commands
from schemas.events import EpochStarted, FundsDeposited
from schemas.rejections import Rejection
from tests.unit.domain.scenario import of_kind
from tests.unit.engine.engine_line import DEADLINE_SECONDS, Line, RecordedLog, deposit, told, until


class CutLog(RecordedLog):
    """Its connection breaks at an append: before the store has the batch, or after.

    What a client of PostgreSQL sees when the network goes; PostgreSQL then frees the lead.
    """

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__(store)
        self.cuts: list[str] = []

    async def append(
        self,
        events: Sequence[NewEvent],
        history: Sequence[tuple[int, int]] = (),
        answers: AnswerBlock | None = None,
    ) -> Head:
        before = self._head
        cut = self.cuts.pop(0) if self.cuts and (events or answers) else ""
        if cut in ("before", "overtaken"):
            self.close_writer()
            if cut == "overtaken":
                await until(lambda: self.store.leader is not None)
            raise StoreUnavailable("cut before")
        head = await super().append(events, history, answers)
        if cut:
            self.close_writer()
            self._head = before
            raise StoreUnavailable("cut after")
        return head


REFUSED = commands.SettleAccrual(user_id="nobody")


@pytest.mark.parametrize("cuts", [["before"], ["after"], ["before", "before", "after"]])
def test_acknowledged_once_however_the_connection_breaks(cuts: list[str]) -> None:
    async def story() -> None:
        log = CutLog()
        async with Line(log=log).running() as line, asyncio.timeout(DEADLINE_SECONDS):
            log.cuts += cuts
            first = await line.request(deposit("r"), "k")
            second = await line.request(deposit("r2"), "k2")
            assert isinstance(first.outcome, Stored)
            assert isinstance(second.outcome, Stored)
            again = await line.request(deposit("r"), "k")
            assert (again.outcome, again.is_repeat) == (first.outcome, True)
            stored = {logged.position: logged.payload for logged in line.log.read()}
            for outcome in (first.outcome, second.outcome):
                assert stored[outcome.last_position] == outcome.payloads[-1]
        assert len(of_kind(line.events, FundsDeposited)) == 2
        epochs = [event.epoch for event in of_kind(line.events, EpochStarted)]
        assert epochs == sorted(set(epochs))
        assert epochs[-1] > 1

    told(story())


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_batch_of_refusals_is_settled_too(cut: str) -> None:
    async def story() -> None:
        log = CutLog()
        async with Line(log=log).running() as line, asyncio.timeout(DEADLINE_SECONDS):
            log.cuts.append(cut)
            first = await line.request(REFUSED, "k")
            assert isinstance(first.outcome, Rejection)
            again = await line.request(REFUSED, "k")
            assert (again.outcome, again.is_repeat) == (first.outcome, True)
        assert len(line.log.store.answers) == 1

    told(story())


def test_who_was_overtaken_meanwhile_stops_without_an_answer() -> None:
    async def story() -> None:
        log = CutLog()
        line, other = Line(log=log), Line(log.store, address="tcp://other:2")
        await line.start()
        overtaking = asyncio.create_task(other.start())
        log.cuts.append("overtaken")
        answer = line.request(deposit("r"), "k")
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(Fenced):
                await line.sequencer.run()
            await overtaking
        assert not answer.done()
        assert of_kind(other.events, FundsDeposited) == []
        assert [event.epoch for event in of_kind(other.events, EpochStarted)] == [1, 2]

    told(story())


def test_without_the_store_for_long_the_engine_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "SETTLE_SECONDS", 0.3)

    async def story() -> None:
        log = CutLog()
        line = Line(log=log)
        await line.start()
        log.cuts += ["before"] * 1_000
        answer = line.request(deposit("r"), "k")
        with pytest.raises(StoreUnavailable, match="no answer for"):
            await line.sequencer.run()
        assert not answer.done()

    told(story())
