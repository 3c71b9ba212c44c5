"""`durian bench gateway`: what 12,000 phones cost `durian serve stream`, and what they get.

The real gateway on a private Redis whose views the projections' own folds write, one core for it
and one for everything else. Beside it, in turns and with the same phones, a plain `websockets`
broadcast and Socket.IO, which the specification named. Linux only: it reads /proc and TCP_INFO.
"""

import contextlib
import statistics
import sys
from collections.abc import Callable, Sequence

import msgspec

from ops.bench import gateway_runs
from ops.bench.engine_servers import private_servers
from ops.bench.gateway_frames import ENGINE_JOINED
from ops.bench.gateway_meters import TIMESTAMP_BYTES, Traffic, raise_open_files
from ops.bench.gateway_runs import Contestant, Paced, Stalled, screen_name
from ops.bench.gateway_servers import SOCKETIO_PACKAGE, Surroundings
from ops.bench.gateway_tally import Figures
from ops.bench.report import Report, Row, row
from ops.demo.progress import Tasks
from ops.errors import ServerUnavailable

MICRO = 1_000_000
KILO = 1_000
BITS = 8
ACCEPTS_PER_S_MIN = 4_000
CPU_S_PER_MILLION_MAX = 18
P99_MS_MAX, P99_MS_MAX_SPLIT = 200, 80
KB_PER_CONNECTION_MAX = 8
# The plan's own figure for a phone, of payload alone.
SPECIFIED_KBPS = 5.7
KBPS_MAX = {"pulse and account": 1.2, "full screen": 3.0}
PAYLOAD_BYTES_MAX = {"pulse and account": 120}
# Neither the gateway nor the generator needs more besides their connections.
OTHER_FILES = 500
_SHARES = {"turns": 0.35, "flat out": 0.05, "processes": 0.1, "stalled": 0.2, "screens": 0.3}
_ALONE_SHARE = 0.2
WEBSOCKETS, SOCKETIO = "websockets", "Socket.IO"


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """stalled: connections of that run. stalled_seconds: at least, until it shows who is closed.

    processes: of the run with several on one port; 0 leaves it out.
    """

    connections: int = 12_000
    rounds: int = 3
    window_seconds: float = 3
    stalled: int = 1_000
    stalled_seconds: float = 20
    processes: int = 4
    references: tuple[str, ...] = (WEBSOCKETS, SOCKETIO)
    screens: tuple[str, ...] = tuple(gateway_runs.SCREENS)


class _Results(msgspec.Struct, kw_only=True):
    """What the runs came to; turns: by name of who was measured, a Paced for each round."""

    turns: dict[str, list[Paced]] = {}
    split: Paced | None = None
    stalled: Stalled
    screens: Figures
    notes: tuple[str, ...] = ()


def run_gateway(seconds: float, tasks: Tasks, sizes: Sizes | None = None) -> Report:
    """Measure for about `seconds`, longer if `sizes` demands it; setting up comes on top.

    Raises ServerUnavailable.
    """
    if sys.platform != "linux":
        raise ServerUnavailable("this benchmark needs Linux")
    asked = sizes or Sizes()
    connections = min(asked.connections, raise_open_files() - OTHER_FILES)
    sizes = msgspec.structs.replace(asked, connections=connections)
    with private_servers() as servers, contextlib.ExitStack() as stack:
        around = Surroundings(servers, stack, max(connections, sizes.stalled))
        results = _measure(around, seconds, tasks, sizes)
        notes = _notes(around, asked, sizes, results)
    rows = [
        *_turn_rows(results.turns),
        *_split_rows(results.split, sizes),
        *_stalled_rows(results.stalled),
        *_sound_rows(results),
        *_screen_rows(results.screens, sizes.screens),
    ]
    return Report(name="gateway", rows=tuple(rows), notes=notes)


def _measure(around: Surroundings, seconds: float, tasks: Tasks, sizes: Sizes) -> _Results:
    contestants, notes = _references(around, sizes.references)
    runs = sizes.rounds * (1 + len(contestants)) + bool(sizes.processes) + 2
    told, done = tasks.task("runs", runs), 0

    def finished() -> None:
        nonlocal done
        done += 1
        told(done)

    turns = _take_turns(around, contestants, seconds, sizes, finished)
    split = None
    if sizes.processes:
        split = gateway_runs.run_ours(
            around,
            sizes.connections,
            seconds=_whole(seconds * _SHARES["processes"], sizes),
            processes=sizes.processes,
        )
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
    return _Results(turns=turns, split=split, stalled=stalled, screens=screens, notes=notes)


