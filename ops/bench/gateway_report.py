"""The report of `durian bench gateway`: targets, rows and what the figures mean."""

import statistics
from collections.abc import Callable

import msgspec

from ops.bench import gateway_runs
from ops.bench.gateway_feed import AHEAD_MAX
from ops.bench.gateway_meters import TIMESTAMP_BYTES, Traffic
from ops.bench.gateway_runs import OURS, Paced, Screens, Sizes, Stalled, screen_name
from ops.bench.gateway_servers import Surroundings
from ops.bench.gateway_tally import Figures
from ops.bench.report import Row, row

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
QUIET_SCREENS = ("pulse and account",)


class Results(msgspec.Struct, kw_only=True):
    """What the runs came to; turns: by name of who was measured, a Paced for each round.

    split: of several processes. part: of one that has as many connections as each of those.
    """

    turns: dict[str, list[Paced]] = {}
    split: Paced | None = None
    part: Paced | None = None
    stalled: Stalled
    screens: Screens
    notes: tuple[str, ...] = ()


def rows_of(results: Results, sizes: Sizes) -> tuple[Row, ...]:
    """All of them, those with a target of their own first."""
    return (
        *_turn_rows(results.turns),
        *_split_rows(results, sizes),
        *_stalled_rows(results.stalled),
        *_sound_rows(results),
        *_screen_rows(results.screens, sizes.screens),
    )


class _Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A row of every contestant. combine: what makes one figure of the rounds'."""

    metric: str
    of: Callable[[Paced], float]
    combine: Callable[[list[float]], float] = statistics.median
    at_least: float | None = None
    at_most: float | None = None


_TURN_FIGURES = (
    _Figure(
        metric="connections accepted/s", of=lambda run: run.accepted, at_least=ACCEPTS_PER_S_MIN
    ),
    _Figure(metric="CPU us per connection accepted", of=lambda run: run.accept_cpu_seconds * MICRO),
    _Figure(
        metric="CPU s per million deliveries, 1 a second",
        of=lambda run: _cpu_per_million(run.figures),
        at_most=CPU_S_PER_MILLION_MAX,
    ),
    _Figure(metric="% of the server's core, 1 a second", of=lambda run: _core_percent(run.figures)),
    _Figure(
        metric="% of the server's core that others took, 1 a second",
        of=lambda run: _others_percent(run.figures),
    ),
    _Figure(metric="ms from commit to phone, p50", of=lambda run: run.figures.p50),
    _Figure(
        metric="ms from commit to phone, p99", of=lambda run: run.figures.p99, at_most=P99_MS_MAX
    ),
    _Figure(metric="ms from commit to phone, p100", of=lambda run: run.figures.p100, combine=max),
    _Figure(
        metric="kB of memory per connection",
        of=lambda run: run.bytes_per_connection / KILO,
        at_most=KB_PER_CONNECTION_MAX,
    ),
)


def _turn_rows(turns: dict[str, list[Paced]]) -> list[Row]:
    rows = [line for figure in _TURN_FIGURES for line in _compared(figure, turns)]
    entered = statistics.median(run.entered for run in turns[OURS])
    cpu_seconds = statistics.median(run.enter_cpu_seconds for run in turns[OURS])
    rows.append(row("authenticated and subscribed/s", entered))
    rows.append(row("CPU us to authenticate and subscribe", cpu_seconds * MICRO))
    fast = [run.flat_out for run in turns[OURS] if run.flat_out is not None]
    return rows + _flat_out_rows(fast)


def _compared(figure: _Figure, turns: dict[str, list[Paced]]) -> list[Row]:
    """Ours beside each of the others."""
    found = {name: figure.combine([figure.of(run) for run in runs]) for name, runs in turns.items()}
    mine = found.pop(OURS)
    if not found:
        return [row(figure.metric, mine, at_least=figure.at_least, at_most=figure.at_most)]
    return [
        row(
            figure.metric if number == 0 else f"{figure.metric}, against {name}",
            mine,
            reference=other,
            reference_name=name,
            at_least=figure.at_least,
            at_most=figure.at_most,
        )
        for number, (name, other) in enumerate(found.items())
    ]


def _flat_out_rows(fast: list[Figures]) -> list[Row]:
    if not fast:
        return []
    figures: dict[str, Callable[[Figures], float]] = {
        "deliveries/s, flat out": lambda run: run.deliveries / run.seconds,
        "CPU s per million deliveries, flat out": _cpu_per_million,
        "% of the server's core, flat out": _core_percent,
        "% of the server's core that others took, flat out": _others_percent,
        "% of the phones' core, flat out": lambda run: 100 * run.own_cpu_seconds / run.seconds,
        "ms from commit to phone, flat out, p99": lambda run: run.p99,
    }
    return [
        row(metric, statistics.median([figure(run) for run in fast]))
        for metric, figure in figures.items()
    ]


