"""A rebuild of all views while an engine takes orders and clients read: what they notice of it."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import psycopg

from ops.bench.engine_servers import PROJECT_ROOT, Database, Engine, Load, Servers, free_port
from ops.bench.order_load import Slice
from ops.bench.order_mix import MARKET
from ops.bench.projection_workers import Workers
from ops.bench.report import Row, row
from ops.bench.view_readers import Seen
from ops.config import inherited_environment
from ops.demo.progress import Tasks
from ops.errors import ServerUnavailable
from schemas import views

HELD_MS_MAX = 100
POLL_SECONDS = 0.01
SLICE_SECONDS = 10.0
FOLLOW_SECONDS_MAX = 600.0

NOTES = (
    "Live: engine, relay and workers go on with that log and orders at a steady rate (open loop), "
    "one process reads views as fast as it can through the gateway's reader; first for a while "
    "without, then during one `durian rebuild all`. Age: of the newest trade on the tape when it "
    "was read. Held: how long the live generation was not written.",
)


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """rate: orders a second. seconds: of reading without a rebuild."""

    rate: int = 100
    seconds: float = 10.0
    users: int = 1_000


def rebuild_views(
    environment: Mapping[str, str], *names: str, workers: int = 0
) -> list[dict[str, Any]]:
    """What `durian rebuild --json` says. Raises ServerUnavailable unless all views were equal."""
    some = ("--workers", str(workers)) if workers else ()
    answer = subprocess.run(
        (sys.executable, "-m", "ops", "rebuild", *names, *some, "--json"),
        env=dict(environment),
        cwd=PROJECT_ROOT,
        capture_output=True,
        check=False,
    )
    if answer.returncode != 0:
        raise ServerUnavailable(
            f"`durian rebuild` failed:\n{(answer.stderr + answer.stdout).decode()}"
        )
    return msgspec.json.decode(answer.stdout, type=list[dict[str, Any]])


def run_live(
    servers: Servers, database: Database, history: Database, tasks: Tasks, sizes: Sizes
) -> list[Row]:
    """Rows without and during a rebuild."""
    progress = tasks.task("rebuilding under clients", 3)
    engine = servers.engine("ours", database)
    load = servers.load({"ours": engine}, users=sizes.users, resting=sizes.users)
    workers = _follow(servers, engine, history)
    progress(1)
    with _steady(load, engine, sizes.rate):
        calm = _Reading(servers)
        time.sleep(sizes.seconds)
        without = calm.end()
        progress(2)
        busy = _Reading(servers)
        results = rebuild_views(
            {
                **inherited_environment(),
                "DURIAN_POSTGRES_URL": database.writer_url,
                "DURIAN_HISTORY_URL": history.owner_url,
                "DURIAN_REDIS_URL": servers.redis_url(),
                "DURIAN_DATA": str(servers.home / "rebuilding"),
            },
            "all",
        )
        during = busy.end()
    progress(3)
    workers.close()
    return _rows(without, during, results)


def _follow(servers: Servers, engine: Engine, history: Database) -> Workers:
    """Relay and workers, once all views are at the log's end."""
    workers = Workers(servers, {"DURIAN_HISTORY_URL": history.owner_url})
    servers.start(
        "relay",
        (sys.executable, "-m", "ops", "relay"),
        {
            **inherited_environment(),
            "DURIAN_POSTGRES_URL": engine.database.reader_url,
            "DURIAN_KAFKA_URL": servers.kafka_url(),
            "DURIAN_PORT_RELAY_METRICS": str(free_port()),
        },
    )
    head = log_head(engine.database)
    for name in (*views.HOME_DB, "history"):
        workers.start(name)
    deadline = time.monotonic() + FOLLOW_SECONDS_MAX
    while min(min(workers.positions(name)) for name in views.HOME_DB) < head:
        assert time.monotonic() < deadline, "the views do not follow"
        time.sleep(POLL_SECONDS)
    return workers


@contextlib.contextmanager
def _steady(load: Load, engine: Engine, rate: int) -> Iterator[None]:
    """Orders at a rate inside the block; it ends at the end of a slice."""
    stopping = threading.Event()

    def send() -> None:
        while not stopping.is_set():
            load.draw(engine, int(rate * SLICE_SECONDS) + rate)
            load.slice(Slice(engine.name, seconds=SLICE_SECONDS, rate=rate))

    thread = threading.Thread(target=send, name="load")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


class _Reading:
    """A process of readers that goes on until end()."""

    def __init__(self, servers: Servers) -> None:
        self._process = subprocess.Popen(
            (sys.executable, "-m", "ops.bench.view_readers", servers.redis_url(), MARKET),
            env=inherited_environment(),
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def end(self) -> Seen:
        answer, _ = self._process.communicate()
        if self._process.returncode != 0:
            raise ServerUnavailable("the readers ended; their own words are above")
        return msgspec.json.decode(answer, type=Seen)


def _rows(without: Seen, during: Seen, results: Sequence[dict[str, Any]]) -> list[Row]:
    rows = [
        row(
            f"ms held to switch, {result['projection']}, {int(result['events']):,} events folded",
            float(result["comparison"]["held_ms"]),
            at_most=HELD_MS_MAX,
        )
        for result in results
    ]
    rows += [
        row("reads that failed", during.failed, reference=without.failed, at_most=0),
        row("reads that went back", during.backwards, reference=without.backwards, at_most=0),
        row("reads", during.reads, reference=without.reads, reference_name="without a rebuild"),
    ]
    for name, share in (("p50", 50), ("p99", 99), ("p100", 100)):
        calm, busy = sorted(without.trade_ages_ms), sorted(during.trade_ages_ms)
        rows.append(
            row(
                f"ms of age of the newest trade read, {name}",
                busy[(len(busy) - 1) * share // 100],
                reference=calm[(len(calm) - 1) * share // 100],
                reference_name="without a rebuild",
            )
        )
    return rows


def log_head(database: Database) -> int:
    with psycopg.connect(database.owner_url) as connection:
        found = connection.execute("SELECT position FROM ledger_events_head").fetchone()
    assert found is not None
    return int(found[0])
