"""Who leads: one suite for the twin and PostgreSQL, then what only a server's sessions can do.

The server ends a silent leader's session after 3 s (idle_session_timeout), so some of this waits.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from engine.errors import Fenced, StoreUnavailable
from engine.postgres.datastore import datastore_of
from engine.postgres.recorder import LedgerRecorder
from tests.fixtures.ledger_twins import Ledger
from tests.fixtures.postgres import LedgerDatabase

pytestmark = pytest.mark.services
DEADLINE_SECONDS = 30.0
SILENCE_SECONDS = 3.0
ROOT = Path(__file__).parents[2]


def _event(version: int, stream: str = "s") -> StoredEvent:
    return StoredEvent(stream, version, "t:1", b"%d" % version)


def _run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, DEADLINE_SECONDS))


async def _is_waiting(electing: "asyncio.Task[Any]") -> bool:
    """Still, after a while in which an election without a rival would be over."""
    done, _ = await asyncio.wait({electing}, timeout=0.3)
    return not done


def test_the_second_leads_when_the_first_closes_its_writer(ledger: Ledger) -> None:
    async def scene() -> None:
        first, second = ledger.open_log(), ledger.open_log()
        head = await first.elect("a:1")
        assert (head.epoch, head.position) == (1, 0)
        async with ledger.open_tail() as tail:
            assert await tail.leader() == "a:1"
            electing = asyncio.create_task(second.elect("b:2"))
            assert await _is_waiting(electing)
            head = await first.append([_event(1)])
            assert await tail.head() == head
            first.close_writer()
            assert await electing == head._replace(epoch=2)
            assert await tail.leader() == "b:2"
            assert await tail.head() == head._replace(epoch=2)
        with pytest.raises(StoreUnavailable):
            await first.append([_event(2)])
        assert (await second.append([_event(2)])).position == 2
        second.close_writer()

    _run(scene())


def test_the_second_leads_when_the_firsts_session_ends(ledger: Ledger) -> None:
    async def scene() -> None:
        first, second = ledger.open_log(), ledger.open_log()
        await first.elect("a:1")
        await first.append([_event(1)])
        electing = asyncio.create_task(second.elect("b:2"))
        assert await _is_waiting(electing)
        await asyncio.to_thread(ledger.disconnect_leader)
        assert (await electing).position == 1
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await first.append([_event(2)])
        second.close_writer()

    _run(scene())


def test_a_cancelled_election_leaves_the_lead_to_others(ledger: Ledger) -> None:
    async def scene() -> None:
        first, second, third = (ledger.open_log() for _ in range(3))
        await first.elect("a:1")
        cancelled = asyncio.create_task(second.elect("b:2"))
        assert await _is_waiting(cancelled)
        cancelled.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cancelled
        first.close_writer()
        assert (await third.elect("c:3")).epoch == 2
        with pytest.raises(StoreUnavailable):
            await second.append([])
        third.close_writer()

    _run(scene())


def test_who_is_elected_can_be_elected_again(ledger: Ledger) -> None:
    async def scene() -> None:
        log = ledger.open_log()
        for epoch in (1, 2, 3):
            assert (await log.elect("a:1")).epoch == epoch
            await log.append([_event(epoch)])
        log.close_writer()

    _run(scene())


def test_seizing_fences_the_elected(ledger: Ledger) -> None:
    async def scene() -> None:
        elected, other = ledger.open_log(), ledger.open_log()
        await elected.elect("a:1")
        assert other.lead().epoch == 2
        for events in ([], [_event(1)]):
            with pytest.raises(Fenced):
                await elected.append(events)
        elected.close_writer()

    _run(scene())


def test_keeping_alive_keeps_the_lead_and_moves_nothing(ledger: Ledger) -> None:
    async def scene() -> None:
        first, second = ledger.open_log(), ledger.open_log()
        head = await first.elect("a:1")
        electing = asyncio.create_task(second.elect("b:2"))
        async with asyncio.timeout(DEADLINE_SECONDS):
            for _ in range(8):
                assert await first.append([]) == head
                assert await _is_waiting(electing)
                await asyncio.sleep(0.3)
        electing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await electing
        first.close_writer()

    _run(scene())


def test_a_silent_leader_loses_the_lead(postgres_ledger: Ledger) -> None:
    async def scene() -> None:
        first, second = postgres_ledger.open_log(), postgres_ledger.open_log()
        await first.elect("a:1")
        started = asyncio.get_running_loop().time()
        assert (await second.elect("b:2")).epoch == 2
        waited = asyncio.get_running_loop().time() - started
        assert SILENCE_SECONDS - 0.5 < waited < SILENCE_SECONDS + 2.0, waited
        with pytest.raises(StoreUnavailable):
            await first.append([_event(1)])
        second.close_writer()

    _run(scene())


FROZEN_WRITER = """
import asyncio, sys
from engine.errors import EngineError
from engine.postgres.datastore import datastore_of
from engine.postgres.recorder import LedgerRecorder

