"""`durian bench http`: orders and reads through the HTTP path of `durian serve trading`.

A real engine on a real PostgreSQL, the gateway on a core of its own, everything else on another.
In turns with it: the same orders over the engine's command connection, and reads of bare routes
under the same uvicorn that answer the same bytes.
"""

import contextlib
import statistics
from collections.abc import Callable

import msgspec

from ops.bench.engine_servers import private_servers
from ops.bench.http_links import fetch
from ops.bench.http_load import Figures
from ops.bench.http_orders import get_request
from ops.bench.http_servers import DIRECT, FLOOR, OURS, Surroundings
from ops.bench.mixed_log import LogShape
from ops.bench.order_mix import MARKET, SHARES
from ops.bench.report import Report, Row, row
from ops.demo.progress import Tasks

ORDERS_PER_S_MIN = 1_500
P99_MS_MAX = 50
ROUNDS_MIN = 3
SLICE_SECONDS_MIN = 0.2
# More than anybody has taken: what is drawn and not sent is sent in the next slice.
ORDERS_PER_S_MOST = {OURS: 6_000, DIRECT: 30_000}
ORDERS_PER_S_IN_FLIGHT_MOST = 2_500
READERS = 200
KLINES = 500
CONNECTION = "the same orders over the engine's command connection"
BARE = "a bare route of the same bytes"
_ORDERS_SHARE = 0.7


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """depths: requests in flight, a connection for each. rates: orders offered a second."""

    depths: tuple[int, ...] = (1, 16, 64, 256)
    rates: tuple[int, ...] = (1_500,)
    reads_depth: int = 32
    log: LogShape = LogShape(events=40_000, users=500, resting=5_000)


class Read(msgspec.Struct, frozen=True):
    """path: with its query. is_private: asked for by one user after the other."""

    name: str
    path: str
    is_private: bool = False


READS = (
    Read("ticker", f"/v1/ticker?market={MARKET}"),
    Read(f"klines, {KLINES} of 1m", f"/v1/klines?market={MARKET}&interval=1m&limit={KLINES}"),
    Read("klines, 2 of 1m", f"/v1/klines?market={MARKET}&interval=1m&limit=2"),
    Read("balances", "/v1/balances", is_private=True),
)
Results = dict[str, dict[str, list[Figures]]]
"""Load -> who -> slices."""


def run_http(seconds: float, tasks: Tasks, sizes: Sizes | None = None) -> Report:
    """Measure for about `seconds`; setting up comes on top. Raises ServerUnavailable."""
    sizes = sizes or Sizes()
    with private_servers() as servers, contextlib.ExitStack() as stack:
        around = Surroundings(servers, stack, sizes.log, tasks)
        orders = _measure_orders(around, seconds * _ORDERS_SHARE, tasks, sizes)
        reads = _measure_reads(around, seconds * (1 - _ORDERS_SHARE), tasks, sizes)
    rows = (*_order_rows(orders, sizes), *_read_rows(reads))
    return Report(name="http", rows=rows, notes=_notes(sizes))


def _measure_orders(around: Surroundings, seconds: float, tasks: Tasks, sizes: Sizes) -> Results:
    loads = {_closed(depth): (depth, 0) for depth in sizes.depths}
    loads |= {_open(rate): (0, rate) for rate in sizes.rates}

    def measure(load: str, who: str, each: float) -> Figures:
        depth, rate = loads[load]
        per_s = rate or min(depth * ORDERS_PER_S_IN_FLIGHT_MOST, ORDERS_PER_S_MOST[who])
        around.draw(who, int(1.2 * per_s * each) + depth)
        return around.orders(who, seconds=each, depth=depth, rate=rate)

    return _in_turns(tuple(loads), (OURS, DIRECT), measure, seconds, tasks.task("orders", 100))


def _measure_reads(around: Surroundings, seconds: float, tasks: Tasks, sizes: Sizes) -> Results:
    bodies, reads = {}, {read.name: read for read in READS}
    for read in READS:
        token = around.token(around.users[0]) if read.is_private else ""
        request = get_request(read.path, token)
        bodies[_floor_path(read)] = fetch(around.gateway_port, request)
    around.start_floor(bodies)

    def measure(load: str, who: str, each: float) -> Figures:
        read = reads[load]
        users = around.users[:READERS] if read.is_private else ()
        path = read.path if who == OURS else _floor_path(read)
        return around.reads(who, path, seconds=each, depth=sizes.reads_depth, users=users)

    return _in_turns(tuple(reads), (OURS, FLOOR), measure, seconds, tasks.task("reads", 100))