def _split_rows(results: Results, sizes: Sizes) -> list[Row]:
    split, part = results.split, results.part
    if split is None or part is None:
        return []
    of = f"{sizes.processes} processes on one core"
    share = f"one process, {sizes.connections // sizes.processes:,} connections"
    return [
        row(f"ms from commit to phone, {of}, p99", split.figures.p99, at_most=P99_MS_MAX_SPLIT),
        row(f"ms from commit to phone, {of}, p100", split.figures.p100),
        row(f"CPU s per million deliveries, {of}", _cpu_per_million(split.figures)),
        row(f"connections accepted/s, {of}", split.accepted),
        row(f"kB of memory per connection, {of}", split.bytes_per_connection / KILO),
        row(f"ms from commit to phone, {share}, p99", part.figures.p99),
        row(f"ms from commit to phone, {share}, p100", part.figures.p100),
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


def _sound_rows(results: Results) -> list[Row]:
    """Of all runs of ours together."""
    others = (run for run in (results.split, results.part) if run is not None)
    paced = [*results.turns[OURS], *others]
    figures = [run.figures for run in paced]
    figures += [run.flat_out for run in paced if run.flat_out is not None]
    figures += [
        results.screens.quiet,
        results.screens.trading,
        results.stalled.alone,
        results.stalled.beside,
    ]
    lost = sum(run.lost for run in figures) + sum(max(run.missed, 0) for run in paced)
    return [
        row("deliveries checked", sum(run.deliveries for run in figures)),
        row("publications lost", lost, at_most=0),
        row("publications out of order", sum(run.disordered for run in figures), at_most=0),
        row("snapshots instead of publications", sum(run.restarted for run in figures), at_most=0),
        row("connections dropped", sum(run.gone for run in figures), at_most=0),
    ]


def _screen_rows(run: Screens, screens: tuple[str, ...]) -> list[Row]:
    figures = run.trading
    rows = [
        row("mixed screens: CPU s per million deliveries", _cpu_per_million(figures)),
        row("mixed screens: % of the server's core", _core_percent(figures)),
        row("mixed screens: ms from commit to phone, p99", figures.p99),
    ]
    for screen in screens:
        for encoding in gateway_runs.ENCODINGS:
            name = screen_name(screen, encoding)
            rows.append(_down_row(name, screen, figures.traffic[name], figures.seconds))
            rows += _traffic_rows(name, screen, figures)
            if screen in QUIET_SCREENS:
                quiet = run.quiet.traffic[name], run.quiet.seconds
                rows.append(_down_row(f"{name}, nobody trades", screen, *quiet))
    return rows


def _down_row(name: str, screen: str, counted: tuple[int, Traffic], seconds: float) -> Row:
    connections, traffic = counted
    return row(
        f"kbit/s to the phone: {name}",
        traffic.down_bytes * BITS / KILO / connections / seconds,
        reference=SPECIFIED_KBPS,
        reference_name="specification, payload",
        at_most=KBPS_MAX.get(screen),
    )


def _traffic_rows(name: str, screen: str, figures: Figures) -> list[Row]:
    counted, traffic = figures.traffic[name]
    per_second = 1 / counted / figures.seconds
    most = PAYLOAD_BYTES_MAX.get(screen)
    return [
        row(f"bytes of payload/s: {name}", traffic.down_payload * per_second, at_most=most),
        row(f"segments/s to the phone: {name}", traffic.down_segments * per_second),
        row(f"kbit/s from the phone: {name}", traffic.up_bytes * per_second * BITS / KILO),
    ]


def _cpu_per_million(figures: Figures) -> float:
    return figures.server_cpu_seconds * MICRO / max(figures.deliveries, 1)


def _others_percent(figures: Figures) -> float:
    return 100 * max(figures.core_busy_seconds - figures.server_cpu_seconds, 0) / figures.seconds


def _core_percent(figures: Figures) -> float:
    return 100 * figures.server_cpu_seconds / figures.seconds


def notes_of(around: Surroundings, asked: Sizes, sizes: Sizes, results: Results) -> tuple[str, ...]:
    """What the figures mean."""
    window = results.turns[OURS][0].figures.seconds
    notes = [
        *results.notes,
        f"{sizes.connections:,} connections, each with pulse and account (JSON), an authenticated "
        "user each; every offset is checked. Deliveries are publications received; a connection "
        "is accepted with its 101 (Socket.IO: its connect packet), 256 outstanding.",
        f"Medians of {sizes.rounds} rounds of {window:.0f} s at one tick a second, servers in "
        "turns, each started anew; p100 is the worst. The clock starts right before the views of "
        "the second are written to Redis; for the references right before they send.",
        f"Flat out: seconds pass as fast as all phones get them, {AHEAD_MAX} at most on their way.",
        "The references send the same pulse, whole, to everyone: no views, users, offsets kept, "
        "limits or slow clients. Compression is off everywhere.",
        f"Beside stalled: {sizes.stalled:,} full screens on a busy market, "
        f"{1 / gateway_runs.BUSY_TICK_S:.0f} ticks a second; "
        f"{gateway_runs.STALLED_SHARE:.0%} stop reading.",
        "Traffic: segments and bytes as the clients' kernel counted them, 40 bytes of IPv4 and TCP "
        f"header and {TIMESTAMP_BYTES} of timestamps each, pings included, no TLS; "
        f"{results.screens.trades:.2f} trades a second (the specification's 50,000 a day are 0.58) "
        f"over {results.screens.trading.seconds:.0f} s, none over "
        f"{results.screens.quiet.seconds:.0f} s; the pool's index as long as after a year.",
    ]
    if around.server_core is None:
        notes.append("ONE CORE ONLY: server, phones, Redis and folds share it.")
    else:
        notes.append(
            f"Servers are pinned to core {around.server_core}, phones, Redis and folds to core "
            f"{around.load_core}; several processes of ours share the one core, too, and one "
            "with its part of the connections shows what each would do with a core of its own."
        )
    if sizes.connections < asked.connections:
        notes.append(f"Not {asked.connections:,} connections: the system allows fewer open files.")
    return tuple(notes)
