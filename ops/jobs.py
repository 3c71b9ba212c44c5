"""The part that does jobs: claims one at a time, runs its command as a child, tells how far it is.

A job is a `durian` command, so that what an administrator asks for over HTTP is what an operator
types. The child dies with this process; a job whose runner is gone is lost and may be asked for
again.
"""

import asyncio
import contextlib
import logging
import re
import secrets
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from gateway.desk.desk import Desk
from gateway.desk.jobs import LOG_LINES_MAX, SILENT_SECONDS_MAX, Ended, Heard
from gateway.errors import DatabaseUnavailable
from ops.config import Config, inherited_environment, require
from ops.desk_access import desk
from ops.errors import Exit
from ops.logs import configure_logs
from ops.notify import Notifier
from ops.processes import dies_with_parent
from ops.wiring import stop_on_signals
from schemas.wire_administration import Job, JobState

LOOK_SECONDS: Final = 1.0
TELL_SECONDS: Final = 2.0
STOP_SECONDS_MAX: Final = 10.0
# Ends its work before others may take it for lost.
UNHEARD_SECONDS_MAX: Final = SILENT_SECONDS_MAX - 5
RUNNER_BYTES: Final = 6
LINE_BYTES_MAX: Final = 1 << 20
MILLION: Final = 1_000_000

_DONE_OF = re.compile(r"(.+): ([\d,]+) of ([\d,]+)\s*")
_STATES: Final[Mapping[int, JobState]] = {Exit.OK: "done", Exit.WRONG: "found_wrong"}

log = logging.getLogger("durian")

# The arguments after the program's name.
CommandOf = Callable[[Job], tuple[str, ...]]


async def run_jobs(config: Config) -> None:
    """Do jobs until SIGTERM or SIGINT; one that is under way then is lost."""
    configure_logs(config)
    stop = asyncio.Event()
    stop_on_signals(stop.set)
    notifier = Notifier(config.notify_socket)
    async with desk(config) as found:
        runner = Runner(found, child_environment(config))
        notifier.ready("waits for jobs")
        while not stop.is_set():
            try:
                job = await runner.next_job()
                if job is not None:
                    notifier.status(f"job {job.id}: {job.kind} {job.name}")
                    await runner.work(job, stop)
                    notifier.status("waits for jobs")
                    continue
            except DatabaseUnavailable as exc:
                log.warning("jobs wait for their database: %s", exc)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)


def command_of(job: Job) -> tuple[str, ...]:
    """What an operator would type for it."""
    durian = (sys.executable, "-m", "ops")
    match job.kind:
        case "rebuild":
            return (*durian, "rebuild", job.name, "--json")
        case "compare_views":
            return (*durian, "rebuild", job.name, "--verify-only", "--json")
        case "verify_log":
            return (*durian, "snapshot", "--check", "--json")
        case "verify_topic":
            return (*durian, "relay", "--verify", "--json")


def child_environment(config: Config) -> dict[str, str]:
    """With the owner's URLs, and without what is this part's alone."""
    return {
        **inherited_environment(),
        "DURIAN_POSTGRES_URL": require(config, "postgres_url"),
        "DURIAN_HISTORY_URL": require(config, "history_url"),
    }


class Progress:
    """What a command's lines on standard error say of how far it is."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self._tasks: dict[str, tuple[int, int]] = {}
        self.lines: deque[str] = deque(maxlen=LOG_LINES_MAX)

    def read(self, line: str) -> None:
        """Lines such as `market: 1,200 of 4,000` count, all are kept for a while."""
        self.lines.append(line)
        told = _DONE_OF.fullmatch(line)
        if told is not None:
            done, total = (int(number.replace(",", "")) for number in told.groups()[1:])
            self._tasks[told[1]] = min(done, total), total

    def heard(self) -> Heard:
        total = sum(total for _, total in self._tasks.values())
        done = sum(done for done, _ in self._tasks.values())
        seconds = self._now() - self._began
        eta = int(seconds * (total - done) / done) if done else None
        return Heard(
            progress_ppm=done * MILLION // total if total else 0,
            eta_seconds=eta,
            log_tail="\n".join(self.lines),
        )


class Runner:
    """Claims and does jobs under a name of its own."""

    def __init__(
        self, desk: Desk, environment: Mapping[str, str], command: CommandOf = command_of
    ) -> None:
        self._jobs = desk.jobs
        self._environment = dict(environment)
        self._command = command
        self.name = secrets.token_hex(RUNNER_BYTES)

    async def next_job(self) -> Job | None:
        """Marks what silent runners left, and claims the oldest that waits."""
        for job_id in await self._jobs.lose_silent():
            log.warning("job %d is lost: its runner was not heard any more", job_id)
        return await self._jobs.claim(self.name)

    async def work(self, job: Job, stop: asyncio.Event) -> None:
        """Run the job's command to its end, or until it is cancelled or taken away, or `stop`."""
        log.info("job %d: %s %s", job.id, job.kind, job.name)
        progress = Progress()
        async with _child(self._command(job), self._environment) as child:
            assert child.stdout is not None and child.stderr is not None
            printed = asyncio.create_task(child.stdout.read())
            reading = asyncio.create_task(_read_lines(child.stderr, progress))
            ended_by = await self._attend(job, child, progress, stop)
            result = (await printed).decode(errors="replace")
            await reading
        code = child.returncode
        assert code is not None, "the child was waited for"
        state = ended_by or _STATES.get(code, "failed")
        ended = Ended(
            state=state,
            exit_code=code if ended_by is None else None,
            result=result,
            log_tail="\n".join(progress.lines),
        )
        await self._jobs.finish(job, self.name, ended)
        log.info("job %d: %s", job.id, state)

    async def _attend(
        self, job: Job, child: Process, progress: Progress, stop: asyncio.Event
    ) -> JobState | None:
        """Tell how far it is until it ends; the state, if it was made to end."""
        exited = asyncio.create_task(child.wait())
        stopping = asyncio.create_task(stop.wait())
        heard_at = time.monotonic()
        try:
            while not exited.done():
                await asyncio.wait(
                    {exited, stopping},
                    timeout=TELL_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if exited.done():
                    break
                if stop.is_set():
                    await _end(child)
                    return "lost"
                try:
                    if not await self._jobs.heard(job.id, self.name, progress.heard()):
                        await _end(child)
                        return "cancelled"
                    heard_at = time.monotonic()
                except DatabaseUnavailable:
                    if time.monotonic() - heard_at > UNHEARD_SECONDS_MAX:
                        await _end(child)
                        return "lost"
        finally:
            stopping.cancel()
        return None


@contextlib.asynccontextmanager
async def _child(
    command: tuple[str, ...], environment: Mapping[str, str]
) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        limit=LINE_BYTES_MAX,
        preexec_fn=dies_with_parent(signal.SIGTERM),
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _read_lines(stream: asyncio.StreamReader, progress: Progress) -> None:
    async for line in stream:
        progress.read(line.decode(errors="replace").rstrip("\n"))


async def _end(child: Process) -> None:
    child.terminate()
    try:
        await asyncio.wait_for(child.wait(), STOP_SECONDS_MAX)
    except TimeoutError:
        child.kill()
        await child.wait()
