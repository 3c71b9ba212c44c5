"""How long after its answer an order is in the views: engine, relay and workers, live.

The load is open loop. A view's position is read from Redis each millisecond, so that every figure
is up to one millisecond too high, and the commit itself is a little earlier than the answer.
"""

import contextlib
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator

import msgspec
import psycopg

from domain.effects import effects_of
from ops.bench.engine_servers import Database, Servers, await_true, free_port
from ops.bench.order_load import NS_PER_MS, Slice
from ops.bench.projection_workers import Workers
from ops.bench.report import Row, row
from ops.config import inherited_environment
from ops.demo.progress import Tasks
from schemas import views
from schemas.codecs import decode_event
from schemas.effects import partition_of
from schemas.records import POSTINGS_PARTITIONS

EVENTS_PER_S = 1_000
EVENTS_PER_ORDER = 1.65  # of the order mix; the rows say what it came to
P99_MS_MAX = 100
POLL_SECONDS = 0.001
REACH_SECONDS_MAX = 60.0
PROJECTIONS = (views.MARKET, views.MINING, views.ACCOUNTS)

Sample = tuple[int, int, int]
"""As the load generator gives them: position, sent, answered (nanoseconds, monotonic)."""

NOTES = (
    f"Lag: the engine takes orders for about {EVENTS_PER_S:,} events a second (open loop); from "
    "the engine's answer, as its client sees it, to the view's checkpoint in Redis; of accounts "
    "that of the users whom the command's last event concerns. One worker of each projection runs.",
)


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    users: int = 1_000
    resting: int = 10_000


def run_lag(servers: Servers, seconds: float, tasks: Tasks, sizes: Sizes) -> list[Row]:
    """Rows of quantiles by projection."""
    progress = tasks.task("lag", 1)
    engine = servers.engine("ours", servers.database())
    load = servers.load({"ours": engine}, users=sizes.users, resting=sizes.resting)
    workers = Workers(servers)
    relay_environment = {
        **inherited_environment(),
        "DURIAN_POSTGRES_URL": engine.database.reader_url,
        "DURIAN_KAFKA_URL": servers.kafka_url(),
        "DURIAN_PORT_RELAY_METRICS": str(free_port()),
    }
    relay = servers.start("relay", (sys.executable, "-m", "ops", "relay"), relay_environment)
    started = {name: workers.start(name) for name in PROJECTIONS}
    for name, process in started.items():
        output = servers.home / f"worker-{name}.out"
        await_true(lambda at=name: min(workers.positions(at)) > 0, process, output)  # type: ignore[misc]
    rate = round(EVENTS_PER_S / EVENTS_PER_ORDER)
    load.draw(engine, 2 * int(rate * (seconds + 1)))
    with contextlib.ExitStack() as stack:
        watches = {name: stack.enter_context(_watch(workers, name)) for name in PROJECTIONS}
        taken = load.slice(Slice(engine.name, seconds=seconds, rate=rate, sample=True))
        deadline = time.monotonic() + REACH_SECONDS_MAX
        while any(watch.last < taken.last_position for many in watches.values() for watch in many):
            assert relay.poll() is None and time.monotonic() < deadline, "the views do not follow"
            time.sleep(POLL_SECONDS)
    progress(1)
    concerned = _partitions(engine.database, taken.samples)
    return [
        line
        for name in PROJECTIONS
        for line in _rows(
            name, watches[name], taken.samples, concerned if name == views.ACCOUNTS else {}
        )
    ]


class _Watch:
    """When a partition was seen at which position, in the order of time."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.seen_ns: list[int] = []

    @property
    def last(self) -> int:
        return self.positions[-1] if self.positions else 0

    def see(self, position: int) -> None:
        if position > self.last:
            self.seen_ns.append(time.monotonic_ns())
            self.positions.append(position)

    def reached_ns(self, position: int) -> int:
        return self.seen_ns[bisect_left(self.positions, position)]


@contextlib.contextmanager
def _watch(workers: Workers, projection: str) -> Iterator[list[_Watch]]:
    """By partition."""
    watches = [_Watch() for _ in workers.positions(projection)]
    stopping = threading.Event()

    def poll() -> None:
        while not stopping.wait(POLL_SECONDS):
            for watch, position in zip(watches, workers.positions(projection), strict=True):
                watch.see(position)

    thread = threading.Thread(target=poll, name=f"watch-{projection}")
    thread.start()
    try:
        yield watches
    finally:
        stopping.set()
        thread.join()


def _partitions(database: Database, samples: list[Sample]) -> dict[int, list[int]]:
    """Of accounts, by position: those of the users whom the event concerns."""
    found = {}
    with psycopg.connect(database.reader_url) as connection:
        rows = connection.execute(
            "SELECT notification_id, state FROM ledger_events WHERE notification_id = ANY(%s)",
            ([position for position, _, _ in samples],),
        )
        for position, payload in rows:
            effects = effects_of(position, decode_event(payload))
            users = {partition_of(effect.user_id, POSTINGS_PARTITIONS) for effect in effects}
            found[position] = sorted(users)
    return found


def _rows(
    projection: str,
    watches: list[_Watch],
    samples: list[Sample],
    concerned: dict[int, list[int]],
) -> list[Row]:
    late = sorted(
        max(watches[partition].reached_ns(position) - answered_ns, 0) / NS_PER_MS
        for position, _, answered_ns in samples
        for partition in concerned.get(position, [0])
    )
    events = samples[-1][0] - samples[0][0]
    rate = events / max((samples[-1][2] - samples[0][2]) / 1e9, 1e-9)
    what, end = f"ms from answer to view, {projection}, {rate:,.0f} events/s", len(late) - 1
    return [
        row(f"{what}, p50", late[end // 2]),
        row(f"{what}, p99", late[end * 99 // 100], at_most=P99_MS_MAX),
        row(f"{what}, p100", late[end]),
    ]
