"""How long an engine takes to start again, and how fast the log is folded on the way.

A start is a process that was killed and listens again: Python, snapshot, tail, first answers of a
day, the lead. The fold reads the whole log from PostgreSQL, checks the hash chain and evolves.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import psycopg
from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import DatetimeAsISO, JSONTranscoder, Mapper
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

from engine.fold import LedgerFold
from engine.postgres.datastore import datastore_of
from engine.postgres.recorder import LedgerRecorder
from ops.bench.engine_servers import PROJECT_ROOT, Database, Engine, Servers, fill
from ops.bench.report import Row, row
from ops.bench.turns import Timed, take_turns
from ops.config import inherited_environment
from ops.demo.progress import Tasks
from ops.errors import ServerUnavailable

START_SECONDS_MAX = 3
REPLAY_PER_S_MIN = 100_000
LIBRARY_PAGE = 1_000

NOTES = (
    "Restart: SIGKILL of an engine after orders of the mix, then wall time from the start of the "
    "new process until it listens, which it does when it leads; beside an engine whose log has a "
    "few dozen events: the share of Python and of the election.",
    "Replay: wall time of one process that reads the whole log from PostgreSQL, checks density and "
    f"hash chain and evolves the state. The library's pages ({LIBRARY_PAGE:,} events of about 200 "
    "bytes, stock mapper, JSON) end where its events are decoded: it evolves nothing.",
)


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """tail: events after the snapshot, at least. library: events in the library's log."""

    tail: int = 100_000
    library: int = 20_000
    users: int = 1_000
    resting: int = 10_000


def run_restart(servers: Servers, seconds: float, tasks: Tasks, sizes: Sizes) -> list[Row]:
    """Rows of starting, then of folding."""
    engine, empty = (servers.engine(name, servers.database()) for name in ("ours", "empty"))
    load = servers.load({"ours": engine}, users=sizes.users, resting=sizes.resting)
    _take_snapshot(engine)
    snapshot = _scalar(engine.database, "SELECT max(position) FROM ledger_snapshots")
    fill(engine, load, events=sizes.tail, after=snapshot, tasks=tasks)
    starts: dict[str, Timed] = {"ours": engine.restart, "empty": empty.restart}
    figures = take_turns(starts, seconds=seconds / 2, progress=tasks.task("restart", 100))
    tail = _scalar(engine.database, "SELECT position FROM ledger_events_head") - snapshot
    rows = [
        row(
            f"s to start from a snapshot and a tail of {tail:,} events",
            figures["ours"],
            reference=figures["empty"],
            reference_name="the same of a ledger without orders",
            at_most=START_SECONDS_MAX,
        )
    ]
    engine.stop()
    return [*rows, _replay_row(servers, engine.database, seconds / 2, tasks, sizes)]


def _take_snapshot(engine: Engine) -> None:
    answer = subprocess.run(
        (sys.executable, "-m", "ops", "snapshot"),
        env={**inherited_environment(), "DURIAN_POSTGRES_URL": engine.database.writer_url},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise ServerUnavailable(f"`durian snapshot` failed:\n{answer.stderr}")


def _scalar(database: Database, query: str) -> int:
    with psycopg.connect(database.owner_url) as connection:
        found = connection.execute(query.encode()).fetchone()
    assert found is not None
    return int(found[0])


def _replay_row(
    servers: Servers, database: Database, seconds: float, tasks: Tasks, sizes: Sizes
) -> Row:
    with (
        datastore_of(database.reader_url) as ours,
        _library_datastore(servers) as library,
    ):
        contestants: dict[str, Timed] = {
            "ours": lambda: _folded_per_s(LedgerRecorder(ours)),
            "library": _library(library, sizes.library),
        }
        figures = take_turns(contestants, seconds=seconds, progress=tasks.task("replay", 100))
    return row(
        "replayed events/s, read + check + evolve",
        figures["ours"],
        reference=figures["library"],
        reference_name="eventsourcing: page and stock mapper, no evolve",
        at_least=REPLAY_PER_S_MIN,
    )


def _folded_per_s(recorder: LedgerRecorder) -> float:
    fold, began = LedgerFold(), time.perf_counter()
    fold.apply(recorder.read())
    return fold.position / (time.perf_counter() - began)


def _library_datastore(servers: Servers) -> PostgresDatastore:
    parts = urlsplit(servers.database(has_log=False).owner_url)
    return PostgresDatastore(
        dbname=parts.path.strip("/"),
        host=str(parts.hostname),
        port=str(parts.port),
        user=str(parts.username),
        password=str(parts.password),
    )


@dataclass(frozen=True)
class BenchTrade(DomainEvent):
    """About as much as one of our events says, the way the library has it."""

    market_id: str
    price_minor: int
    quantity_minor: int
    buyer_id: str
    seller_id: str


def _library(datastore: PostgresDatastore, count: int) -> Timed:
    recorder = PostgresApplicationRecorder(datastore)
    recorder.create_table()
    transcoder = JSONTranscoder()
    transcoder.register(DatetimeAsISO())
    mapper: Mapper[UUID] = Mapper(transcoder)
    trades = [_trade(number) for number in range(count)]
    for first in range(0, count, LIBRARY_PAGE):
        page = trades[first : first + LIBRARY_PAGE]
        recorder.insert_events([mapper.to_stored_event(trade) for trade in page])

    def timed() -> float:
        began, read = time.perf_counter(), 0
        while page := recorder.select_notifications(read + 1, LIBRARY_PAGE):
            for stored in page:
                mapper.to_domain_event(stored)
            read += len(page)
        return read / (time.perf_counter() - began)

    return timed


def _trade(number: int) -> BenchTrade:
    return BenchTrade(
        originator_id=UUID(int=number),
        originator_version=1,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=number),
        market_id="DUR-CNY",
        price_minor=1_000_000_000 + number,
        quantity_minor=10_000 * number,
        buyer_id=f"user-{number:07}",
        seller_id=f"user-{number + 1:07}",
    )
