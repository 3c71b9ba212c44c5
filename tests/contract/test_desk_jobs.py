"""Jobs on real PostgreSQL: one at a time, done by real processes, lost with their runner."""

import asyncio
import os
import sys
import time
from collections.abc import Callable

import pytest

from gateway.desk.desk import Desk
from gateway.desk.jobs import Heard, cancel, queue
from gateway.errors import Refusal
from ops.jobs import Progress, Runner, command_of
from schemas.wire_administration import Job, JobKind
from tests.fixtures.desk import DeskDatabase, actor, running_desk

pytestmark = pytest.mark.services

DEADLINE_SECONDS = 20.0
SAYS_AND_ENDS = """
import sys
for done in (1, 2, 3):
    print(f"market: {done} of 4", file=sys.stderr, flush=True)
print('{"equal": true}')
sys.exit(int(sys.argv[1]))
"""
WAITS = "import sys, time\nprint('begun', file=sys.stderr, flush=True)\ntime.sleep(600)"


async def asked(desk: Desk, kind: JobKind = "rebuild") -> Job:
    async with desk.database.transaction() as connection:
        return await queue(connection, actor("ann"), kind, "market")


def runner_of(desk: Desk, *command: str) -> Runner:
    return Runner(desk, dict(os.environ), lambda _: (sys.executable, "-c", *command))


async def until(desk: Desk, job: Job, holds: Callable[[Job, str], bool]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        found = await desk.jobs.get(job.id)
        if holds(found.job, "\n".join(found.log)):
            return
        assert time.monotonic() < end, found
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("code", "state"), [(0, "done"), (1, "found_wrong"), (3, "failed")])
def test_command_of_a_job_is_run_and_its_words_are_kept(
    desk_database: DeskDatabase, code: int, state: str
) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            await asked(desk)
            runner = runner_of(desk, SAYS_AND_ENDS, str(code))
            job = await runner.next_job()
            assert job is not None
            await runner.work(job, asyncio.Event())
            found = await desk.jobs.get(job.id)
            assert (found.job.state, found.job.exit_code) == (state, code)
            assert found.result == '{"equal": true}\n'
            assert found.log[-1] == "market: 3 of 4"
            assert await runner.next_job() is None

    asyncio.run(story())


def test_one_of_a_kind_and_name_at_a_time(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            first = await asked(desk)
            with pytest.raises(Refusal) as caught:
                await asked(desk)
            assert caught.value.code == "job_running"
            await asked(desk, "compare_views")
            claimed = await asyncio.gather(*(desk.jobs.claim(name) for name in "abc"))
            assert sorted(job.id for job in claimed if job) == [first.id, first.id + 2]

    asyncio.run(story())


def test_running_job_is_cancelled_and_its_process_ends(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            await asked(desk)
            runner = runner_of(desk, WAITS)
            job = await runner.next_job()
            assert job is not None
            working = asyncio.create_task(runner.work(job, asyncio.Event()))
            await until(desk, job, lambda _, log: "begun" in log)
            async with desk.database.transaction() as connection:
                assert (await cancel(connection, actor("ben"), job.id)).is_cancelling
            await working
            assert (await desk.jobs.get(job.id)).job.state == "cancelled"

    asyncio.run(story())


def test_waiting_job_is_cancelled_at_once(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            job = await asked(desk)
            async with desk.database.transaction() as connection:
                assert (await cancel(connection, actor("ben"), job.id)).state == "cancelled"
            assert await desk.jobs.claim("a") is None
            async with desk.database.transaction() as connection:
                with pytest.raises(Refusal) as caught:
                    await cancel(connection, actor("ben"), 999)
            assert caught.value.code == "unknown_job"

    asyncio.run(story())


def test_job_of_a_silent_runner_is_lost_and_may_be_asked_for_again(
    desk_database: DeskDatabase,
) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            job = await asked(desk)
            assert await desk.jobs.claim("gone") is not None
            assert await desk.jobs.lose_silent() == []
            desk_database.change("UPDATE jobs SET heard_at = now() - interval '20 seconds'")
            assert await desk.jobs.lose_silent() == [job.id]
            said = Heard(progress_ppm=1, eta_seconds=None, log_tail="")
            assert not await desk.jobs.heard(job.id, "gone", said)
            again = await asked(desk)
            assert again.id > job.id
            states = [
                one.state for one in (await desk.jobs.page(state=None, before=None, limit=9)).items
            ]
            assert states == ["queued", "lost"]

    asyncio.run(story())


def test_stopping_runner_ends_its_process_and_says_that_the_job_is_lost(
    desk_database: DeskDatabase,
) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            await asked(desk)
            runner, stop = runner_of(desk, WAITS), asyncio.Event()
            job = await runner.next_job()
            assert job is not None
            working = asyncio.create_task(runner.work(job, stop))
            await until(desk, job, lambda _, log: "begun" in log)
            stop.set()
            await working
            assert (await desk.jobs.get(job.id)).job.state == "lost"

    asyncio.run(story())


def test_commands_are_those_that_an_operator_types() -> None:
    told = {
        kind: command_of(_job(kind))[3:]
        for kind in ("rebuild", "compare_views", "verify_log", "verify_topic")
    }
    assert told == {
        "rebuild": ("rebuild", "all", "--json"),
        "compare_views": ("rebuild", "all", "--verify-only", "--json"),
        "verify_log": ("snapshot", "--check", "--json"),
        "verify_topic": ("relay", "--verify", "--json"),
    }


def test_progress_is_read_from_the_lines_of_all_tasks() -> None:
    now = [100.0]
    progress = Progress(lambda: now[0])
    assert progress.heard().progress_ppm == 0
    for line in ("market: 1,000 of 4,000", "accounts/0: 500 of 6,000", "something else"):
        progress.read(line)
    now[0] += 15
    said = progress.heard()
    assert (said.progress_ppm, said.eta_seconds) == (150_000, 85)
    assert said.log_tail.splitlines()[-1] == "something else"


def _job(kind: JobKind) -> Job:
    return Job(
        id=1,
        kind=kind,
        name="all",
        state="queued",
        requested_by="ann",
        requested_time=0,
        started_time=None,
        finished_time=None,
        progress_ppm=0,
        eta_seconds=None,
        is_cancelling=False,
        exit_code=None,
    )
