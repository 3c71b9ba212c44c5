"""`durian rebuild` and `durian views` on a ledger that goes on: real engine, Kafka, Redis, workers.

One cluster for all stories, in any order. Commands keep coming and readers keep reading all the
while; at the end every view is compared with a fresh fold of the log.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from gateway.errors import GatewayError
from gateway.views import Views
from ops.leader import LeaderLocator
from ops.servers import postgres
from projections.redis_generations import RedisGenerations
from schemas import views
from schemas.views import HOME_DB
from tests.chaos.load import MARKET, Load
from tests.chaos.view_auditor import ViewAuditor
from tests.fixtures._cluster import PASSWORD, ROOT, Cluster, cluster
from tests.fixtures._live_views import somebody
from tests.fixtures._member import wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]
PROJECTIONS = (*HOME_DB, views.HISTORY)
LOADERS = 30
FIRST_EVENTS = 1_500
READ_PAUSE_S = 0.01
COMMAND_S = 150.0
CATCH_UP_S = 120.0
KILLS = 3
# Between a rebuild's start and its end on a quiet machine.
KILLED_WITHIN_S = 4.0


class Readers:
    """Reads of three projections all the while; findings: what readers must never see."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.findings: list[str] = []
        self.reads = 0
        self.look_away = False  # the views were emptied on purpose

    async def read_until(self, is_over: threading.Event) -> None:
        reader = Views(self._url)
        newest: dict[str, int] = {}
        while not is_over.is_set():
            try:
                found = await _positions(reader)
            except (GatewayError, AssertionError) as exc:
                self._find(f"a read failed: {exc!r}")
                found = {}
            for name, position in found.items():
                if position < newest.get(name, 0):
                    self._find(f"{name} went from {newest[name]} back to {position}")
                newest[name] = position
            self.reads += 1
            await asyncio.sleep(READ_PAUSE_S)
        await reader.close()

    def _find(self, what: str) -> None:
        if not self.look_away:
            self.findings.append(what)


async def _positions(reader: Views) -> dict[str, int]:
    account = (await reader.account("u1")).account
    pool, _ = await reader.pool()
    trades, _ = await reader.trades(MARKET, 1)
    assert pool is not None, "no pool"
    assert trades, "no trades"
    assert account.balances, "no balances"
    return {
        "accounts": account.position,
        "mining": pool.position,
        "trades": trades[-1].position,
    }


class Ledger:
    """The cluster, its load and its readers; `durian` runs one command beside them."""

    def __init__(self, made: Cluster) -> None:
        self.cluster = made
        self.readers = Readers(made.redis_url)
        self.auditor = ViewAuditor(made)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()))

    def start(self) -> None:
        self._thread.start()
        wait_for(lambda: self._head() >= FIRST_EVENTS, self.told, deadline_s=CATCH_UP_S)
        self.wait_views()

    def end(self) -> None:
        """Commands and readers are over; whatever failed in them is raised."""
        self._is_over.set()
        self._thread.join()

    def wait_views(self) -> None:
        """Until every view holds what the log has now."""
        head = self._head()
        wait_for(lambda: self.auditor.are_at(head), self.told, deadline_s=CATCH_UP_S)

    def told(self) -> str:
        return self.cluster.told()

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DURIAN_")}
        return {
            **kept,
            "DURIAN_DATA": str(self.cluster.data_dir.root),
            "DURIAN_POSTGRES_URL": postgres.with_role(
                self.cluster.owner_url, role=postgres.LOG_WRITER, password=PASSWORD
            ),
            "DURIAN_HISTORY_URL": self.cluster.history_url,
            "DURIAN_REDIS_URL": self.cluster.redis_url,
            "DURIAN_KAFKA_URL": f"kafka://{self.cluster.kafka_bootstrap}",
        }

    def start_command(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "ops", *arguments],
            cwd=ROOT,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def durian(self, *arguments: str, code: int = 0) -> Any:
        """What the command printed with --json, its exit code being `code`."""
        process = self.start_command(*arguments, "--json")
        out, err = process.communicate(timeout=COMMAND_S)
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{out}\n{err}"
        return json.loads(out) if out else err

    def redis(self, projection: str) -> "Redis":
        return Redis.from_url(self.cluster.redis_url, db=HOME_DB[projection])

    def _head(self) -> int:
        ((position,),) = self.cluster.database("SELECT position FROM ledger_events_head")
        assert isinstance(position, int)
        return position

    async def _live(self) -> None:
        locator = LeaderLocator(self.cluster.reader_url)
        load = Load("rebuild", locator, workers=LOADERS)
        try:
            async with load.running():
                load.hurry()
                reading: asyncio.Task[None] | None = None
                while not self._is_over.is_set():
                    await asyncio.sleep(READ_PAUSE_S)
                    if reading is None and self._head() >= FIRST_EVENTS:
                        load.calm()  # some ten commands a second leave the machine to the rebuilds
                        reading = asyncio.create_task(self._read_later())
                if reading is not None:
                    await reading
        finally:
            await locator.close()

    async def _read_later(self) -> None:
        while not self._is_over.is_set():
            if await asyncio.to_thread(self.auditor.are_at, FIRST_EVENTS):
                return await self.readers.read_until(self._is_over)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with cluster(tmp_path_factory.mktemp("rebuild"), projections=PROJECTIONS) as made:
        running = Ledger(made)
        try:
            running.start()
            yield running
        finally:
            running.end()
        running.wait_views()
        for name in ("engine-a", "engine-b"):
            made.members[name].stop()
        running.wait_views()
        assert running.readers.findings == []
        assert running.readers.reads > 10
        assert running.auditor.judge() == []


