"""`durian bench gateway`: what 12,000 phones cost `durian serve stream`, and what they get.

The real gateway on a private Redis whose views the projections' own folds write, one core for it
and one for everything else. Beside it, in turns and with the same phones, a plain `websockets`
broadcast and Socket.IO, which the specification named. Linux only: it reads /proc and TCP_INFO.
"""

import contextlib
import sys
from collections.abc import Callable, Sequence

import msgspec

from ops.bench import gateway_runs
from ops.bench.engine_servers import private_servers
from ops.bench.gateway_frames import ENGINE_JOINED
from ops.bench.gateway_meters import raise_open_files
from ops.bench.gateway_report import Results, notes_of, rows_of
from ops.bench.gateway_runs import OURS, SOCKETIO, WEBSOCKETS, Contestant, Paced, Sizes
from ops.bench.gateway_servers import Surroundings, install_socketio
from ops.bench.report import Report
from ops.demo.progress import Tasks
from ops.errors import ServerUnavailable

# Neither the gateway nor the generator needs more besides their connections.
OTHER_FILES = 500
_SHARES = {"turns": 0.35, "flat out": 0.05, "processes": 0.1, "stalled": 0.2, "screens": 0.3}
_ALONE_SHARE = 0.2
FLAT_OUT_SECONDS_MIN = 1.0


def run_gateway(seconds: float, tasks: Tasks, sizes: Sizes | None = None) -> Report:
    """Measure for about `seconds`, longer if `sizes` demands it; setting up comes on top.

    Raises ServerUnavailable.
    """
    if sys.platform != "linux":
        raise ServerUnavailable("this benchmark needs Linux")
    asked = sizes or Sizes()
    connections = min(asked.connections, raise_open_files() - OTHER_FILES)
    stalled = min(asked.stalled, connections)
    sizes = msgspec.structs.replace(asked, connections=connections, stalled=stalled)
    with private_servers() as servers, contextlib.ExitStack() as stack:
        around = Surroundings(servers, stack, connections)
        results = _measure(around, seconds, tasks, sizes)
        notes = notes_of(around, asked, sizes, results)
    return Report(name="gateway", rows=rows_of(results, sizes), notes=notes)


def _measure(around: Surroundings, seconds: float, tasks: Tasks, sizes: Sizes) -> Results:
    contestants, notes = _references(around, sizes.references)
    runs = sizes.rounds * (1 + len(contestants)) + 2 * bool(sizes.processes) + 2
    told, done = tasks.task("runs", runs), 0

    def finished() -> None:
        nonlocal done
        done += 1
        told(done)

    turns = _take_turns(around, contestants, seconds, sizes, finished)
    split = part = None
    if sizes.processes:
        window = _whole(seconds * _SHARES["processes"] / 2, sizes)
        processes, share = sizes.processes, sizes.connections // sizes.processes
        split = gateway_runs.run_ours(
            around, sizes.connections, seconds=window, processes=processes
        )
        finished()
        part = gateway_runs.run_ours(around, share, seconds=window)
        finished()
    busy = seconds * _SHARES["stalled"]
    stalled = gateway_runs.run_stalled(
        around,
        sizes.stalled,
        alone_seconds=busy * _ALONE_SHARE,
        beside_seconds=max(busy * (1 - _ALONE_SHARE), sizes.stalled_seconds),
    )
    finished()
    screens = gateway_runs.run_screens(
        around,
        sizes.connections,
        seconds=_whole(seconds * _SHARES["screens"], sizes),
        screens=sizes.screens,
    )
    finished()
    return Results(
        turns=turns, split=split, part=part, stalled=stalled, screens=screens, notes=notes
    )


def _take_turns(
    around: Surroundings,
    contestants: Sequence[Contestant],
    seconds: float,
    sizes: Sizes,
    finished: Callable[[], None],
) -> dict[str, list[Paced]]:
    each = sizes.rounds * (1 + len(contestants))
    window = _whole(seconds * _SHARES["turns"] / each, sizes)
    flat_out = max(seconds * _SHARES["flat out"] / sizes.rounds, FLAT_OUT_SECONDS_MIN)
    found: dict[str, list[Paced]] = {OURS: []}
    for contestant in contestants:
        found[contestant.name] = []
    for _ in range(sizes.rounds):
        ours = gateway_runs.run_ours(around, sizes.connections, seconds=window, flat_out=flat_out)
        found[OURS].append(ours)
        finished()
        for contestant in contestants:
            measured = gateway_runs.run_reference(
                around, contestant, sizes.connections, seconds=window
            )
            found[contestant.name].append(measured)
            finished()
    return found


def _whole(seconds: float, sizes: Sizes) -> float:
    # A window begins between two ticks and ends between two.
    return max(round(seconds), sizes.window_seconds)


def _references(
    around: Surroundings, names: tuple[str, ...]
) -> tuple[list[Contestant], tuple[str, ...]]:
    """Those that are there, and what is to be said of those that are not."""
    found: list[Contestant] = []
    notes: tuple[str, ...] = ()
    if WEBSOCKETS in names:
        found.append(Contestant(name="websockets broadcast", start=around.broadcast, path="/"))
    if SOCKETIO in names:
        missing = install_socketio(around.socketio_home)
        if missing:
            notes = (f"LEFT OUT: {SOCKETIO} was not measured: {missing}.",)
        else:
            found.append(
                Contestant(
                    name="Node Socket.IO",
                    start=around.socketio,
                    path="/socket.io/?EIO=4&transport=websocket",
                    opens_with=ENGINE_JOINED,
                )
            )
    return found, notes
