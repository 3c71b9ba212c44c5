"""Runs the parts of a stack: starts them in dependency order, restarts the dead, stops them all.

Knows processes and nothing of what they do. No part outlives it: a part gets a signal from the
kernel when the supervisor dies, and one that ignores it is ended by the next start. One of the
two files allowed a broad `except`: whatever goes wrong with one part is that part's failure.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ops.child import Child, Notifications, socket_directory
from ops.datadir import DataDir
from ops.errors import UsageError
from ops.part import Part
from ops.processes import ProcessId, identify
from ops.status import PartState, PartStatus, StackStatus, write_state

RESTART_DELAY_FIRST_S = 0.1
RESTART_DELAY_MAX_S = 5.0
# A part that ran this long is forgiven its earlier deaths.
RESTART_FORGIVEN_AFTER_S = 10.0
PROBE_INTERVAL_S = 0.05
EXTERNAL_PROBE_INTERVAL_S = 2.0
# Texts may come by the hundred a second; the file is written that often only.
TEXT_INTERVAL_S = 0.2


class _Life:
    """What changes about one part while the supervisor runs."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.status = PartStatus(name=part.name, state="waiting", addresses=part.addresses)
        self.child: Child | None = None
        self.ready = asyncio.Event()
        self.finished = asyncio.Event()


