"""kill -9 of each of our processes in turn while a tape is replayed: all of it recovers by itself.

Afterwards the ledger agrees with the tape, every second is there, and views equal a fresh fold.
"""

import os
import signal
from pathlib import Path

import pytest

from ops.status import PartStatus, running_state
from schemas import events
from tests.fixtures.stacks import TapeStack, tape_stack, wait_until, write_synthetic_tape

pytestmark = [pytest.mark.services, pytest.mark.chaos, pytest.mark.timeout(600)]

OUR_PARTS = (
    "engine",
    "relay",
    "projector-market",
    "projector-mining",
    "projector-accounts",
    "api",
    "stream",
)
TRADES, SECONDS = 9_000, 60_000


def part_of(stack: TapeStack, name: str) -> PartStatus:
    return next(part for part in stack.status().parts if part.name == name)


def kill_and_see_it_back(stack: TapeStack, name: str) -> None:
    before = part_of(stack, name)
    assert before.process is not None
    os.kill(before.process.pid, signal.SIGKILL)
    wait_until(
        lambda: part_of(stack, name).restarts > before.restarts and part_of(stack, name).ready,
        lambda: f"{name} did not come back: {part_of(stack, name)}\n{stack.told()}",
    )


def wait_all_up(stack: TapeStack) -> None:
    def all_ready() -> bool:
        status = running_state(stack.data_dir)
        ready = {part.name for part in status.parts if part.ready} if status else set()
        return ready.issuperset(OUR_PARTS)

    wait_until(all_ready, stack.told)


def test_each_process_killed_during_a_demo_recovers_and_nothing_is_lost(tmp_path: Path) -> None:
    tape = write_synthetic_tape(tmp_path / "tape.csv", trades=TRADES, seconds=SECONDS, seed=11)
    with tape_stack(tape, tmp_path / "ledger") as stack:
        wait_all_up(stack)
        for name in OUR_PARTS:
            kill_and_see_it_back(stack, name)
        summary = stack.wait_replayed()
        assert summary["agrees"], summary
        log = stack.log()
        trades = [event for event in log if isinstance(event, events.TradeExecuted)]
        assert len(trades) == TRADES
        seconds = [event.second for event in log if isinstance(event, events.MiningAllocated)]
        assert seconds == list(range(seconds[0], seconds[0] + summary["seconds"]))
        assert sum(isinstance(event, events.EpochStarted) for event in log) >= 2
        assert stack.differences(log) == []
        assert stack.interrupt() == 0
        assert stack.processes_left() == []
