"""`durian bench failover`: how long commands wait while the lead goes to the standby.

Two engines on one PostgreSQL, keyed deposits in flight through a gateway's client. The leader is
killed, frozen, or asked to stop; the standby has folded the log and waits for the lock.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable

import msgspec
import psycopg

from gateway.engine_client import EngineClient
from gateway.errors import EngineUnavailable
from ops.bench.engine_servers import Database, Servers, free_port, private_servers
from ops.bench.report import Report, Row, row
from ops.demo.progress import Tasks
from ops.errors import ServerUnavailable
from ops.leader import LeaderLocator
from schemas.commands import DepositFunds
from schemas.frames import Accepted

IN_FLIGHT = 100
ROUNDS_MIN = 5
ROUND_SECONDS = 4.0
DEADLINE_S = 60.0
POLL_S = 0.005
# Between rounds both engines lead and follow for a while, as they would in a quiet hour.
QUIET_S = 0.5
DEAD_WAITER_S = 1.5

# A fenced leader waits for the lock too before it ends, and PostgreSQL looks only once a second
# whether a waiting client is still there.
_STANDBY = (
    "SELECT count(*) FROM pg_stat_activity WHERE usename = 'durian_log_writer'"
    " AND wait_event = 'advisory' AND query_start < clock_timestamp() - interval '1.5 s'"
)
_EPOCH_POSITION = "SELECT max(notification_id) FROM ledger_events WHERE originator_id = 'ledger'"


class Blow(msgspec.Struct, frozen=True, kw_only=True):
    """order: what the leader gets. most_s: the target. ends_it: whether the process ends by it."""

    name: str
    order: signal.Signals
    most_s: float
    ends_it: bool = True


BLOWS = (
    Blow(name="kill -9 of the leader", order=signal.SIGKILL, most_s=0.5),
    Blow(name="SIGSTOP of the leader", order=signal.SIGSTOP, most_s=4.0, ends_it=False),
    Blow(name="SIGTERM of the leader (planned)", order=signal.SIGTERM, most_s=2.0),
)


def run_failover(seconds: float, tasks: Tasks, *, least: int = ROUNDS_MIN) -> Report:
    """Rounds of each blow in turns, `least` at least; the worst of them is what counts."""
    rounds = max(least, int(seconds / (ROUND_SECONDS * len(BLOWS))))
    progress = tasks.task("takeovers", rounds * len(BLOWS))
    with private_servers() as servers:
        waits = asyncio.run(_measure(servers, servers.database(), rounds, progress))
    return Report(
        name="failover",
        rows=tuple(_rows(waits)),
        notes=(
            f"From the signal to the first answer of the new epoch, {IN_FLIGHT} keyed deposits in "
            f"flight through one gateway client, {rounds} rounds of each in turns.",
            "The frozen leader keeps the lock until PostgreSQL ends its silent session: 3 s.",
        ),
    )


def _rows(waits: dict[str, list[float]]) -> list[Row]:
    rows = []
    for blow in BLOWS:
        found = waits[blow.name]
        rows.append(row(f"{blow.name}: worst, s", max(found), at_most=blow.most_s))
        rows.append(row(f"{blow.name}: median, s", statistics.median(found)))
    return rows


class Pair:
    """Two engine processes on one ledger; whoever ends is started again by `both_up`."""

    def __init__(self, servers: Servers, database: Database) -> None:
        self._servers = servers
        self._environments = {
            name: servers.engine_environment(database, free_port())
            for name in ("engine-a", "engine-b")
        }
        self._connection = psycopg.connect(database.owner_url, autocommit=True)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def close(self) -> None:
        self._connection.close()

    async def both_up(self) -> None:
        """Until one leads and the other one waits for the lock."""
        for name, environment in self._environments.items():
            process = self._processes.get(name)
            if process is None or process.poll() is not None:
                argv = (sys.executable, "-m", "ops", "engine")
                self._processes[name] = self._servers.start(name, argv, environment)

        def is_pair() -> bool:
            return bool(self._ask(_STANDBY)) and self._leading() is not None

        await _until(is_pair)
        # Not the session of an engine that has just died while it waited: PostgreSQL looks each
        # second whether a waiter is still there.
        await asyncio.sleep(DEAD_WAITER_S)
        await _until(is_pair)

    def leader(self) -> "subprocess.Popen[bytes]":
        name = self._leading()
        assert name is not None
        return self._processes[name]

    def epoch_position(self) -> int:
        """Where the newest epoch began; nothing else happens to the ledger's stream here."""
        return self._ask(_EPOCH_POSITION)

    def _leading(self) -> str | None:
        found = self._connection.execute("SELECT address FROM ledger_events_head").fetchone()
        address = found[0] if found else ""
        for name, environment in self._environments.items():
            if environment["DURIAN_ENGINE_URL"] == address:
                return name
        return None

    def _ask(self, question: str) -> int:
        found = self._connection.execute(question.encode()).fetchone()
        return int(found[0] or 0) if found else 0


