"""A machine that fails us: disk full, database read-only or of another version, clock that leaps.

Each gives a clear error or the stated behaviour, loses nothing that was acknowledged, and is over
by itself when its cause is gone.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from ops.datadir import open_data_dir
from ops.leader import LeaderLocator
from schemas import events
from schemas.codecs import decode_event
from tests.chaos import skewed_engine
from tests.chaos.auditor import Auditor
from tests.chaos.load import Load, same_answer
from tests.fixtures._cluster import ENGINES, Cluster, cluster
from tests.fixtures._member import Member, wait_for

pytestmark = [pytest.mark.services, pytest.mark.chaos]

WORKERS = 20
DEADLINE_S = 60.0
SMALL_DISK_MB = 180
HOUR_S = 3_600
SECOND_NS = 1_000_000_000

Work = Callable[[Load], Awaitable[None]]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, with_kafka=False) as made:
        yield made


def under_load(made: Cluster, work: Work) -> Auditor:
    """Do the work while commands come and go; afterwards every one of them is in the log once."""
    auditor = Auditor(made.owner_url)

    async def run() -> None:
        locator = LeaderLocator(made.reader_url)
        load = Load("hostile", locator, workers=WORKERS)
        try:
            async with load.running():
                await answers_come(load)
                await work(load)
                await answers_come(load)
                assert await load.settle(DEADLINE_S), made.told()
                await asyncio.to_thread(auditor.read_log)
                auditor.check_answers(load.answers)
                auditor.check_digest(await load.digest())
        finally:
            await locator.close()
        assert [*auditor.findings, *load.disagreements] == []

    asyncio.run(run())
    return auditor


async def until(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    await asyncio.to_thread(wait_for, condition, explain, deadline_s=DEADLINE_S)


async def answers_come(load: Load) -> None:
    """Until a command that is sent from now on has been answered."""
    began = time.monotonic()
    await until(
        lambda: any(answer.sent_at > began for answer in load.answers[-WORKERS:]),
        lambda: "no answers",
    )


async def answers_stop(load: Load) -> None:
    """Until none has come for a while that is long for a healthy engine."""
    await until(
        lambda: bool(load.answers) and time.monotonic() - load.answers[-1].acked_at > 1.5,
        lambda: "answers still come",
    )


async def says(members: list[Member], *words: str) -> None:
    """Until one of them has written one of the words."""
    await until(
        lambda: any(word in member.told(100_000) for member in members for word in words),
        lambda: "\n".join(member.told() for member in members),
    )


def engines_of(made: Cluster) -> list[Member]:
    return [made.members[name] for name in ENGINES]


# -- disk ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A filesystem of SMALL_DISK_MB mounted on the directory; skips where that is not allowed."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MB}m,mode=755", "durian-test", place],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"DISK FULL IS NOT TESTED: no small filesystem here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> Path:
    """A file that takes what is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    stream.write(bytes(size))
    return ballast


def test_full_disk_refuses_commits_until_there_is_room(tmp_path: Path) -> None:
    disk = open_data_dir(tmp_path / "ledger").postgres
    disk.mkdir()
    with small_disk(disk), cluster(tmp_path / "ledger", with_kafka=False) as made:

        async def work(load: Load) -> None:
            load.hurry()
            ballast = await asyncio.to_thread(fill, disk)
            await answers_stop(load)
            await says([*engines_of(made), made.members["postgres"]], "No space left on device")
            load.calm()
            ballast.unlink()

        under_load(made, work)


# -- database --------------------------------------------------------------------------------------


def test_read_only_database_stops_commands_until_it_can_be_written(ledger: Cluster) -> None:
    def read_only(setting: str) -> None:
        ledger.database(f"ALTER SYSTEM SET default_transaction_read_only = {setting}")
        ledger.database("SELECT pg_reload_conf()")

    async def work(load: Load) -> None:
        await asyncio.to_thread(read_only, "on")
        try:
            await answers_stop(load)
            await says(engines_of(ledger), "read-only")
        finally:
            await asyncio.to_thread(read_only, "off")

    under_load(ledger, work)


@pytest.mark.parametrize(
    ("version", "advice"), [("9999", "newer than this program"), ("0001", "durian migrate")]
)
def test_engine_refuses_another_schema_version_and_says_what_to_do(
    ledger: Cluster, version: str, advice: str
) -> None:
    async def work(load: Load) -> None:
        ((right,),) = ledger.database("SELECT version_num FROM alembic_version")
        ledger.database(f"UPDATE alembic_version SET version_num = '{version}'")
        for engine in engines_of(ledger):
            engine.kill()
        await says(engines_of(ledger), advice)
        ledger.database(f"UPDATE alembic_version SET version_num = '{right}'")

    auditor = under_load(ledger, work)
    assert len(auditor.epoch_positions) >= 2


