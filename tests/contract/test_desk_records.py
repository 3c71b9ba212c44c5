"""The record of who did what on real PostgreSQL: only added to, in one chain."""

import asyncio

import psycopg
import pytest

from gateway.desk.desk import Desk
from gateway.desk.records import Entry, RecordFilter, append
from tests.fixtures.desk import DeskDatabase, running_desk

pytestmark = pytest.mark.services


def entry(who: str = "alice", action: str = "halt_market", target: str = "market:DUR-CNY") -> Entry:
    return Entry(
        who=who,
        role="admin",
        request_id="r",
        action=action,
        target=target,
        details={"reason": "test"},
    )


async def add(desk: Desk, one: Entry) -> int:
    async with desk.database.transaction() as connection:
        return await append(connection, one)


def test_many_at_once_make_one_dense_chain(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            ids = await asyncio.gather(*(add(desk, entry(f"user-{n % 3}")) for n in range(40)))
            assert sorted(ids) == list(range(1, 41))
            check = await desk.records.verify()
            assert (check.holds, check.checked, check.last_id) == (True, 40, 40)
            page = await desk.records.page(RecordFilter(who="user-1", after=10), 5)
            assert [one.who for one in page.items] == ["user-1"] * 5
            assert page.next_cursor == str(page.items[-1].id)
            assert check.head == (await desk.records.page(RecordFilter(after=39), 5)).items[0].hash

    asyncio.run(story())


def test_check_goes_on_where_it_stopped(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            for _ in range(5):
                await add(desk, entry())
            first = await desk.records.verify(limit=3)
            assert (first.holds, first.next_id) == (True, 3)
            rest = await desk.records.verify(after=3)
            assert (rest.holds, rest.checked, rest.next_id) == (True, 2, None)

    asyncio.run(story())


@pytest.mark.parametrize("statement", ["UPDATE records SET who = 'x'", "DELETE FROM records"])
@pytest.mark.parametrize("by", ["role", "owner"])
def test_rows_cannot_be_changed(desk_database: DeskDatabase, by: str, statement: str) -> None:
    url = desk_database.url if by == "role" else desk_database.owner_url
    for refused in (statement, "TRUNCATE records CASCADE"):
        with (
            psycopg.connect(url) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(refused.encode())


def test_of_an_approval_only_the_decision_can_be_written(desk_database: DeskDatabase) -> None:
    for changed in ("proposal = ''", "proposed_by = 'x'", "expires_at = now()"):
        with (
            psycopg.connect(desk_database.url) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(f"UPDATE approvals SET {changed}".encode())


@pytest.mark.parametrize(
    ("change", "first_wrong"),
    [
        ("UPDATE records SET who = 'mallory' WHERE id = 3", 3),
        ("UPDATE records SET details = '{}' WHERE id = 5", 5),
        ("UPDATE records SET at_ms = at_ms + 1 WHERE id = 1", 1),
        ("DELETE FROM records WHERE id = 2", 3),
        ("DELETE FROM records WHERE id = 1", 2),
    ],
)
def test_what_a_superuser_changes_is_found(
    desk_database: DeskDatabase, change: str, first_wrong: int
) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            for _ in range(5):
                await add(desk, entry())
            assert (await desk.records.verify()).holds
            desk_database.change(change)
            check = await desk.records.verify()
            assert (check.holds, check.first_wrong) == (False, first_wrong)

    asyncio.run(story())