def _switched(results: list[dict[str, Any]]) -> None:
    for result in results:
        made = result["comparison"]
        assert made["switched"] and not made["differing"], result
        if made["is_compared"]:
            assert made["new_digest"] == made["old_digest"]


def test_all_views_are_rebuilt_while_the_ledger_goes_on(ledger: Ledger) -> None:
    results = ledger.durian("rebuild", "all")
    assert [result["projection"] for result in results] == list(PROJECTIONS)
    _switched(results)
    ledger.wait_views()
    listed = ledger.durian("views", "list", "--operations", "4")
    newest = {operation["projection"]: operation for operation in listed["operations"]}
    for result in results:
        recorded = newest[result["projection"]]
        assert (recorded["operation"], recorded["outcome"]) == ("rebuild", "switched")
        assert recorded["detail"]["new_digest"] == result["comparison"]["new_digest"]
        assert recorded["detail"]["positions"] == result["comparison"]["positions"]


def test_rebuild_killed_at_any_moment_goes_on_when_it_is_run_again(ledger: Ledger) -> None:
    chance = random.Random(5)
    for _ in range(KILLS):
        process = ledger.start_command("rebuild", "market", "accounts", "--workers", "2")
        deadline = time.monotonic() + chance.uniform(0, KILLED_WITHIN_S)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        _wait_unlocked(ledger)
    _switched(ledger.durian("rebuild", "market", "accounts"))
    ledger.wait_views()


def _wait_unlocked(ledger: Ledger) -> None:
    """A killed rebuild's lock expires by itself."""

    def is_free() -> bool:
        for projection in HOME_DB:
            with ledger.redis(projection) as client:
                if client.exists(f"rebuild:{projection}"):
                    return False
        return True

    wait_for(is_free, ledger.told)


def test_second_rebuild_is_refused_with_a_clear_word(ledger: Ledger) -> None:
    async def begin_and_ask() -> str:
        first = RedisGenerations(views.MINING, ledger.cluster.redis_url, somebody("first"))
        try:
            generation = await first.begin()
            told = await asyncio.to_thread(ledger.durian, "rebuild", "mining", code=1)
            await first.drop(generation)
        finally:
            await first.close()
        return str(told)

    assert "mining: another process is at its generations: first since" in asyncio.run(
        begin_and_ask()
    )


def test_rebuild_from_kafka(ledger: Ledger) -> None:
    _switched(ledger.durian("rebuild", "mining", "accounts", "--from", "kafka"))
    ledger.wait_views()


def test_corruption_is_named_then_replaced_then_brought_back(ledger: Ledger) -> None:
    with ledger.redis(views.MINING) as client:
        live = (client.get("generation:mining") or b"1").decode()
        client.hset(views.stored_key(views.MINING, live, views.EMISSION_KEY), "60", "7")
    (found,) = ledger.durian("rebuild", "mining", code=1)
    assert [(one["key"], one["field"]) for one in found["comparison"]["differences"]] == [
        (views.EMISSION_KEY, "60")
    ]
    assert not found["comparison"]["switched"]
    assert ledger.durian("views", "show", "mining", "emission")["content"]["60"] == 7
    (again,) = ledger.durian("rebuild", "mining", "--accept-differences")
    assert again["comparison"]["switched"]
    assert "60" not in ledger.durian("views", "show", "mining", "emission")["content"]
    (back,) = ledger.durian("rebuild", "mining", "--rollback")
    assert back["comparison"]["differing"] == 1
    assert back["generation"] == live
    assert ledger.durian("views", "show", "mining", "emission")["content"]["60"] == 7
    (forward,) = ledger.durian("rebuild", "mining", "--rollback")
    assert forward["generation"] == again["generation"]
    ledger.wait_views()


def test_emptied_redis_is_filled_from_the_log(ledger: Ledger) -> None:
    ledger.readers.look_away = True
    with Redis.from_url(ledger.cluster.redis_url) as client:
        client.flushall()
    _switched(ledger.durian("rebuild", *HOME_DB))
    ledger.wait_views()
    ledger.readers.look_away = False


def test_views_are_listed_shown_compared_and_dropped(ledger: Ledger) -> None:
    listed = ledger.durian("views", "list")["generations"]
    assert {one["projection"] for one in listed if one["state"] == "live"} == set(PROJECTIONS)
    shown = ledger.durian("views", "show", "market", f"ticker:{MARKET}")
    assert (shown["kind"], shown["content"]["market_id"]) == ("string", MARKET)
    assert ledger.durian("views", "show", "market", "kline:")["count"] == 8
    assert ledger.durian("views", "show", "market", "nothing:", code=1)["count"] == 0
    compared = ledger.durian("views", "diff", "market")
    assert (compared["outcome"], compared["comparison"]["switched"]) == ("equal", False)
    (outlook,) = ledger.durian("rebuild", "market", "--dry-run")
    assert outlook["events"] > 0
    _switched(ledger.durian("rebuild", "market"))
    states = {
        one["generation"]: one["state"]
        for one in ledger.durian("views", "list")["generations"]
        if one["projection"] == "market"
    }
    previous = next(name for name, state in states.items() if state == "previous")
    assert ledger.durian("views", "diff", "market", previous)["comparison"]["differing"] == 0
    assert ledger.durian("views", "drop", "market", previous)["entries"] > 0
    told = ledger.durian("views", "drop", "market", previous, code=1)
    assert f"market has no generation {previous}" in told
    told = ledger.durian("rebuild", "market", "--rollback", code=1)
    assert "no previous generation" in told


def test_what_cannot_be_done_is_said(ledger: Ledger) -> None:
    assert "no projection nonsense" in ledger.durian("rebuild", "nonsense", code=2)
    assert "exclude each other" in ledger.durian(
        "rebuild", "market", "--rollback", "--verify-only", code=2
    )