class Supervisor:
    """Runs parts until told to stop. on_change hears every new status, in the event loop."""

    def __init__(
        self,
        parts: Sequence[Part],
        data_dir: DataDir,
        *,
        notices: Sequence[str] = (),
        on_change: Callable[[StackStatus], None] | None = None,
    ) -> None:
        _check_dependencies(parts)
        self._data_dir = data_dir
        self._notices = tuple(notices)
        self._on_change = on_change
        self._lives = {part.name: _Life(part) for part in parts}
        self._users = _find_users(parts)
        self._stop = asyncio.Event()
        self._news = asyncio.Event()
        self._pending_text: asyncio.TimerHandle | None = None
        self._identity = identify(os.getpid()) or ProcessId(os.getpid(), "")

    def status(self) -> StackStatus:
        parts = tuple(life.status for life in self._lives.values())
        return StackStatus(
            data=str(self._data_dir.root),
            supervisor=self._identity,
            ready=all(part.ready for part in parts) and not self._stop.is_set(),
            stopping=self._stop.is_set(),
            parts=parts,
            notices=self._notices,
        )

    def stop_requested(self) -> bool:
        return self._stop.is_set()

    def request_stop(self) -> None:
        """Begin stopping; asked a second time, kill what still runs."""
        if self._stop.is_set():
            for life in self._lives.values():
                if life.child is not None:
                    life.child.kill()
        self._stop.set()
        self._publish()

    async def run(self) -> None:
        """Run until request_stop, and then until every part is gone."""
        self._publish()
        with socket_directory(self._data_dir) as sockets:
            async with asyncio.TaskGroup() as tasks:
                for life in self._lives.values():
                    tasks.create_task(self._supervise(life, sockets / f"{life.part.name}.sock"))
        if self._pending_text is not None:
            self._pending_text.cancel()
        self._publish()

    async def wait_ready(self, timeout_s: float) -> bool:
        """True once every part is ready; False if that takes longer, or a stop has begun."""
        deadline = time.monotonic() + timeout_s
        while not self.status().ready:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self._stop.is_set():
                return False
            try:
                await asyncio.wait_for(self._news.wait(), left_s)
            except TimeoutError:
                return False
        return not self._stop.is_set()

    async def _supervise(self, life: _Life, notify_socket: Path) -> None:
        try:
            if await self._wait_unless_stopped(
                *(self._lives[n].ready for n in life.part.depends_on)
            ):
                if life.part.argv:
                    await self._keep_running(life, notify_socket)
                else:
                    await self._keep_probing(life)
        finally:
            if life.status.state != "done":
                self._update(life, state="stopped")
            life.finished.set()

    async def _keep_running(self, life: _Life, notify_socket: Path) -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Notifications(
                on_ready=lambda: self._become_ready(life),
                on_text=lambda text: self._set_text(life, text),
            ),
            local_addr=str(notify_socket),
            family=socket.AF_UNIX,
        )
        try:
            await self._restart_until_stopped(life, notify_socket)
        finally:
            transport.close()

    async def _restart_until_stopped(self, life: _Life, notify_socket: Path) -> None:
        delay_s = RESTART_DELAY_FIRST_S
        while not self._stop.is_set():
            started_s = time.monotonic()
            try:
                self._update(life, state="starting")
                ending = _describe_exit(await self._run_once(life, notify_socket))
            except Exception as error:
                ending = str(error) or type(error).__name__
            if life.part.one_shot and not ending:
                self._become_ready(life, state="done")
                return
            if self._stop.is_set():
                return
            if time.monotonic() - started_s >= RESTART_FORGIVEN_AFTER_S:
                delay_s = RESTART_DELAY_FIRST_S
            restarts = life.status.restarts + 1
            self._update(life, state="failed", text=ending or "ended", restarts=restarts)
            await self._wait_stop(delay_s)
            delay_s = min(delay_s * 2, RESTART_DELAY_MAX_S)

    async def _run_once(self, life: _Life, notify_socket: Path) -> int:
        if life.part.prepare is not None:
            await asyncio.to_thread(life.part.prepare)
        life.child = child = await Child.start(life.part, self._data_dir, notify_socket)
        # A quick child may have said READY=1 before we hear that it was started.
        known = life.status
        self._update(life, state=known.state, process=child.identity, text=known.text)
        asking = asyncio.create_task(self._ask_until_ready(life))
        exited = asyncio.create_task(child.wait())
        stopping = asyncio.create_task(self._stop_after_users(life))
        try:
            await asyncio.wait({exited, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                self._update(life, state="stopping", process=child.identity)
                await child.stop()
            return await exited
        finally:
            child.kill()
            for task in (asking, stopping, exited):
                task.cancel()
            life.child = None

    async def _stop_after_users(self, life: _Life) -> None:
        await self._stop.wait()
        for name in self._users[life.part.name]:
            await self._lives[name].finished.wait()

    async def _ask_until_ready(self, life: _Life) -> None:
        while life.part.probe is not None and not life.ready.is_set():
            try:
                if await life.part.probe():
                    self._become_ready(life)
            except Exception as error:
                self._set_text(life, f"probe: {error}")
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def _keep_probing(self, life: _Life) -> None:
        assert life.part.probe is not None, f"{life.part.name}: a server of others needs a probe"
        while not self._stop.is_set():
            try:
                answers = await life.part.probe()
            except Exception as error:
                answers = False
                self._set_text(life, f"probe: {error}")
            if answers and not life.ready.is_set():
                self._become_ready(life)
            elif not answers and life.status.state != "failed":
                self._update(life, state="failed", text="does not answer")
            await self._wait_stop(EXTERNAL_PROBE_INTERVAL_S)

    def _become_ready(self, life: _Life, *, state: PartState = "ready") -> None:
        # A datagram may outlive the process that sent it.
        if life.ready.is_set() or (life.part.argv and life.status.state != "starting"):
            return
        self._update(life, state=state, process=life.status.process if life.child else None)

    def _set_text(self, life: _Life, text: str) -> None:
        life.status = msgspec.structs.replace(life.status, text=text)
        if self._pending_text is None:
            loop = asyncio.get_running_loop()
            self._pending_text = loop.call_later(TEXT_INTERVAL_S, self._publish)

    def _update(
        self,
        life: _Life,
        *,
        state: PartState,
        process: ProcessId | None = None,
        text: str = "",
        restarts: int | None = None,
    ) -> None:
        is_ready = state in ("ready", "done")
        (life.ready.set if is_ready else life.ready.clear)()
        life.status = msgspec.structs.replace(
            life.status,
            state=state,
            ready=is_ready,
            process=process,
            text=life.status.text if is_ready and not text else text,
            restarts=life.status.restarts if restarts is None else restarts,
            since_ms=time.time_ns() // 1_000_000,
        )
        self._publish()

    def _publish(self) -> None:
        self._pending_text = None
        status = self.status()
        write_state(self._data_dir, status)
        if self._on_change is not None:
            self._on_change(status)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _wait_stop(self, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), timeout_s)
        except TimeoutError:
            return

    async def _wait_unless_stopped(self, *events: asyncio.Event) -> bool:
        while not self._stop.is_set():
            if all(event.is_set() for event in events):
                return True
            await self._news.wait()
        return False


def _describe_exit(code: int) -> str:
    if code == 0:
        return ""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _find_users(parts: Sequence[Part]) -> dict[str, set[str]]:
    """For each part, everything that needs it directly or through others."""
    needs = {part.name: {*part.depends_on, *part.talks_to} for part in parts}

    def reach(name: str, seen: set[str]) -> set[str]:
        for needed in needs[name] - seen:
            seen.add(needed)
            reach(needed, seen)
        return seen

    reached = {name: reach(name, set()) for name in needs}
    return {name: {user for user in needs if name in reached[user]} for name in needs}


def _check_dependencies(parts: Sequence[Part]) -> None:
    known: set[str] = set()
    # Listed in order, so that starting has no circle.
    for part in parts:
        if unknown := set(part.depends_on) - known:
            raise UsageError(f"{part.name} depends on {sorted(unknown)}, not listed before it")
        known.add(part.name)
    for name, users in _find_users(parts).items():
        if name in users:
            raise UsageError(f"{name} would wait for itself when stopping")
