"""The engine as a process: standby first, then the single writer, until SIGTERM or a fault.

Beside the writer: the command port, figures for Prometheus, first answers to repeated keys, old
answers forgotten, and a snapshot every so often, made by a process of its own.
"""

import asyncio
import contextlib
import gc
import logging
import sys
import time

import psycopg

from engine.answers import STORED_NS
from engine.clock import STEP_NS_MAX, VirtualClock, WallClock
from engine.errors import ClockDisagrees, StoreUnavailable
from engine.metrics import EngineMetrics
from engine.postgres.datastore import datastore_of
from engine.postgres.recorder import LedgerRecorder
from engine.postgres.schema import require_schema
from engine.postgres.snapshots import PostgresSnapshots
from engine.postgres.tail import PostgresTail
from engine.postgres.whole_log import WholeLog
from engine.repeats import Repeats
from engine.sequencer import Sequencer
from engine.server import serve
from engine.standby import Standby
from ops.config import Config, archive_directory, inherited_environment, require
from ops.logs import configure_logs
from ops.metrics_server import serve_metrics
from ops.notify import Notifier
from ops.wiring import address_of, first_of, read_genesis, stop_on_signals

log = logging.getLogger("durian.engine")

LOOK_SECONDS = 1.0
SNAPSHOT_EVENTS = 100_000
SNAPSHOT_SECONDS_MIN = 30.0
SNAPSHOT_NICENESS = 10
FORGET_SECONDS = 600.0
CLOCK_SECONDS = 5.0
GC_THRESHOLDS = (20_000, 50, 1_000)


async def run_engine(config: Config) -> None:
    """Standby, then writer, until SIGTERM. Any fault of the log is raised: the process must end."""
    running = asyncio.current_task()
    assert running is not None
    stop_on_signals(running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await Engine(config).run()


class Engine:
    """One process's parts, joined."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._url = require(config, "postgres_url")
        self._address = require(config, "engine_url")
        self._notifier = Notifier(config.notify_socket)
        self._metrics = EngineMetrics()
        self._snapshot_position = 0

    async def run(self) -> None:
        config = self._config
        with serve_metrics(self._metrics.registry, config.host, config.ports.engine_metrics):
            # First, because a database that is away or not ours gets its clear error here.
            await asyncio.to_thread(require_schema, self._url)
            with datastore_of(self._url) as datastore:
                recorder = WholeLog(datastore, archive_directory(config))
                try:
                    standby = await self._become_leader(recorder)
                    await self._lead(recorder, standby)
                finally:
                    recorder.close_writer()

    def _open_tail(self) -> PostgresTail:
        return PostgresTail(self._url)

    async def _become_leader(self, recorder: LedgerRecorder) -> Standby:
        self._notifier.status("folding the log")
        await self._require_same_clock()
        async with self._open_tail() as tail:
            standby = Standby(recorder, tail, PostgresSnapshots(self._url), self._metrics)
            await standby.fold_log()

            # The folded state lives as long as the process: no garbage collection walks it again,
            # and what is added is walked rarely. Reference counts free nearly everything.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)

            def report() -> None:
                self._notifier.ready(f"standby, position {standby.fold.position:,}")

            # It may wait for days, and must lose no time when it leads at last.
            await first_of(standby.take_lead(self._address, report), self._watch_clock())
        self._snapshot_position = standby.snapshot_position
        return standby

    async def _watch_clock(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_SECONDS)
            await self._require_same_clock()

    async def _require_same_clock(self) -> None:
        if self._config.clock == "wall":
            await asyncio.to_thread(require_same_clock, self._url)

    async def _lead(self, recorder: LedgerRecorder, standby: Standby) -> None:
        clock = VirtualClock() if self._config.clock == "virtual" else WallClock()
        repeats = Repeats(self._open_tail, self._metrics)
        sequencer = Sequencer(recorder, clock, repeats, self._metrics, self._address)
        self._metrics.watch_queue(sequencer.waiting)
        await sequencer.start(standby.fold, standby.answers, read_genesis(self._config.genesis))
        host, port = address_of(self._address)
        server = await serve(sequencer, host, port)
        configure_logs(self._config, place=lambda: _place(recorder))
        head = recorder.head
        self._notifier.ready(f"epoch {head.epoch}, position {head.position:,}")
        log.info("epoch %d leads from position %d", head.epoch, head.position)
        stop_on_signals(sequencer.stop)
        try:
            await first_of(
                sequencer.run(),
                repeats.run(),
                self._tell(sequencer),
                self._keep_snapshots(sequencer),
                self._forget_answers(sequencer),
            )
        finally:
            await server.close()

    async def _tell(self, sequencer: Sequencer) -> None:
        leap_told_ns = 0
        while True:
            head, leap_ns = sequencer.log.head, sequencer.clock.leap_ns
            self._notifier.status(f"epoch {head.epoch}, position {head.position:,}")
            self._metrics.clock_offset(leap_ns / 1e9)
            self._metrics.remembers(sequencer.remembered())
            if abs(leap_ns - leap_told_ns) > STEP_NS_MAX:
                leap_told_ns = leap_ns
                log.warning(
                    "the machine's clock is %+.1f s from engine time; it is not followed until the "
                    "engine is started anew",
                    leap_ns / 1e9,
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def _forget_answers(self, sequencer: Sequencer) -> None:
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            try:
                async with self._open_tail() as tail:
                    await tail.forget_answers(sequencer.state.at_ns - STORED_NS)
            except StoreUnavailable as exc:
                log.warning("old answers stay for now: %s", exc)

    async def _keep_snapshots(self, sequencer: Sequencer) -> None:
        self._metrics.snapshot(self._snapshot_position)
        while True:
            await asyncio.sleep(SNAPSHOT_SECONDS_MIN)
            position = sequencer.log.head.position
            is_due = position - self._snapshot_position >= SNAPSHOT_EVENTS
            if is_due and await self._snapshot() == 0:
                self._snapshot_position = position
                self._metrics.snapshot(position)

    async def _snapshot(self) -> int:
        # A process of its own: folding and encoding would hold every command up meanwhile.
        child = await asyncio.create_subprocess_exec(
            *("nice", "-n", str(SNAPSHOT_NICENESS), sys.executable, "-m", "ops", "snapshot"),
            env={
                **inherited_environment(),
                "DURIAN_POSTGRES_URL": self._url,
                "DURIAN_ARCHIVE": str(archive_directory(self._config)),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            child.kill()
            raise
        if code != 0:
            log.warning("no snapshot this time: `durian snapshot` ended with code %d", code)
        return code


def _place(recorder: LedgerRecorder) -> dict[str, object]:
    return {"epoch": recorder.head.epoch, "position": recorder.head.position}


def require_same_clock(url: str) -> None:
    """Raises ClockDisagrees when this machine's clock is more than 2 s from the database's."""
    before_ns = time.time_ns()
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute(
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint"
            ).fetchone()
    except psycopg.Error as exc:
        raise StoreUnavailable(str(exc)) from exc
    assert row is not None
    after_ns, database_ns = time.time_ns(), int(row[0])
    if not before_ns - STEP_NS_MAX <= database_ns <= after_ns + STEP_NS_MAX:
        raise ClockDisagrees((after_ns - database_ns) / 1e9)