def test_engine_that_has_only_just_started_knows_old_keys(ledger: Cluster) -> None:
    async def work(load: Load) -> None:
        assert await load.settle(DEADLINE_S), ledger.told()
        for engine in engines_of(ledger):
            engine.kill()
        async with asyncio.timeout(DEADLINE_S):
            for old in (*load.answers[:3], *load.answers[-3:]):
                again = await load.ask(old.command, old.key)
                assert again.is_repeat and same_answer(again, old.reply)
        load.go_on()

    under_load(ledger, work)


# -- clock -----------------------------------------------------------------------------------------


class SkewedEngine:
    """The only engine of a cluster; its wall clock is off by as much as it is told."""

    def __init__(self, made: Cluster, directory: Path) -> None:
        self._file = directory / "skew_ns"
        self.is_off_by(0)
        made.members["engine-b"].stop()
        program = [sys.executable, skewed_engine.__file__, str(self._file)]
        environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
        self.member = made.replace("engine-a", program, environment)

    def is_off_by(self, seconds: float) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(str(int(seconds * SECOND_NS)))
        draft.replace(self._file)

    def restart(self) -> None:
        self.member.kill()


def seconds_of(made: Cluster) -> list[int]:
    """The seconds in the log, in its order."""
    rows = made.database("SELECT state FROM ledger_events ORDER BY notification_id")
    found = [decode_event(payload) for (payload,) in rows if isinstance(payload, bytes)]
    return [event.second for event in found if isinstance(event, events.MiningAllocated)]


def now_s() -> float:
    """The machine's clock, as it is without any skew."""
    return time.clock_gettime(time.CLOCK_REALTIME)


def pace(made: Cluster, during_s: float) -> float:
    """Seconds of the log that pass in one second."""
    began, first = time.monotonic(), seconds_of(made)[-1]
    wait_for(lambda: time.monotonic() - began >= during_s, str)
    return (seconds_of(made)[-1] - first) / (time.monotonic() - began)


@pytest.mark.parametrize("leap_s", [HOUR_S, -HOUR_S])
def test_leap_of_the_clock_is_not_followed_while_the_engine_runs(
    ledger: Cluster, tmp_path: Path, leap_s: int
) -> None:
    engine = SkewedEngine(ledger, tmp_path)
    engine.member.start()

    async def work(load: Load) -> None:
        engine.is_off_by(leap_s)
        await answers_come(load)
        assert 0.6 < await asyncio.to_thread(pace, ledger, 3.0) < 1.4
        await says([engine.member], "it is not followed")
        engine.is_off_by(0)

    under_load(ledger, work)
    assert engine.member.starts == 1
    assert len(seconds_of(ledger)) < DEADLINE_S


def test_start_behind_the_log_stands_still_and_takes_commands(
    ledger: Cluster, tmp_path: Path
) -> None:
    engine = SkewedEngine(ledger, tmp_path)
    engine.member.start()

    async def work(load: Load) -> None:
        # Small steps are followed, and add up.
        for ahead_s in (1.5, 3.0, 4.5, 6.0, 7.5, 9.0):
            engine.is_off_by(ahead_s)
            await until(
                lambda least=ahead_s - 1: seconds_of(ledger)[-1] >= now_s() + least,  # type: ignore[misc]
                engine.member.told,
            )
        engine.is_off_by(0)
        engine.restart()
        await says([engine.member], "behind the log")
        await answers_come(load)
        stood_still_at = seconds_of(ledger)[-1]
        assert stood_still_at > now_s()
        await until(lambda: seconds_of(ledger)[-1] > stood_still_at, engine.member.told)

    auditor = under_load(ledger, work)
    assert len(auditor.epoch_positions) == 2


def test_start_with_a_clock_far_from_the_databases_does_not_lead(
    ledger: Cluster, tmp_path: Path
) -> None:
    engine = SkewedEngine(ledger, tmp_path)
    engine.member.start()

    async def work(load: Load) -> None:
        engine.is_off_by(HOUR_S)
        engine.restart()
        await says([engine.member], "from the database's")
        await until(lambda: engine.member.starts >= 3, lambda: "it does not start again")
        engine.is_off_by(0)
        await answers_come(load)

    under_load(ledger, work)
    assert len(seconds_of(ledger)) < DEADLINE_S
