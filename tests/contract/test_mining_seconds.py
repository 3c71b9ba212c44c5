"""Allocations by the second and the history of grants over HTTP, from a real log and a real deep
history; the seconds add up to the minutes' records.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from projections.history.folder import HistoryFolder
from projections.history.store import HistoryStore
from projections.ports import Checkpoint
from schemas.amounts import format_amount, parse_amount
from schemas.commands import AdjustContribution, GrantContribution, PlaceOrder, SettleAccrual
from tests.fixtures._gateway_line import Line, running_line
from tests.fixtures._log_copy import LogCopy
from tests.fixtures._service_client import ServiceClient
from tests.fixtures.history import HistoryDatabase
from tests.fixtures.ledger_logs import positioned
from tests.fixtures.postgres import LedgerDatabase
from tests.fixtures.tiny_engine import GENESIS_SECOND

pytestmark = pytest.mark.services
ANN, BOB, AUDIT = ("ann", "user"), ("bob", "user"), ("audit", "auditor")
SECONDS = 400
PATH = "/v1/mining/allocations"


class Story:
    """A line with a log and a history. told: by user and second, what was allocated."""

    def __init__(self, line: Line, http: httpx.AsyncClient, log: LogCopy, history: str) -> None:
        self.line = line
        self.mining = ServiceClient(line, http, "mining")
        self.contribution = ServiceClient(line, http, "contribution")
        self.told: dict[str, dict[int, int]] = {"ann": {}, "bob": {}}
        self._log = log
        self._store = HistoryStore(history)
        self._folder = HistoryFolder()
        self._folded = 0

    async def close(self) -> None:
        await self._store.close()

    def accrued(self, user_id: str) -> int:
        state = self.line.engine.state
        contribution = state.contributions.users.get(user_id)
        if contribution is None or state.mining is None:
            return 0
        return contribution.settled_minor + contribution.accrued_minor(state.mining.index)

    def pass_seconds(self, count: int) -> None:
        for _ in range(count):
            before = {user_id: self.accrued(user_id) for user_id in self.told}
            self.line.engine.pass_seconds(1)
            for user_id, told in self.told.items():
                told[self.line.engine.second] = self.accrued(user_id) - before[user_id]

    async def record(self) -> None:
        """Into Redis and the log."""
        await self.line.views.project()
        await self._log.append()

    async def fold_history(self) -> None:
        if not self._folded:
            await self._folder.load(self._store.reader("1"))
        log = self.line.engine.log
        await self._folder.fold_events(list(positioned(log))[self._folded :])
        before, self._folded = self._folded, len(log)
        await self._store.commit(
            0,
            self._folder.drain(),
            expected=Checkpoint(position=before, epoch="e") if before else Checkpoint(),
            reached=Checkpoint(position=len(log), epoch="e"),
        )

    def change_often(self) -> None:
        """Weights that change within seconds, expire, are settled, revoked; and a lot of orders."""
        engine = self.line.engine
        self.line.fund("ann")
        self.pass_seconds(30)
        for number in range(4):
            engine.accept(
                GrantContribution(
                    user_id="bob",
                    grant_id=f"g{number}",
                    source="device",
                    weight=37 + number,
                    expires_second=engine.second + 40 * (number + 1),
                )
            )
            self.pass_seconds(7 * number)
        engine.accept(SettleAccrual(user_id="ann"))
        engine.accept(AdjustContribution(user_id="bob", grant_id="g3", weight=1_000))
        for number in range(30):
            engine.accept(
                PlaceOrder(
                    user_id="ann",
                    client_order_id=str(number),
                    market_id="DUR-CNY",
                    side="buy",
                    order_type="limit",
                    price_minor=10**8,
                    quantity_minor=10**8,
                )
            )
        self.pass_seconds(200)
        engine.accept(AdjustContribution(user_id="bob", grant_id="g3", weight=0))
        self.pass_seconds(GENESIS_SECOND + SECONDS - 1 - engine.second)


@pytest.fixture
def tell(
    view_redis: str,
    tmp_path: Path,
    ledger_database: LedgerDatabase,
    history_database: HistoryDatabase,
) -> Callable[[Callable[[Story], Awaitable[None]]], None]:
    @contextlib.asynccontextmanager
    async def started() -> AsyncIterator[Story]:
        async with (
            running_line(
                view_redis,
                tmp_path,
                ("contribution", "mining"),
                history_url=history_database.reader_url,
                postgres_url=ledger_database.reader_url,
            ) as line,
            httpx.AsyncClient() as http,
        ):
            log = LogCopy(ledger_database, line.engine)
            story = Story(line, http, log, history_database.writer_url)
            try:
                yield story
            finally:
                log.close()
                await story.close()

    def told(scene: Callable[[Story], Awaitable[None]]) -> None:
        async def run() -> None:
            async with started() as story:
                await scene(story)

        asyncio.run(run())

    return told


Tell = Callable[[Callable[[Story], Awaitable[None]]], None]


def check_seconds(items: list[dict[str, Any]], told: dict[int, int]) -> None:
    for item in items:
        assert parse_amount(item["amount"], 8) == told.get(item["second"], 0), item
        until = sum(amount for second, amount in told.items() if second <= item["second"])
        assert item["cumulative"] == format_amount(until, 8)


def test_seconds_are_those_of_the_ledger_and_add_up_to_the_records(tell: Tell) -> None:
    async def scene(story: Story) -> None:
        story.change_often()
        await story.record()
        await story.fold_history()
        genesis = GENESIS_SECOND * 1_000
        for who in (ANN, BOB):
            whole = await story.mining.pages(PATH, who, from_=0, limit=3_600)
            assert [one["second"] for one in whole] == list(
                range(GENESIS_SECOND, GENESIS_SECOND + SECONDS)
            )
            check_seconds(whole, story.told[who[0]])
            for limit in (37, 59):
                assert await story.mining.pages(PATH, who, from_=0, limit=limit) == whole
            for first, last in ((0, 1), (1, 2), (9, 70), (69, 71), (70, 390), (391, 399)):
                period = {"from_": genesis + first * 1_000, "to": genesis + last * 1_000}
                found = await story.mining.shown(PATH, who, **period, limit=3_600)
                assert found == {"items": whole[first:last], "next_cursor": None}
            assert (await story.mining.shown(PATH, who))["items"] == whole[-60:]
            await check_records(story, who, whole)
        shown = await story.mining.shown(PATH, AUDIT, user_id="nobody", limit=2)
        assert [one["amount"] for one in shown["items"]] == ["0.00000000"] * 2
        forbidden = await story.mining.refused("GET", PATH, ANN, user_id="bob")
        assert forbidden == (403, "forbidden")
        too_many = await story.mining.refused("GET", PATH, ANN, limit=3_601)
        assert too_many == (400, "invalid_request")

    tell(scene)


async def check_records(story: Story, who: tuple[str, str], whole: list[dict[str, Any]]) -> None:
    records = await story.mining.pages("/v1/mining/records", who, from_=0, limit=2)
    assert len(records) == 6
    for record in records:
        opens = record["open_time"] // 1_000
        seconds = [one for one in whole if opens <= one["second"] < opens + 60]
        total = sum(parse_amount(one["amount"], 8) for one in seconds)
        assert record["accrued"] == format_amount(total, 8)
        assert record["cumulative"] == seconds[-1]["cumulative"]


def test_seconds_that_the_history_has_not_reached_are_not_shown_yet(tell: Tell) -> None:
    async def scene(story: Story) -> None:
        story.change_often()
        await story.record()
        empty = await story.mining.shown(PATH, ANN)
        assert empty == {"items": [], "next_cursor": None}
        await story.fold_history()
        reached = story.line.engine.second
        story.line.engine.accept(SettleAccrual(user_id="ann"))
        story.pass_seconds(150)
        await story.record()
        found = await story.mining.shown(PATH, ANN, from_=(reached - 5) * 1_000, limit=3_600)
        assert [one["second"] for one in found["items"]] == list(range(reached - 5, reached + 1))
        assert found["next_cursor"] is None
        assert (await story.mining.shown(PATH, ANN))["items"] == []
        position = len(story.line.engine.log)
        await story.fold_history()
        found = await story.mining.shown(PATH, ANN, min_position=position, limit=150)
        check_seconds(found["items"], story.told["ann"])
        assert found["items"][-1]["position"] == position

    tell(scene)


def test_seconds_that_are_no_longer_in_the_log(tell: Tell, ledger_database: LedgerDatabase) -> None:
    async def scene(story: Story) -> None:
        story.change_often()
        await story.record()
        await story.fold_history()
        kept = GENESIS_SECOND + 130
        with psycopg.connect(ledger_database.owner_url) as owner:
            owner.execute("ALTER TABLE ledger_events DISABLE TRIGGER USER")
            position = next(
                at
                for at, event in positioned(story.line.engine.log)
                if getattr(event, "second", None) == kept
            )
            owner.execute("DELETE FROM ledger_events WHERE notification_id < %s", [position])
        for first, limit in ((0, 50), (100, 100), (100, 10)):
            period = {"from_": (GENESIS_SECOND + first) * 1_000, "limit": limit}
            refused = await story.mining.refused("GET", PATH, ANN, **period)
            assert refused == (404, "not_found")
        found = await story.mining.shown(PATH, ANN, from_=(kept + 1) * 1_000)
        check_seconds(found["items"], story.told["ann"])

    tell(scene)


def test_the_history_of_a_users_grants(tell: Tell) -> None:
    path = "/v1/contributions/bob/history"

    async def scene(story: Story) -> None:
        story.change_often()
        await story.record()
        whole = await story.contribution.pages(path, BOB, limit=1_000)
        assert [(one["change"], one["grant_id"]) for one in whole] == [
            ("revoked", "g3"),
            ("expired", "g2"),
            ("expired", "g1"),
            ("adjusted", "g3"),
            ("expired", "g0"),
            ("granted", "g3"),
            ("granted", "g2"),
            ("granted", "g1"),
            ("granted", "g0"),
        ]
        assert (whole[0]["weight_before"], whole[0]["weight"]) == ("1000", "0")
        assert (whole[-1]["source"], whole[-1]["weight_after"]) == ("device", "37")
        assert await story.contribution.pages(path, BOB, limit=2) == whole
        # Many orders lie between: pages may be short, and nothing is lost.
        anns = await story.contribution.pages("/v1/contributions/ann/history", AUDIT, limit=1)
        assert [one["grant_id"] for one in anns] == ["first"]
        assert await story.contribution.refused("GET", path, ANN) == (403, "forbidden")
        nobody = await story.contribution.shown("/v1/contributions/nobody/history", AUDIT)
        assert nobody == {"items": [], "next_cursor": None}

    tell(scene)


def test_without_a_log(view_redis: str, tmp_path: Path) -> None:
    async def told() -> None:
        async with (
            running_line(view_redis, tmp_path, ("contribution", "mining")) as line,
            httpx.AsyncClient() as http,
        ):
            line.fund("ann")
            line.engine.pass_seconds(3)
            await line.views.project()
            mining = ServiceClient(line, http, "mining")
            assert await mining.refused("GET", PATH, ANN) == (503, "history_unavailable")
            contribution = ServiceClient(line, http, "contribution")
            path = "/v1/contributions/ann/history"
            assert await contribution.refused("GET", path, ANN) == (503, "history_unavailable")

    asyncio.run(told())
