"""From standby to writer: the tail is folded while another leads, and nothing is missing after."""

import asyncio

import pytest

from engine.errors import LogCorrupt
from engine.memory import MemorySnapshots, MemoryStore
from engine.outcomes import Stored
from engine.snapshots import take
from schemas.events import EpochStarted, MiningAllocated
from tests.unit.domain.scenario import GENESIS_SECOND, fingerprint, of_kind
from tests.unit.engine.engine_line import DEADLINE_SECONDS, Line, Told, deposit, told, until


def test_a_standby_follows_and_takes_over_with_every_answer() -> None:
    async def story() -> None:
        store = MemoryStore()
        leader, standby = Line(store), Line(store)
        reports: list[int] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            async with leader.running():
                await standby.standby.fold_log()
                taking = asyncio.create_task(
                    standby.standby.take_lead(
                        "tcp://standby:2", lambda: reports.append(standby.standby.fold.position)
                    )
                )
                first = await leader.request(deposit("r"), "k")
                assert isinstance(first.outcome, Stored)
                last = first.outcome.last_position
                await until(lambda: max(reports, default=0) >= last)
                assert not taking.done()
                await leader.advance(3)
            await taking
        assert store.address == "tcp://standby:2"
        fold = standby.standby.fold
        assert fingerprint(fold.state) == fingerprint(leader.sequencer.state)
        assert fold.position == len(store.events)
        assert len(standby.standby.answers) == 1
        standby.log.close_writer()
        async with Line(store).running() as later, asyncio.timeout(DEADLINE_SECONDS):
            again = await later.request(deposit("r"), "k")
            assert again == Told(first.outcome, is_repeat=True)
            seconds = [event.second for event in of_kind(later.events, MiningAllocated)]
            assert seconds == list(range(GENESIS_SECOND, GENESIS_SECOND + 4))

    told(story())


def test_a_start_reads_the_snapshot_and_only_the_tail() -> None:
    async def story() -> None:
        store, snapshots = MemoryStore(), MemorySnapshots()
        async with Line(store).running() as line:
            await line.ask(deposit("r1"))
        middle = Line(store)
        await middle.standby.fold_log()
        snapshots.save_snapshot(take(middle.standby.fold))
        kept = middle.standby.fold.position
        async with Line(store).running() as line:
            await line.ask(deposit("r2"))
        # Only a fold that begins at the snapshot does not notice.
        store.events[0] = store.events[0]._replace(payload=b"{}")
        with pytest.raises(LogCorrupt):
            await Line(store).standby.fold_log()
        later = Line(store, snapshots=snapshots)
        await later.standby.fold_log()
        assert later.standby.snapshot_position == kept
        assert fingerprint(later.standby.fold.state) == fingerprint(line.sequencer.state)
        assert later.standby.fold.versions["ledger"] == 4

    told(story())


def test_who_gives_up_waiting_leaves_the_lead_alone() -> None:
    async def story() -> None:
        store = MemoryStore()
        waiting = Line(store)
        async with Line(store).running() as leader:
            await waiting.standby.fold_log()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await waiting.standby.take_lead("tcp://x:1", lambda: None)
            await leader.ask(deposit("r"))
            assert [event.epoch for event in of_kind(leader.events, EpochStarted)] == [1]
        assert store.leader is None

    told(story())
