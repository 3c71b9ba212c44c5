"""A whole stack from Python: start it, wait for it, stop it, clean up after a killed one.

`running_stack` holds a stack for as long as its block runs (durian up, durian demo, tests);
`start_detached` leaves one behind. What a part does inside is the part's affair.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from ops.child import log_tail
from ops.config import Config
from ops.datadir import DataDir, open_data_dir
from ops.errors import StackBusy, StackNotReady
from ops.plan import StackOptions, plan_stack
from ops.ports import PortReservations
from ops.processes import ProcessId, end_processes, find_marked
from ops.status import StackStatus, read_state, running_state
from ops.supervisor import Supervisor

READY_DEADLINE_S = 120.0
STOP_DEADLINE_S = 90.0
LEFTOVERS_GRACE_S = 20.0
POLL_INTERVAL_S = 0.05
LOG_TAIL_LINES = 15
SUPERVISOR_LOG = "supervisor"


class Stack:
    """A stack under way. config: for clients of it, with the owner's URL of PostgreSQL."""

    def __init__(self, supervisor: Supervisor, data_dir: DataDir, config: Config) -> None:
        self.data_dir = data_dir
        self.config = config
        self._supervisor = supervisor
        self._running = asyncio.create_task(supervisor.run(), name="supervisor")

    def status(self) -> StackStatus:
        return self._supervisor.status()

    def stop_requested(self) -> bool:
        return self._supervisor.stop_requested()

    def request_stop(self) -> None:
        """Begin to stop all parts; the second call kills those that still run."""
        self._supervisor.request_stop()

    async def wait_ready(self, timeout_s: float = READY_DEADLINE_S) -> None:
        """Return once every part is ready; StackNotReady, with the reason, if that takes longer."""
        if not await self._supervisor.wait_ready(timeout_s):
            raise StackNotReady(explain_not_ready(self.status(), self.data_dir))

    async def wait_stopped(self) -> None:
        """Return when no part runs any more; the stop has to be requested by somebody."""
        await asyncio.shield(self._running)


@contextlib.asynccontextmanager
async def running_stack(
    config: Config,
    options: StackOptions,
    *,
    on_change: Callable[[StackStatus], None] | None = None,
) -> AsyncIterator[Stack]:
    """Start a stack, hand it over at once (see Stack.wait_ready), stop it at the block's end.

    Call it from the main thread: parts die with the thread that started them. Raises StackBusy
    if another supervisor holds the directory, ServerUnavailable if a program is missing.
    """
    data_dir = open_data_dir(options.data_dir)
    with _sole_supervisor(data_dir), contextlib.closing(PortReservations()) as reservations:
        await asyncio.to_thread(end_leftovers, data_dir)
        plan = await asyncio.to_thread(plan_stack, config, options, data_dir, reservations)
        supervisor = Supervisor(plan.parts, data_dir, notices=plan.notices, on_change=on_change)
        stack = Stack(supervisor, data_dir, plan.client_config)
        try:
            yield stack
        finally:
            if not supervisor.stop_requested():  # asked twice, it would kill
                supervisor.request_stop()
            await stack.wait_stopped()


def start_detached(
    arguments: Sequence[str],
    *,
    data_dir: DataDir,
    timeout_s: float = READY_DEADLINE_S,
    on_change: Callable[[StackStatus], None] | None = None,
) -> StackStatus:
    """Run `python -m ops ARGUMENTS` in the background and return once its stack is ready.

    Raises StackNotReady, after ending it, if it is not ready in time or gives up itself.
    """
    with data_dir.log_file(SUPERVISOR_LOG).open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "ops", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + timeout_s
    shown: StackStatus | None = None
    while supervisor.poll() is None and time.monotonic() < deadline:
        status = running_state(data_dir)
        if status is not None and status.supervisor.pid == supervisor.pid and status != shown:
            shown = status
            if on_change is not None:
                on_change(status)
            if status.ready:
                return status
        time.sleep(POLL_INTERVAL_S)
    if supervisor.poll() is not None:
        tail = "\n".join(log_tail(data_dir, SUPERVISOR_LOG, lines=LOG_TAIL_LINES))
        raise StackNotReady(f"the stack gave up:\n{tail}")
    reason = explain_not_ready(shown, data_dir) if shown else "the supervisor did not begin"
    supervisor.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        supervisor.wait(STOP_DEADLINE_S)
    end_leftovers(data_dir)
    raise StackNotReady(reason)


def stop_stack(data_dir: DataDir, *, on_change: Callable[[StackStatus], None]) -> bool:
    """Stop the stack of a data directory and whatever a killed one left; False if none ran.

    Raises StackNotReady if it still runs after STOP_DEADLINE_S.
    """
    status = running_state(data_dir)
    if status is None:
        return bool(end_leftovers(data_dir))
    os.kill(status.supervisor.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_DEADLINE_S
    while (now := running_state(data_dir)) is not None:
        if now != status:
            on_change(status := now)
        if time.monotonic() > deadline:
            raise StackNotReady(f"the stack still runs after {STOP_DEADLINE_S:.0f} s")
        time.sleep(POLL_INTERVAL_S)
    end_leftovers(data_dir)
    return True


def explain_not_ready(status: StackStatus, data_dir: DataDir) -> str:
    """Which parts are not ready and why, with the ends of the logs of those that failed."""
    lines = []
    for part in status.parts:
        if part.ready:
            continue
        lines.append(f"{part.name}: {part.state} {part.text}".rstrip())
        if part.state != "waiting" and (part.restarts or part.state == "starting"):
            lines.append(f"  end of {data_dir.log_file(part.name)}:")
            tail = log_tail(data_dir, part.name, lines=LOG_TAIL_LINES)
            lines.extend(f"  | {line}" for line in tail or ["(empty)"])
    return "not ready:\n" + "\n".join(lines)


def end_leftovers(data_dir: DataDir) -> list[ProcessId]:
    """End processes that a killed supervisor left; call it only while none is running."""
    last = read_state(data_dir)
    recorded = [part.process for part in last.parts if part.process] if last else []
    found = {process.pid: process for process in (*recorded, *find_marked(data_dir.root))}
    return end_processes(found.values(), grace_s=LEFTOVERS_GRACE_S)


@contextlib.contextmanager
def _sole_supervisor(data_dir: DataDir) -> Iterator[None]:
    # The kernel drops the lock with its holder, however that dies; nobody has to clean it up.
    with (data_dir.run / "supervisor.lock").open("w") as holder:
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackBusy(
                f"a stack already runs in {data_dir.root}; "
                "`durian view` shows it, `durian down` stops it"
            ) from None
        yield
