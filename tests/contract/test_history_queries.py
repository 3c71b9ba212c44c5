"""What the API asks of the deep history: pages cut where they may be, the newest state, plans."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from projections.errors import ViewsUnavailable
from projections.history import queries as queries_module
from projections.history.fold import HistoryBatch
from projections.history.folder import HistoryFolder
from projections.history.memory import fresh_history
from projections.history.mining_records import mining_records
from projections.history.queries import POSITION_MAX, HistoryQueries
from projections.history.store import HistoryStore
from projections.ports import Checkpoint
from schemas.amounts import format_amount
from schemas.deep_history import Transaction
from schemas.events import LedgerEvent
from tests.fixtures._gateway_line import Line, running_line
from tests.fixtures.history import HistoryDatabase
from tests.fixtures.ledger_logs import MARKET, positioned, random_log
from tests.fixtures.mining_logs import MINERS, MiningLog

pytestmark = pytest.mark.services
FOREVER = {"from_second": 0, "to_second": 1 << 40, "limit": 10_000}
TRADED = random_log(11, seconds=900, trades=80)
MINED = MiningLog(4, seconds=900)


@asynccontextmanager
async def filled(
    database: HistoryDatabase, log: list[LedgerEvent]
) -> AsyncIterator[HistoryQueries]:
    await fill(database, log)
    queries = HistoryQueries(database.reader_url)
    await queries.open()
    try:
        yield queries
    finally:
        await queries.close()


async def fill(database: HistoryDatabase, log: list[LedgerEvent]) -> None:
    store, folder = HistoryStore(database.writer_url), HistoryFolder()
    await folder.load(store.reader("1"))
    await folder.fold_events(list(positioned(log)))
    reached = Checkpoint(position=len(log), epoch="e")
    await store.commit(0, folder.drain(), expected=Checkpoint(), reached=reached)
    await store.close()


def ask(
    database: HistoryDatabase,
    log: list[LedgerEvent],
    story: Callable[[HistoryQueries, HistoryBatch], Awaitable[None]],
) -> None:
    async def told() -> None:
        async with filled(database, log) as queries:
            await story(queries, fresh_history(positioned(log)))

    asyncio.run(told())


def test_transactions_are_paged_from_the_newest_back(history_database: HistoryDatabase) -> None:
    async def story(queries: HistoryQueries, rows: HistoryBatch) -> None:
        mine = [row for row in rows.transactions if row.user_id == "maker"]
        read = await queries.transactions("maker", limit=10_000)
        assert sorted(read, key=lambda row: (row.position, row.asset_id)) == sorted(
            mine, key=lambda row: (row.position, row.asset_id)
        )
        assert [row.position for row in read] == sorted(
            (row.position for row in read), reverse=True
        )
        for limit in (1, 2, 7):
            pages, before = list[Transaction](), 1 << 62
            while page := await queries.transactions("maker", before=before, limit=limit):
                assert len(page) in (limit, limit + 1) or not pages or page[-1] == read[-1]
                before = page[-1].position
                pages += page
            assert pages == read

    ask(history_database, TRADED, story)


@pytest.mark.parametrize(
    ("asset_id", "kind"),
    [("DUR", None), (None, "trade_executed"), ("CNY", "order_placed"), (None, "funds_withdrawn")],
)
def test_some_transactions_are_paged_as_all_are(
    history_database: HistoryDatabase,
    monkeypatch: pytest.MonkeyPatch,
    asset_id: str | None,
    kind: str | None,
) -> None:
    async def story(queries: HistoryQueries, rows: HistoryBatch) -> None:
        wanted = [
            row
            for row in await queries.transactions("maker", limit=10_000)
            if asset_id in (None, row.asset_id) and kind in (None, row.type)
        ]
        for limit in (1, 7, 10_000):
            found, before = list[Transaction](), None
            while True:
                page, before = await queries.some_transactions(
                    "maker",
                    before=POSITION_MAX if before is None else before,
                    limit=limit,
                    asset_id=asset_id,
                    kind=kind,
                )
                found += page
                if before is None:
                    break
            assert found == wanted

    # A part is as small as a page then, and ends in the middle of an event at times.
    small = queries_module._SOME_TRANSACTIONS.replace("LIMIT 10000", "LIMIT 13")
    monkeypatch.setattr(queries_module, "_SOME_TRANSACTIONS", small)
    monkeypatch.setattr(queries_module, "LOOKED_THROUGH_MAX", 13)
    ask(history_database, TRADED, story)


def test_minutes_of_a_market_are_read_by_period(history_database: HistoryDatabase) -> None:
    async def story(queries: HistoryQueries, rows: HistoryBatch) -> None:
        assert await queries.minute_klines(MARKET, **FOREVER) == rows.klines
        assert await queries.burn_records(MARKET, **FOREVER) == rows.burns
        assert await queries.reserve_burns("DUR", **FOREVER) == []
        third = rows.klines[2].open_second
        period = {"from_second": third, "to_second": third + 120, "limit": 10}
        assert await queries.minute_klines(MARKET, **period) == rows.klines[2:4]
        assert await queries.burn_records(MARKET, **period) == rows.burns[2:4]
        assert await queries.minute_klines("other", **FOREVER) == []

    ask(history_database, TRADED, story)


def test_mining_records_of_any_period_are_those_of_the_whole(
    history_database: HistoryDatabase,
) -> None:
    async def story(queries: HistoryQueries, rows: HistoryBatch) -> None:
        for user_id in (*MINERS, "stranger"):
            changes = [row for row in rows.weights if row.user_id == user_id]
            whole = mining_records(None, rows.marks, changes)
            assert await queries.mining_records(user_id, **FOREVER) == whole
            first = whole[0].open_second
            for start in range(first - 61, whole[-1].open_second, 37):
                wanted = [row for row in whole if start <= row.open_second < start + 190]
                read = await queries.mining_records(
                    user_id, from_second=start, to_second=start + 190, limit=10
                )
                assert read == wanted
                limited = await queries.mining_records(
                    user_id, from_second=start, to_second=start + 190, limit=2
                )
                assert limited == wanted[:2]
            after = whole[-1].open_second + 60
            assert not await queries.mining_records(
                user_id, from_second=after, to_second=after + 60, limit=1
            )

    ask(history_database, MINED.log, story)


def test_every_question_is_answered_by_an_index(history_database: HistoryDatabase) -> None:
    asyncio.run(fill(history_database, TRADED))
    month = "2023_11"
    questions = {
        f"mining_transactions_{month}_user_id_position_idx": "SELECT * FROM mining_transactions"
        " WHERE user_id = 'maker' AND position < 500 ORDER BY position DESC LIMIT 10",
        f"minute_klines_{month}_pkey": "SELECT * FROM minute_klines WHERE market_id = 'DUR-CNY'"
        " AND open_second >= 1699999980 AND open_second < 1700000280 ORDER BY open_second LIMIT 9",
        f"burn_records_{month}_market_id_open_second_asset_id_key": "SELECT * FROM burn_records"
        " WHERE market_id = 'DUR-CNY' AND open_second >= 1699999980 ORDER BY open_second LIMIT 9",
        f"weight_changes_{month}_user_id_from_second_position_idx": "SELECT * FROM weight_changes"
        " WHERE user_id = 'maker' AND from_second < 1700000000"
        " ORDER BY from_second DESC, position DESC LIMIT 1",
        f"mining_transactions_{month}_position_idx": "SELECT * FROM mining_transactions"
        " WHERE position > 900 AND position <= 1000",
    }
    with psycopg.connect(history_database.reader_url) as reader:
        reader.execute("SET enable_seqscan = off")
        for index, question in questions.items():
            plan = reader.execute(f"EXPLAIN {question}".encode()).fetchall()
            assert any(index in line for (line,) in plan), plan
            assert not any("Seq Scan" in line for (line,) in plan), plan


def test_history_that_is_away_is_a_fault_of_the_views() -> None:
    async def told() -> None:
        queries = HistoryQueries("postgresql://nobody:x@127.0.0.1:1/none")
        await queries.open()
        with pytest.raises(ViewsUnavailable):
            await queries.mining_records("u", **FOREVER)
        await queries.close()

    asyncio.run(told())


# -- GET /v1/mining/records -------------------------------------------------------------------


class Asker:
    """GET /v1/mining/records as somebody: the page, or the code of the problem."""

    def __init__(self, line: Line, http: httpx.AsyncClient) -> None:
        self.line = line
        self._http = http

    async def get(
        self, who: tuple[str, str] | None = ("u1", "user"), **query: int | str
    ) -> dict[str, Any] | str:
        renamed = {name.rstrip("_"): value for name, value in query.items()}
        answer = await self._http.get(
            f"{self.line.urls['mining']}/v1/mining/records",
            params=renamed,
            headers=self.line.bearer(*who) if who else {},
        )
        shown: dict[str, Any] = answer.json()
        return shown if answer.status_code == 200 else str(shown["code"])

    async def pages(self, limit: int) -> list[object]:
        """All items since genesis, page by page."""
        items: list[object] = []
        page = await self.get(limit=limit, from_=0)
        while isinstance(page, dict):
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            page = await self.get(limit=limit, cursor=page["next_cursor"])
        raise AssertionError(page)


def on_the_wire(rows: HistoryBatch, user_id: str) -> list[dict[str, Any]]:
    changes = [row for row in rows.weights if row.user_id == user_id]
    return [
        {
            "open_time": record.open_second * 1_000,
            "close_time": record.open_second * 1_000 + 59_999,
            "weight": str(record.weight),
            "accrued": format_amount(record.accrued_minor, 8),
            "settled": format_amount(record.settled_minor, 8),
            "cumulative": format_amount(record.cumulative_minor, 8),
        }
        for record in mining_records(None, rows.marks, changes)
    ]


def test_records_over_http(
    history_database: HistoryDatabase, view_redis: str, tmp_path: Path
) -> None:
    async def story(asker: Asker) -> None:
        line = asker.line
        line.fund("u1")
        line.engine.pass_seconds(600)
        await line.views.project()
        await fill(history_database, line.engine.log)
        shown = on_the_wire(fresh_history(positioned(line.engine.log)), "u1")
        assert len(shown) == 10
        assert await asker.get() == {"items": shown, "next_cursor": None}
        assert await asker.get(limit=3) == {"items": shown[-3:], "next_cursor": None}
        assert await asker.pages(4) == await asker.pages(5) == shown
        third = shown[2]["open_time"]
        page = await asker.get(from_=third, to=third + 60_000)
        assert page == {"items": shown[2:3], "next_cursor": None}
        page = await asker.get(from_=third - 59_999, to=third + 60_001)
        assert page == {"items": shown[2:4], "next_cursor": None}
        assert await asker.get(("audit", "auditor"), user_id="u1") == await asker.get()
        assert await asker.get(("u2", "user"), user_id="u1") == "forbidden"
        assert await asker.get(None) == "unauthorized"
        assert await asker.get(from_="soon") == await asker.get(limit=0) == "invalid_request"
        with psycopg.connect(history_database.owner_url) as owner:
            owner.execute("DROP VIEW index_marks")
        assert await asker.get() == "views_unavailable"

    serve_records(view_redis, tmp_path, history_database.reader_url, story)


def test_records_without_a_history(view_redis: str, tmp_path: Path) -> None:
    async def story(asker: Asker) -> None:
        assert await asker.get() == "views_unavailable"

    serve_records(view_redis, tmp_path, "", story)


def serve_records(
    view_redis: str, directory: Path, history_url: str, story: Callable[[Asker], Awaitable[None]]
) -> None:
    async def told() -> None:
        async with (
            running_line(view_redis, directory, ("mining",), history_url=history_url) as line,
            httpx.AsyncClient() as http,
        ):
            await story(Asker(line, http))

    asyncio.run(told())
