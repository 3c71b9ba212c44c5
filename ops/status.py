"""What is known about a running stack, as it lies in run/state.json and as `status` shows it.

Written by the supervisor on every change, read by everyone else; nothing here asks a process.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from ops.datadir import DataDir, write_atomic
from ops.processes import ProcessId, is_alive

PartState = Literal["waiting", "starting", "ready", "done", "failed", "stopping", "stopped"]


class PartStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One supervised process. pid: 0 while there is none, and for servers that are not ours.

    since_ms: Unix milliseconds of the last change of state. restarts: how often it had to be
    started again since `up`. text: what the part last said about itself.
    addresses: the names it is reachable under, each with its url and the like.
    """

    name: str
    state: PartState
    ready: bool = False
    process: ProcessId | None = None
    restarts: int = 0
    text: str = ""
    since_ms: int = 0
    addresses: Mapping[str, Mapping[str, str]] = {}


class StackStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A whole stack. stopping: it is on its way down.

    notices: lines for people, such as a port that was replaced.
    """

    data: str
    supervisor: ProcessId
    ready: bool
    stopping: bool = False
    parts: tuple[PartStatus, ...]
    notices: tuple[str, ...] = ()


def write_state(data_dir: DataDir, status: StackStatus) -> None:
    # Addresses carry passwords: for the owner's eyes only.
    write_atomic(data_dir.state_file, msgspec.json.encode(status), mode=0o600)


def read_state(data_dir: DataDir) -> StackStatus | None:
    """The last state written, whether or not its supervisor still lives; None before any."""
    try:
        return msgspec.json.decode(data_dir.state_file.read_bytes(), type=StackStatus)
    except FileNotFoundError:
        return None


def running_state(data_dir: DataDir) -> StackStatus | None:
    """The state of a stack whose supervisor is alive; None if there is no such stack."""
    status = read_state(data_dir)
    return status if status is not None and is_alive(status.supervisor) else None


def describe(status: StackStatus, *, alive: bool) -> dict[str, object]:
    """The shape of `durian status --json`: every address by name, passwords included.

    A part reachable under several names (one process, three services) appears under each.
    """
    shown: dict[str, object] = {}
    for part in status.parts:
        for name, address in (part.addresses or {part.name: {}}).items():
            shown[name] = {
                **address,
                "ready": part.ready and alive,
                "state": part.state if alive else "stopped",
                "part": part.name,
                "pid": part.process.pid if part.process is not None and alive else None,
                "restarts": part.restarts,
                "since_ms": part.since_ms,
                "status": part.text,
            }
    return {"data": status.data, "ready": status.ready and alive, "parts": shown}
