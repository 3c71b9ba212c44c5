"""One running process of a part, and the socket on which it tells how it is.

Starts, signals and waits; decides nothing. The child writes to its part's log file, has a
session of its own (Ctrl-C reaches the supervisor only) and dies with the supervisor.
"""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ops.datadir import DataDir
from ops.part import Part
from ops.processes import ProcessId, dies_with_parent, identify

LOG_BYTES_MAX = 16 * 1024 * 1024
LOG_TAIL_BYTES_MAX = 64 * 1024
# What every system we run on accepts as the path of a unix socket.
SOCKET_PATH_BYTES_MAX = 100
_LONGEST_SOCKET_NAME = "projector-accounts.sock"


class Child:
    """A process of `part`; wait() may be awaited by several tasks."""

    def __init__(self, part: Part, process: asyncio.subprocess.Process) -> None:
        self._part = part
        self._process = process
        self.identity: ProcessId | None = identify(process.pid)

    @classmethod
    async def start(cls, part: Part, data_dir: DataDir, notify_socket: Path) -> "Child":
        uid, gid = part.run_as or (None, None)
        environment = {
            **part.environment,
            "DURIAN_DATA": str(data_dir.root),
            "DURIAN_PART": part.name,
        }
        # Servers know sd_notify too, and would call themselves ready before the probe agrees.
        if part.probe is None:
            environment["NOTIFY_SOCKET"] = str(notify_socket)
        log_file = data_dir.log_file(part.name)
        _rotate(log_file)
        with log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *part.argv,
                env=environment,
                cwd=part.working_dir,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=uid,
                group=gid,
                extra_groups=None if gid is None else [gid],
                preexec_fn=dies_with_parent(part.stop_signal),
            )
        return cls(part, process)

    async def wait(self) -> int:
        """The exit code; negative for the signal that ended it."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Ask it to end, and kill it when its time is over."""
        self._signal(self._part.stop_signal)
        try:
            await asyncio.wait_for(self._process.wait(), self._part.stop_timeout_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, order: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(order)


class Notifications(asyncio.DatagramProtocol):
    """Receives sd_notify datagrams of one part. Source: sd_notify(3)."""

    def __init__(self, *, on_ready: Callable[[], None], on_text: Callable[[str], None]) -> None:
        self._on_ready = on_ready
        self._on_text = on_text

    def datagram_received(self, data: bytes, addr: object) -> None:
        for line in data.decode(errors="replace").splitlines():
            name, _, value = line.partition("=")
            if name == "STATUS":
                self._on_text(value)
            elif name == "READY" and value == "1":
                self._on_ready()


@contextlib.contextmanager
def socket_directory(data_dir: DataDir) -> Iterator[Path]:
    """A directory for the notify sockets: in the data directory, or in /tmp if its path is long."""
    inside = data_dir.run / "notify"
    if len(str(inside / _LONGEST_SOCKET_NAME).encode()) <= SOCKET_PATH_BYTES_MAX:
        inside.mkdir(mode=0o700, exist_ok=True)
        try:
            yield inside
        finally:
            shutil.rmtree(inside)
        return
    with tempfile.TemporaryDirectory(prefix="durian-", dir="/tmp") as outside:
        yield Path(outside)


def log_tail(data_dir: DataDir, part: str, *, lines: int) -> list[str]:
    """The last lines a part wrote; none if it has not written any."""
    try:
        with data_dir.log_file(part).open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - LOG_TAIL_BYTES_MAX))
            return log.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def _rotate(log_file: Path) -> None:
    if log_file.exists() and log_file.stat().st_size > LOG_BYTES_MAX:
        log_file.replace(log_file.with_suffix(".log.1"))