def _take_turns(
    around: Surroundings,
    contestants: Sequence[Contestant],
    seconds: float,
    sizes: Sizes,
    finished: Callable[[], None],
) -> dict[str, list[Paced]]:
    each = sizes.rounds * (1 + len(contestants))
    window = _whole(seconds * _SHARES["turns"] / each, sizes)
    flat_out = seconds * _SHARES["flat out"] / sizes.rounds
    found: dict[str, list[Paced]] = {"": []} | {one.name: [] for one in contestants}
    for _ in range(sizes.rounds):
        ours = gateway_runs.run_ours(around, sizes.connections, seconds=window, flat_out=flat_out)
        found[""].append(ours)
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
    found, notes = [], ()
    if WEBSOCKETS in names:
        found.append(Contestant(name="websockets broadcast", start=around.broadcast, path="/"))
    if SOCKETIO in names:
        missing = around.install_socketio()
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


_PACED: tuple[tuple[str, Callable[[Paced], float], dict[str, float]], ...] = (
    ("connections accepted/s", lambda run: run.accepted, {"at_least": ACCEPTS_PER_S_MIN}),
    (
        "CPU s per million deliveries, 1 a second",
        lambda run: _cpu_per_million(run.figures),
        {"at_most": CPU_S_PER_MILLION_MAX},
    ),
    ("% of the server's core, 1 a second", lambda run: _core_percent(run.figures), {}),
    ("ms from commit to phone, p50", lambda run: run.figures.p50, {}),
    ("ms from commit to phone, p99", lambda run: run.figures.p99, {"at_most": P99_MS_MAX}),
    ("ms from commit to phone, p100", lambda run: run.figures.p100, {}),
    (
        "kB of memory per connection",
        lambda run: run.bytes_per_connection / KILO,
        {"at_most": KB_PER_CONNECTION_MAX},
    ),
)


def _turn_rows(turns: dict[str, list[Paced]]) -> list[Row]:
    """Medians of the rounds, ours beside each reference; the worst of p100."""
    ours, *references = turns
    rows = []
    for metric, figure, target in _PACED:
        combine = max if metric.endswith("p100") else statistics.median
        mine = combine([figure(run) for run in turns[ours]])
        if not references:
            rows.append(row(metric, mine, **target))
        for number, name in enumerate(references):
            rows.append(
                row(
                    metric if number == 0 else f"{metric}, against {name}",
                    mine,
                    reference=combine([figure(run) for run in turns[name]]),
                    reference_name=name,
                    **target,
                )
            )
    entered = statistics.median([run.entered for run in turns[ours]])
    rows.insert(max(len(references), 1), row("authenticated and subscribed/s", entered))
    fast = [run.flat_out for run in turns[ours] if run.flat_out is not None]
    return rows + _flat_out_rows(fast)


def _flat_out_rows(fast: list[Figures]) -> list[Row]:
    if not fast:
        return []
    figures: dict[str, Callable[[Figures], float]] = {
        "deliveries/s, flat out": lambda run: run.deliveries / run.seconds,
        "CPU s per million deliveries, flat out": _cpu_per_million,
        "% of the server's core, flat out": _core_percent,
        "% of the phones' core, flat out": lambda run: 100 * run.own_cpu_seconds / run.seconds,
        "ms from commit to phone, flat out, p99": lambda run: run.p99,
    }
    return [
        row(metric, statistics.median([figure(run) for run in fast]))
        for metric, figure in figures.items()
    ]


def _split_rows(split: Paced | None, sizes: Sizes) -> list[Row]:
    if split is None:
        return []
    of = f"{sizes.processes} processes"
    return [
        row(f"ms from commit to phone, {of}, p99", split.figures.p99, at_most=P99_MS_MAX_SPLIT),
        row(f"ms from commit to phone, {of}, p100", split.figures.p100),
        row(f"CPU s per million deliveries, {of}", _cpu_per_million(split.figures)),
        row(f"connections accepted/s, {of}", split.accepted),
        row(f"kB of memory per connection, {of}", split.bytes_per_connection / KILO),
    ]


def _stalled_rows(run: Stalled) -> list[Row]:
    beside, alone, name = run.beside, run.alone, "without stalled clients"
    ended = sum(count for how, count in run.ended.items() if how != "open")
    rate, rate_alone = (found.deliveries / found.seconds for found in (beside, alone))
    return [
        row("beside stalled: deliveries/s", rate, reference=rate_alone, reference_name=name),
        row("beside stalled: p99, ms", beside.p99, reference=alone.p99, reference_name=name),
        row("beside stalled: lost or disordered", beside.lost + beside.disordered, at_most=0),
        row("beside stalled: connections dropped", beside.gone, at_most=0),
        row(f"stalled clients closed, of {run.stalled}", ended, at_least=run.stalled),
    ]


