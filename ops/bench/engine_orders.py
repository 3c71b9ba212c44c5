"""Durable orders a second over the command connection, closed and open loop: our engine beside the
same engine on the eventsourcing library's recorder, slices in turns.

Both are processes of their own on the wall clock; a third process offers them the same orders.
"""

import statistics
import time

import msgspec

from ops.bench.engine_servers import LANES, Engine, Load, Servers
from ops.bench.order_load import Figures, Slice
from ops.bench.order_mix import SHARES
from ops.bench.report import Row, row
from ops.demo.progress import Tasks

ORDERS_PER_S_MIN = 15_000
P99_MS_MAX = 60
P50_MS_MAX = 1
ROUNDS_MIN = 3
SLICE_SECONDS_MIN = 0.2
# More than an engine has ever taken: what is drawn and not sent is sent in the next slice.
ORDERS_PER_S_MAX = 40_000
ORDERS_PER_S_IN_FLIGHT_MAX = 5_000
STOCK = "the same engine on eventsourcing's recorder"
MICRO = 1_000_000


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """depths: orders in flight. rates: orders a second offered, however many are in flight."""

    depths: tuple[int, ...] = (1, 16, 256, 2_000)
    rates: tuple[int, ...] = (1_000, 5_000)
    users: int = 1_000
    resting: int = 10_000


class Measured(msgspec.Struct, kw_only=True):
    """The slices of one engine under one load. cpu_us: of the engine's process per order."""

    slices: list[Figures] = []
    cpu_us: list[float] = []

    def per_s(self) -> float:
        return statistics.median(taken.answered / taken.seconds for taken in self.slices)

    def p50(self) -> float:
        return statistics.median(taken.p50 for taken in self.slices)

    def p99(self) -> float:
        return statistics.median(taken.p99 for taken in self.slices)

    def p100(self) -> float:
        return max(taken.p100 for taken in self.slices)


Results = dict[str, dict[str, Measured]]
"""Load -> engine -> what was measured."""


def notes(sizes: Sizes) -> tuple[str, ...]:
    shares = ", ".join(f"{share} % {kind}" for kind, share in SHARES.items())
    return (
        f"Orders: {sizes.users:,} funded users, {sizes.resting:,} resting orders before; {shares}. "
        f"Each has an idempotency key; {LANES} connections (1 in flight: one). An order counts "
        "when its answer has come: decided, on disk, fenced; refusals of the rules are answers. "
        "Ours also keeps first answers and takes snapshots meanwhile, in a process of its own.",
        "Latency is the generator's, from sending (open loop: from the instant at which the order "
        "was due) to the answer; medians of slices, the maximum of all for p100.",
    )


def run_orders(servers: Servers, seconds: float, tasks: Tasks, sizes: Sizes) -> list[Row]:
    """Rows for every load."""
    library = servers.database(has_log=False)
    as_owner = msgspec.structs.replace(library, writer_url=library.owner_url)
    engines = {
        "ours": servers.engine("ours", servers.database()),
        "stock": servers.engine("stock", as_owner, "ops.bench.stock_engine"),
    }
    load = servers.load(engines, users=sizes.users, resting=sizes.resting)
    results = _measure(engines, load, seconds, tasks, sizes)
    return [*_closed_rows(results, sizes), *_open_rows(results, sizes)]


def _measure(
    engines: dict[str, Engine], load: Load, seconds: float, tasks: Tasks, sizes: Sizes
) -> Results:
    loads = {_closed(depth): (depth, 0) for depth in sizes.depths}
    loads |= {_open(rate): (0, rate) for rate in sizes.rates}
    results: Results = {name: {engine: Measured() for engine in engines} for name in loads}
    each = max(seconds / (ROUNDS_MIN * len(loads) * len(engines)), SLICE_SECONDS_MIN)
    rounds = max(int(seconds / (each * len(loads) * len(engines))), ROUNDS_MIN)
    progress, done = tasks.task("orders", rounds * len(loads) * len(engines)), 0
    for _ in range(rounds):
        for name, (depth, rate) in loads.items():
            for engine in engines.values():
                _one_slice(engine, load, results[name][engine.name], each, depth, rate)
                done += 1
                progress(done)
    return results


def _one_slice(
    engine: Engine, load: Load, measured: Measured, seconds: float, depth: int, rate: int
) -> None:
    per_s = rate or min(depth * ORDERS_PER_S_IN_FLIGHT_MAX, ORDERS_PER_S_MAX)
    lanes_used = min(depth or LANES, LANES)
    # Lanes differ by chance in how much they have to send, and none may run dry early.
    load.draw(engine, int(1.5 * per_s * seconds * LANES / lanes_used) + 100 * LANES)
    cpu, began = engine.cpu_seconds(), time.perf_counter()
    taken = load.slice(Slice(engine.name, seconds=seconds, depth=depth, rate=rate))
    spent = (engine.cpu_seconds() - cpu) / (time.perf_counter() - began)
    measured.slices.append(taken)
    measured.cpu_us.append(MICRO * spent * taken.seconds / max(taken.answered, 1))


def _closed(depth: int) -> str:
    return f"in flight: {depth:,}"


def _open(rate: int) -> str:
    return f"offered: {rate:,}/s"


def _closed_rows(results: Results, sizes: Sizes) -> list[Row]:
    rows, ratios = [], []
    for depth in sizes.depths:
        name, is_most = _closed(depth), depth == max(sizes.depths)
        ours, stock = results[name]["ours"], results[name]["stock"]
        ratios.append(ours.per_s() / stock.per_s())
        rows += [
            row(
                f"orders/s, {name}",
                ours.per_s(),
                reference=stock.per_s(),
                reference_name=STOCK,
                at_least=ORDERS_PER_S_MIN if is_most else None,
            ),
            *_latency_rows(
                name,
                ours,
                stock,
                p50_max=P50_MS_MAX if depth == 1 else None,
                p99_max=P99_MS_MAX if is_most else None,
            ),
            row(
                f"us of the engine's CPU per order, {name}",
                statistics.median(ours.cpu_us),
                reference=statistics.median(stock.cpu_us),
                reference_name=STOCK,
            ),
        ]
    rows.append(row("orders/s : the library's, least ratio of all depths", min(ratios), at_least=1))
    return rows


def _open_rows(results: Results, sizes: Sizes) -> list[Row]:
    return [
        line
        for rate in sizes.rates
        for line in _latency_rows(
            _open(rate), results[_open(rate)]["ours"], results[_open(rate)]["stock"]
        )
    ]


def _latency_rows(
    name: str,
    ours: Measured,
    stock: Measured,
    *,
    p50_max: float | None = None,
    p99_max: float | None = None,
) -> list[Row]:
    return [
        row(
            f"ms to the answer, {quantile}, {name}",
            of(ours),
            reference=of(stock),
            reference_name=STOCK,
            at_most=at_most,
        )
        for quantile, of, at_most in (
            ("p50", Measured.p50, p50_max),
            ("p99", Measured.p99, p99_max),
            ("p100", Measured.p100, None),
        )
    ]