class Deposits:
    """IN_FLIGHT senders in a closed loop; answers: (when, last position), oldest first."""

    def __init__(self, client: EngineClient) -> None:
        self.answers: list[tuple[float, int]] = []
        self._client = client
        self._numbers = itertools.count(1)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        senders = [asyncio.create_task(self._send()) for _ in range(IN_FLIGHT)]
        try:
            yield
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)

    async def _send(self) -> None:
        while True:
            number = next(self._numbers)
            command = DepositFunds(
                user_id=f"u{number % IN_FLIGHT}",
                asset_id="CNY",
                amount_minor=1,
                reference=f"failover-{number}",
            )
            await self._answered(command, f"failover-{number}")

    async def _answered(self, command: DepositFunds, key: str) -> None:
        while True:
            try:
                reply = await self._client.submit(command, key=key)
            except EngineUnavailable:
                continue
            if isinstance(reply, Accepted):
                self.answers.append((time.perf_counter(), reply.last_position))
                return


async def _measure(
    servers: Servers, database: Database, rounds: int, progress: Callable[[int], None]
) -> dict[str, list[float]]:
    waits: dict[str, list[float]] = {blow.name: [] for blow in BLOWS}
    pair, locator = Pair(servers, database), LeaderLocator(database.reader_url)
    client = EngineClient(locate=locator)
    deposits = Deposits(client)
    try:
        await pair.both_up()
        async with client.running(), deposits.running():
            for number, (_, blow) in enumerate(itertools.product(range(rounds), BLOWS), 1):
                waits[blow.name].append(await _takeover(pair, deposits, blow))
                progress(number)
    finally:
        await locator.close()
        pair.close()
    return waits


async def _takeover(pair: Pair, deposits: Deposits, blow: Blow) -> float:
    """Seconds from the blow to the first answer of the next epoch."""
    await pair.both_up()
    quiet_until = time.perf_counter() + QUIET_S
    await _until(lambda: bool(deposits.answers) and deposits.answers[-1][0] > quiet_until)
    leader, epoch_before = pair.leader(), pair.epoch_position()
    deposits.answers.clear()
    struck_at = time.perf_counter()
    os.kill(leader.pid, blow.order)
    try:
        await _until(lambda: pair.epoch_position() > epoch_before)
        began = pair.epoch_position()
        await _until(lambda: any(position > began for _, position in deposits.answers))
    finally:
        if not blow.ends_it:
            os.kill(leader.pid, signal.SIGCONT)
    first_at = next(at for at, position in deposits.answers if position > began)
    # The old leader ends by itself, by the signal or because it finds itself fenced.
    await _until(lambda: leader.poll() is not None)
    return first_at - struck_at


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise ServerUnavailable(f"the engines did not get on within {DEADLINE_S:.0f} s")
        await asyncio.sleep(POLL_S)
