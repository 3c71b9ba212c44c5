"""Processes of this machine by identity: is that pid still the one we started, and is it ours?

A pid alone proves nothing, for it may have been given to a stranger since. A process is
recognised by pid + start, or by the DURIAN_PART and DURIAN_DATA that the supervisor put into
its environment. Nothing else is ever signalled.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

PR_SET_PDEATHSIG = 1
POLL_INTERVAL_S = 0.05
_START_TICKS_FIELD = 19  # counted from the state that follows the name's parenthesis, proc(5)


class ProcessId(msgspec.Struct, frozen=True):
    """start: opaque text that no other process with this pid shares, "" if it is unknown."""

    pid: int
    start: str


def identify(pid: int) -> ProcessId | None:
    """The process that has this pid now; None if there is none, or only its zombie."""
    if not Path("/proc/self/stat").exists():
        return _identify_by_ps(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] in "ZX" else ProcessId(pid, f"{boot}:{fields[_START_TICKS_FIELD]}")


def _identify_by_ps(pid: int) -> ProcessId | None:
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, start = answer.stdout.strip().partition(" ")
    return None if not start or state.startswith("Z") else ProcessId(pid, start.strip())


def is_alive(process: ProcessId) -> bool:
    return identify(process.pid) == process


def find_marked(data_dir: Path) -> list[ProcessId]:
    """Processes of ours that carry this data directory in their environment (Linux only)."""
    wanted = f"DURIAN_DATA={data_dir}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        marked = wanted in environment and any(v.startswith(b"DURIAN_PART=") for v in environment)
        if marked and int(entry.name) != os.getpid() and (found_id := identify(int(entry.name))):
            found.append(found_id)
    return found


def end_processes(processes: Iterable[ProcessId], *, grace_s: float) -> list[ProcessId]:
    """SIGTERM, wait up to grace_s, SIGKILL; return those that needed ending.

    Asks for each process' identity right before each signal, so that no stranger is hit.
    """
    alive = [process for process in processes if is_alive(process)]
    ended = list(alive)
    for order, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        for process in alive:
            if is_alive(process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, order)
        deadline = time.monotonic() + wait_s
        while (alive := [p for p in alive if is_alive(p)]) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)
    return ended


def dies_with_parent(order: signal.Signals) -> Callable[[], None] | None:
    """For Popen's preexec_fn: the kernel sends `order` to the child when its parent dies.

    None where the kernel cannot (macOS); there the next start cleans up. Applied after the change
    of user, because that change clears it (prctl(2)).
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(order))
        if os.getppid() != parent:  # the parent died before the kernel was asked
            os._exit(1)

    return ask
