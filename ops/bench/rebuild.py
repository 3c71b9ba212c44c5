"""`durian bench rebuild`: views folded anew from a full log, and switched under live clients.

Real commands on a private PostgreSQL, Kafka and Redis. Beside it, in turns, the plain read of the
same log: what nothing that starts from PostgreSQL can beat.
"""

import time
from collections.abc import Mapping

import msgspec

from engine.postgres.datastore import datastore_of
from engine.postgres.recorder import LedgerRecorder
from ops.bench import rebuild_live
from ops.bench.engine_servers import Database, Servers, private_servers
from ops.bench.mixed_log import LogShape, WrittenLog, write_log
from ops.bench.rebuild_live import rebuild_views
from ops.bench.report import Report, Row, row
from ops.bench.turns import Timed, take_turns
from ops.config import inherited_environment
from ops.demo.progress import Tasks
from ops.history_database import provision_history
from ops.relaying import quiet_driver
from schemas import views
from schemas.codecs import decode_event

HOT_PER_S_MIN = 100_000
ALL_SECONDS_MAX = 60
ALL_EVENTS = 1_000_000
# The mix has a little more, so that the log ends before now.
EVENTS_PER_SECOND_MIN = 7
PROJECTIONS = (views.MARKET, views.MINING, views.ACCOUNTS, "history")
_PASSWORDS = {"writer_password": "history", "reader_password": "history"}


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    log: LogShape = LogShape(events=ALL_EVENTS)
    live: rebuild_live.Sizes = rebuild_live.Sizes()


def run_rebuild(seconds: float, tasks: Tasks, sizes: Sizes | None = None) -> Report:
    """Measure for about `seconds`; setting up comes on top. Raises ServerUnavailable."""
    sizes = sizes or Sizes()
    quiet_driver()
    with private_servers() as servers:
        database, history = servers.database(), servers.database(has_log=False)
        provision_history(history.owner_url, **_PASSWORDS)
        shape = _ending_now(sizes.log)
        log = write_log(database, shape, tasks.task("writing the log", shape.events))
        bench = _Bench(servers, database, history)
        rows = _rows(bench.measure(log.last, seconds, tasks), log.last)
        rows += rebuild_live.run_live(servers, database, history, tasks, sizes.live)
    return Report(name="rebuild", rows=tuple(rows), notes=_notes(log))


def _ending_now(shape: LogShape) -> LogShape:
    """The same log, so near to now that an engine can go on with it after a few more seconds."""
    began = int(time.time()) - shape.events // EVENTS_PER_SECOND_MIN
    return msgspec.structs.replace(shape, genesis_second=began)


class _Bench:
    """The commands, on one log."""

    def __init__(self, servers: Servers, database: Database, history: Database) -> None:
        self._database = database
        self._environment = {
            **inherited_environment(),
            "DURIAN_POSTGRES_URL": database.writer_url,
            "DURIAN_HISTORY_URL": history.owner_url,
            "DURIAN_REDIS_URL": servers.redis_url(),
            "DURIAN_KAFKA_URL": servers.kafka_url(),
            "DURIAN_DATA": str(servers.home / "rebuilding"),
        }

    def measure(self, last: int, seconds: float, tasks: Tasks) -> dict[str, float]:
        """Events a second by contestant; "all": of every view, by the command's whole time."""
        contestants: dict[str, Timed] = {
            "read": lambda: self._read_per_s(last, decode=False),
            "decode": lambda: self._read_per_s(last, decode=True),
        }
        for name in PROJECTIONS:
            contestants[name] = lambda name=name: last / self._fold_seconds(name)  # type: ignore[misc]
        contestants["all"] = lambda: last / self._whole_seconds()
        return take_turns(contestants, seconds=seconds, progress=tasks.task("rebuilding", 100))

    def _read_per_s(self, last: int, *, decode: bool) -> float:
        began = time.perf_counter()
        with datastore_of(self._database.reader_url) as datastore:
            for logged in LedgerRecorder(datastore).read():
                if decode:
                    decode_event(logged.payload)
        return last / (time.perf_counter() - began)

    def _fold_seconds(self, name: str) -> float:
        (result,) = rebuild_views(self._environment, name, workers=1)
        return float(result["fold_seconds"])

    def _whole_seconds(self) -> float:
        began = time.perf_counter()
        rebuild_views(self._environment, "all")
        return time.perf_counter() - began


def _rows(rates: Mapping[str, float], last: int) -> list[Row]:
    rows = [
        row(
            f"events/s, {name}, one process",
            rates[name],
            reference=rates["decode"],
            reference_name="reading the log from PostgreSQL and decoding it",
            at_least=HOT_PER_S_MIN if name in views.HOME_DB else None,
        )
        for name in PROJECTIONS
    ]
    rows.append(
        row(
            "events/s, plain read of the log",
            rates["read"],
            reference=rates["decode"],
            reference_name="the same, decoded",
        )
    )
    rows.append(
        row(
            f"s for all views of {last:,} events, compared and switched",
            last / rates["all"],
            at_most=ALL_SECONDS_MAX * last / ALL_EVENTS,
        )
    )
    return rows


def _notes(log: WrittenLog) -> tuple[str, ...]:
    return (
        f"Rebuilding: {log.shares}. A projection's figure is the folding of `durian rebuild NAME "
        "--workers 1`: reading, hash chain, decoding, folds, and writing the new generation.",
        "All views: `durian rebuild all` on every core, from its start to its end with comparison "
        "and switch, in wall time. Medians of rounds in turns.",
        *rebuild_live.NOTES,
    )