def _sound_rows(results: _Results) -> list[Row]:
    """Of all runs of ours together."""
    paced = [*results.turns[""], *([results.split] if results.split else [])]
    figures = [run.figures for run in paced]
    figures += [run.flat_out for run in paced if run.flat_out is not None]
    figures += [results.screens, results.stalled.alone, results.stalled.beside]
    lost = sum(run.lost for run in figures) + sum(max(run.missed, 0) for run in paced)
    return [
        row("deliveries checked", sum(run.deliveries for run in figures)),
        row("publications lost", lost, at_most=0),
        row("publications out of order", sum(run.disordered for run in figures), at_most=0),
        row("snapshots instead of publications", sum(run.restarted for run in figures), at_most=0),
        row("connections dropped", sum(run.gone for run in figures), at_most=0),
    ]


def _screen_rows(figures: Figures, screens: tuple[str, ...]) -> list[Row]:
    rows = [
        row("mixed screens: CPU s per million deliveries", _cpu_per_million(figures)),
        row("mixed screens: % of the server's core", _core_percent(figures)),
        row("mixed screens: ms from commit to phone, p99", figures.p99),
    ]
    for screen in screens:
        for encoding in gateway_runs.ENCODINGS:
            name = screen_name(screen, encoding)
            rows += _traffic_rows(name, screen, figures)
    return rows


def _traffic_rows(name: str, screen: str, figures: Figures) -> list[Row]:
    counted, traffic = figures.traffic[name]

    def rate(of: Callable[[Traffic], int]) -> float:
        return of(traffic) / counted / figures.seconds

    most = PAYLOAD_BYTES_MAX.get(screen)
    return [
        row(
            f"kbit/s to the phone: {name}",
            rate(lambda found: found.down_bytes) * BITS / KILO,
            reference=SPECIFIED_KBPS,
            reference_name="specification, payload",
            at_most=KBPS_MAX.get(screen),
        ),
        row(f"kbit/s from the phone: {name}", rate(lambda found: found.up_bytes) * BITS / KILO),
        row(f"bytes of payload/s: {name}", rate(lambda found: found.down_payload), at_most=most),
        row(f"segments/s to the phone: {name}", rate(lambda found: found.down_segments)),
    ]


def _cpu_per_million(figures: Figures) -> float:
    return figures.server_cpu_seconds * MICRO / max(figures.deliveries, 1)


def _core_percent(figures: Figures) -> float:
    return 100 * figures.server_cpu_seconds / figures.seconds


def _notes(around: Surroundings, asked: Sizes, sizes: Sizes, results: _Results) -> tuple[str, ...]:
    """What the figures mean."""
    window = results.turns[""][0].figures.seconds
    notes = [
        *results.notes,
        f"{sizes.connections:,} connections, each with pulse and account (JSON), an authenticated "
        "user each; every offset is checked. Deliveries are publications received; a connection "
        "is accepted with its 101 (Socket.IO: its connect packet), 256 outstanding.",
        f"Medians of {sizes.rounds} rounds of {window:.0f} s at one tick a second, servers in "
        "turns, each started anew; p100 is the worst. The clock starts right before the views of "
        "the second are written to Redis; for the references right before they send.",
        "The references send the same pulse, whole, to everyone: no views, users, offsets kept, "
        "limits or slow clients. Compression is off everywhere.",
        f"Beside stalled: {sizes.stalled:,} full screens on a busy market, "
        f"{1 / gateway_runs.BUSY_TICK_S:.0f} ticks a second; "
        f"{gateway_runs.STALLED_SHARE:.0%} stop reading.",
        "Traffic: segments and bytes as the clients' kernel counted them, 40 bytes of IPv4 and TCP "
        f"header and {TIMESTAMP_BYTES} of timestamps each, pings included, no TLS; 0.58 trades a "
        f"second for the full screen; over {results.screens.seconds:.0f} s.",
    ]
    if around.server_core is None:
        notes.append("ONE CORE ONLY: server, phones, Redis and folds share it.")
    else:
        notes.append(
            f"Servers are pinned to core {around.server_core}, phones, Redis and folds to core "
            f"{around.load_core}; several processes of ours share the one core, too."
        )
    if sizes.connections < asked.connections:
        notes.append(f"Not {asked.connections:,} connections: the system allows fewer open files.")
    return tuple(notes)