def _floor_path(read: Read) -> str:
    # The bytes of two queries of one path differ.
    return f"/{READS.index(read)}{read.path.partition('?')[0]}"


def _in_turns(
    loads: tuple[str, ...],
    contestants: tuple[str, str],
    measure: Callable[[str, str, float], Figures],
    seconds: float,
    progress: Callable[[int], None],
) -> Results:
    count = len(loads) * len(contestants)
    each = max(seconds / (ROUNDS_MIN * count), SLICE_SECONDS_MIN)
    results: Results = {load: {who: [] for who in contestants} for load in loads}
    for number in range(ROUNDS_MIN):
        for load in loads:
            for who in contestants:
                results[load][who].append(measure(load, who, each))
        progress(100 * (number + 1) // ROUNDS_MIN)
    return results


def _closed(depth: int) -> str:
    return f"in flight: {depth:,}"


def _open(rate: int) -> str:
    return f"offered: {rate:,}/s"


def _order_rows(results: Results, sizes: Sizes) -> list[Row]:
    rows, deepest = [], max(sizes.depths)
    for depth in sizes.depths:
        load = _closed(depth)
        at_least = ORDERS_PER_S_MIN if depth == deepest else None
        rows += [
            _rate_row(f"orders/s, {load}", results[load], CONNECTION, at_least),
            *_latency_rows(load, results[load], None),
            _cpu_row(f"us of the gateway's CPU per order, {load}", results[load], "the engine's"),
        ]
    for rate in sizes.rates:
        load = _open(rate)
        rows += _latency_rows(load, results[load], P99_MS_MAX)
        rows.append(
            _cpu_row(f"us of the gateway's CPU per order, {load}", results[load], "the engine's")
        )
    return rows


def _read_rows(results: Results) -> list[Row]:
    rows = []
    for name, slices in results.items():
        rows += [
            _rate_row(f"reads/s, {name}", slices, BARE, None),
            _row(f"ms to the answer, p99, {name}", slices, lambda taken: taken.p99, BARE),
            _cpu_row(f"us of the gateway's CPU per read, {name}", slices, BARE),
        ]
    return rows


def _rate_row(
    metric: str, slices: dict[str, list[Figures]], reference_name: str, at_least: float | None
) -> Row:
    return _row(metric, slices, Figures.per_s, reference_name, at_least=at_least)


def _latency_rows(load: str, slices: dict[str, list[Figures]], p99_max: float | None) -> list[Row]:
    def of(quantile: str) -> Callable[[Figures], float]:
        return lambda taken: float(getattr(taken, quantile))

    return [
        _row(f"ms to the answer, p50, {load}", slices, of("p50"), CONNECTION),
        _row(f"ms to the answer, p99, {load}", slices, of("p99"), CONNECTION, at_most=p99_max),
        _row(f"ms to the answer, p100, {load}", slices, of("p100"), CONNECTION, combine=max),
    ]


def _cpu_row(metric: str, slices: dict[str, list[Figures]], reference_name: str) -> Row:
    return _row(metric, slices, lambda taken: taken.cpu_us, reference_name)


def _row(
    metric: str,
    slices: dict[str, list[Figures]],
    of: Callable[[Figures], float],
    reference_name: str,
    *,
    combine: Callable[[list[float]], float] = statistics.median,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    ours, reference = (combine([of(taken) for taken in found]) for found in slices.values())
    return row(
        metric,
        ours,
        reference=reference,
        reference_name=reference_name,
        at_least=at_least,
        at_most=at_most,
    )


def _notes(sizes: Sizes) -> tuple[str, ...]:
    shares = ", ".join(f"{share} % {kind}" for kind, share in SHARES.items())
    return (
        f"Orders: {sizes.log.users:,} users on a log of {sizes.log.events:,} events with "
        f"{sizes.log.resting:,} resting orders; {shares}. Each has an idempotency key and the "
        "token of its user; refusals of the rules are answers. One keep-alive connection for each "
        "request in flight; the reference has all of them on one connection, as a gateway has.",
        "One process serves, on one core; PostgreSQL (fsync, synchronous_commit), engine, Redis "
        "and the load generator share another. Views stand still while orders are measured.",
        "Latency is the generator's, from sending (open loop: from the instant at which the order "
        "was due) to the answer; medians of slices in turns, the maximum of all for p100.",
        f"Reads: {sizes.reads_depth} in flight; balances of {READERS} users, one after the other. "
        "The reference runs on the gateway's core while the gateway rests.",
    )
