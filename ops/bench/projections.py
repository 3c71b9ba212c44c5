"""`durian bench projections`: events a second of a Faust worker of each projection, and its lag.

Real processes on a private PostgreSQL, Kafka and Redis: `durian project NAME` folds what the relay
copied from a log. Beside it, in turns, consume loops without Faust, with the same folds and views.
"""

import importlib.util
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from ops.bench import projection_lag
from ops.bench.engine_servers import PROJECT_ROOT, Servers, private_servers
from ops.bench.mixed_log import LogShape, WrittenLog, write_log
from ops.bench.projection_loops import Consumed, Loop
from ops.bench.projection_topics import copy_log, send_one_by_one
from ops.bench.projection_workers import Workers
from ops.bench.report import Report, Row, row
from ops.bench.turns import Timed, take_turns
from ops.config import inherited_environment
from ops.demo.progress import Tasks
from ops.errors import ServerUnavailable
from ops.relaying import quiet_driver
from schemas import views
from schemas.records import EVENTS_TOPIC

EVENTS_PER_S_MIN = 40_000
MICRO = 1_000_000
PROJECTIONS = (views.MARKET, views.MINING, views.ACCOUNTS)
_SHARES = {"packed": 0.5, "singles": 0.25, "lag": 0.25}
_LIBRARIES = {"aiokafka": "aiokafka", "librdkafka": "confluent_kafka"}

Consume = Callable[[], Consumed]
Driver = Literal["aiokafka", "librdkafka"]


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """log: what the relay copies. singles: of its events, also sent one event a record."""

    log: LogShape = LogShape(events=300_000)
    singles: int = 60_000
    lag: projection_lag.Sizes = projection_lag.Sizes()


class Figure(msgspec.Struct, frozen=True):
    """events_per_s: by wall time. cpu_us: user and system, per event."""

    events_per_s: float
    cpu_us: float


def run_projections(seconds: float, tasks: Tasks, sizes: Sizes | None = None) -> Report:
    """Measure for about `seconds`; setting up comes on top. Raises ServerUnavailable."""
    sizes = sizes or Sizes()
    quiet_driver()
    with private_servers() as servers:
        bench = _Bench(servers)
        log = bench.write(sizes.log, tasks)
        rows = _packed_rows(bench.packed(log.last, seconds * _SHARES["packed"], tasks))
        singles = min(sizes.singles, log.last)
        rows += _single_rows(bench.singles(singles, seconds * _SHARES["singles"], tasks))
    with private_servers() as servers:
        rows += projection_lag.run_lag(servers, seconds * _SHARES["lag"], tasks, sizes.lag)
    return Report(name="projections", rows=tuple(rows), notes=_notes(log, singles))


class _Bench:
    """One log, and who may fold it."""

    def __init__(self, servers: Servers) -> None:
        self._bootstrap = servers.kafka_url().removeprefix("kafka://")
        self._redis_url = servers.redis_url()
        self._reader_url = ""
        self._servers = servers
        self._workers = Workers(servers)

    def write(self, shape: LogShape, tasks: Tasks) -> WrittenLog:
        database = self._servers.database()
        self._reader_url = database.reader_url
        return write_log(database, shape, tasks.task("writing the log", shape.events))

    def packed(self, last: int, seconds: float, tasks: Tasks) -> dict[str, Figure]:
        """Of the relay's records: our workers by projection, loops as "driver projection"."""
        copy_log(self._reader_url, self._bootstrap, last, tasks.task("copying to Kafka", last))
        contestants: dict[str, Consume] = {
            projection: self._worker(projection, last) for projection in PROJECTIONS
        }
        for driver in _drivers():
            contestants[f"{driver} market"] = self._loop(driver, last, views.MARKET)
            contestants[f"{driver} decoding"] = self._loop(driver, last, "")
        return _measure(contestants, seconds, tasks.task("folding packed records", 100))

    def singles(self, last: int, seconds: float, tasks: Tasks) -> dict[str, Figure]:
        """The same of one event a record, for projection market."""
        send_one_by_one(self._reader_url, self._bootstrap, last)
        contestants = {views.MARKET: self._worker(views.MARKET, last)}
        for driver in _drivers():
            contestants[f"{driver} market"] = self._loop(driver, last, views.MARKET)
        return _measure(contestants, seconds, tasks.task("folding single events", 100))

    def _worker(self, projection: str, last: int) -> Consume:
        def consume() -> Consumed:
            self._workers.empty()
            return self._workers.fold(projection, last)

        return consume

    def _loop(self, driver: Driver, last: int, projection: str) -> Consume:
        loop = Loop(
            driver=driver,
            topic=EVENTS_TOPIC,
            bootstrap=self._bootstrap,
            redis_url=self._redis_url,
            last=last,
            projection=projection,
        )

        def consume() -> Consumed:
            self._workers.empty()
            answer = subprocess.run(
                (sys.executable, "-m", "ops.bench.projection_loops"),
                input=msgspec.json.encode(loop),
                env=inherited_environment(),
                cwd=PROJECT_ROOT,
                capture_output=True,
                check=False,
            )
            if answer.returncode != 0:
                raise ServerUnavailable(f"a consume loop failed:\n{answer.stderr.decode()}")
            return msgspec.json.decode(answer.stdout, type=Consumed)

        return consume


