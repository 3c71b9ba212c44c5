"""The description of one supervised process; running it is ops.supervisor's work."""

import signal
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec

Probe = Callable[[], Coroutine[Any, Any, bool]]

STOP_TIMEOUT_S = 10.0


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One process to run; an empty argv is somebody else's server, which is only probed.

    depends_on: parts that must be ready before this one starts. talks_to: parts it can start
    without and uses while it runs. It is stopped before all of both.
    prepare: blocking work before every start, run in a thread. probe: asked until True; without
    one the process says READY=1 itself. one_shot: ready when it has ended with exit code 0, and
    not started again. run_as: (uid, gid) to change to.
    addresses: the names the part is reachable under; none means its own name without an address.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = {}
    depends_on: tuple[str, ...] = ()
    talks_to: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None
    probe: Probe | None = None
    one_shot: bool = False
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = STOP_TIMEOUT_S
    working_dir: Path = Path("/")
    run_as: tuple[int, int] | None = None
    addresses: Mapping[str, Mapping[str, str]] = {}