async def lead(log):
    await log.elect("frozen:1")
    print("leads", flush=True)
    while True:
        await log.append([])
        await asyncio.sleep(0.1)

with datastore_of(sys.argv[1]) as datastore:
    try:
        asyncio.run(lead(LedgerRecorder(datastore)))
    except EngineError as exc:
        print(type(exc).__name__, flush=True)
"""


def test_a_frozen_leader_loses_the_lead_and_cannot_append_when_it_wakes(
    ledger_database: LedgerDatabase, postgres_ledger: Ledger
) -> None:
    frozen = subprocess.Popen(
        [sys.executable, "-c", FROZEN_WRITER, ledger_database.writer_url],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=dict(os.environ),
    )
    assert frozen.stdout is not None
    try:
        assert frozen.stdout.readline() == b"leads\n"
        frozen.send_signal(signal.SIGSTOP)

        async def scene() -> None:
            log = postgres_ledger.open_log()
            started = asyncio.get_running_loop().time()
            assert (await log.elect("b:2")).epoch == 2
            assert asyncio.get_running_loop().time() - started < SILENCE_SECONDS + 2.0
            frozen.send_signal(signal.SIGCONT)
            async with asyncio.timeout(DEADLINE_SECONDS):
                while frozen.poll() is None:
                    await log.append([])
                    await asyncio.sleep(0.05)
            log.close_writer()

        _run(scene())
        assert frozen.stdout.read() in (b"StoreUnavailable\n", b"Fenced\n")
    finally:
        frozen.kill()
        frozen.wait()
        frozen.stdout.close()


def test_an_append_without_an_answer_in_time_has_an_unknown_outcome(
    ledger_database: LedgerDatabase, postgres_ledger: Ledger
) -> None:
    """Its connection is given up, so that a late commit is not taken for a later answer."""

    async def scene() -> None:
        log = postgres_ledger.open_log()
        await log.elect("a:1")
        with psycopg.connect(ledger_database.owner_url) as blocker:
            blocker.execute("SELECT * FROM ledger_events_head FOR UPDATE")
            with pytest.raises(StoreUnavailable, match="no answer within 4 s"):
                await log.append([_event(1)])
            with pytest.raises(StoreUnavailable, match="not leading"):
                await log.append([_event(1)])
        head = await log.elect("a:1")
        assert head.position in (0, 1)
        assert (await log.append([_event(head.position + 1)])).position == head.position + 1
        log.close_writer()

    _run(scene())


def test_closing_the_writer_ends_an_append_that_waits(
    ledger_database: LedgerDatabase, postgres_ledger: Ledger
) -> None:
    async def scene() -> None:
        log = postgres_ledger.open_log()
        await log.elect("a:1")
        with psycopg.connect(ledger_database.owner_url) as blocker:
            blocker.execute("SELECT * FROM ledger_events_head FOR UPDATE")
            appending = asyncio.create_task(log.append([_event(1)]))
            assert await _is_waiting(appending)
            log.close_writer()
            with pytest.raises(StoreUnavailable, match="closed"):
                await appending

    _run(scene())


def test_without_a_server_there_is_no_election() -> None:
    async def scene() -> None:
        async with AsyncExitStack() as opened:
            datastore = opened.enter_context(datastore_of("postgresql://a:b@127.0.0.1:1/none"))
            with pytest.raises(StoreUnavailable, match="cannot take the lead"):
                await LedgerRecorder(datastore).elect("a:1")

    _run(scene())


def test_a_read_only_server_elects_nobody(
    ledger_database: LedgerDatabase, postgres_ledger: Ledger
) -> None:
    async def scene() -> None:
        with psycopg.connect(ledger_database.owner_url, autocommit=True) as connection:
            name = connection.info.dbname
            connection.execute(
                f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode()
            )
        with pytest.raises(StoreUnavailable, match="read-only"):
            await postgres_ledger.open_log().elect("a:1")

    _run(scene())