def _drivers() -> list[Driver]:
    found: list[Driver] = ["aiokafka"]
    if importlib.util.find_spec(_LIBRARIES["librdkafka"]) is not None:
        found.append("librdkafka")
    return found


def _measure(
    contestants: Mapping[str, Consume], seconds: float, progress: Callable[[int], None]
) -> dict[str, Figure]:
    cpu_us: dict[str, list[float]] = {name: [] for name in contestants}

    def timed(name: str, consume: Consume) -> Timed:
        def once() -> float:
            consumed = consume()
            cpu_us[name].append(MICRO * consumed.cpu_seconds / consumed.events)
            return consumed.events / consumed.seconds

        return once

    rates = take_turns(
        {name: timed(name, consume) for name, consume in contestants.items()},
        seconds=seconds,
        progress=progress,
    )
    return {name: Figure(rate, statistics.median(cpu_us[name])) for name, rate in rates.items()}


def _packed_rows(figures: dict[str, Figure]) -> list[Row]:
    rows = [
        row(
            f"events/s, worker {projection}, packed records",
            figures[projection].events_per_s,
            at_least=EVENTS_PER_S_MIN,
        )
        for projection in PROJECTIONS
    ]
    rows += [
        row(f"CPU us per event, worker {projection}, packed records", figures[projection].cpu_us)
        for projection in PROJECTIONS
    ]
    for driver in _drivers():
        with_folds, bare = figures[f"{driver} market"], figures[f"{driver} decoding"]
        rows += _beside(figures[views.MARKET], with_folds, f"{driver} loop, our folds and Redis")
        rows += _beside(figures[views.MARKET], bare, f"{driver} loop that decodes and forgets")
    return rows


def _beside(ours: Figure, reference: Figure, name: str) -> list[Row]:
    return [
        row(
            f"events/s, worker market, against {name}",
            ours.events_per_s,
            reference=reference.events_per_s,
            reference_name=f"{name}, packed records",
        ),
        row(
            f"CPU us per event, worker market, against {name}",
            ours.cpu_us,
            reference=reference.cpu_us,
            reference_name=f"{name}, packed records",
        ),
    ]


def _single_rows(figures: dict[str, Figure]) -> list[Row]:
    ours = figures[views.MARKET]
    rows = [
        row("CPU us per event, worker market, an event a record", ours.cpu_us),
    ]
    for driver in _drivers():
        loop = figures[f"{driver} market"]
        rows.append(
            row(
                f"events/s, worker market, an event a record, against {driver}",
                ours.events_per_s,
                reference=loop.events_per_s,
                reference_name=f"{driver} loop, our folds and Redis, an event a record",
            )
        )
    return rows


def _notes(log: WrittenLog, singles: int) -> tuple[str, ...]:
    return (
        f"Folding: {log.shares}; the relay's records. A worker is a process of `durian project` "
        "from empty views to the log's end, wall time from its first commit; views, feeds and "
        "checkpoints in a Redis with append-only file. Medians of rounds in turns.",
        f"An event a record: the first {singles:,} events. A loop takes what one poll returns "
        "(500 records at most), folds it by the same code and commits it by the same script.",
        "Servers and all processes share this machine; nothing else ran.",
        *projection_lag.NOTES,
    )
