"""Accounts as an administration has them, against real PostgreSQL: lists, changes, forgetting."""

import asyncio
import statistics
import time
from pathlib import Path

import psycopg
import pytest
from argon2.profiles import CHEAPEST, RFC_9106_LOW_MEMORY
from psycopg import errors

from gateway.errors import Refusal
from gateway.identity.accounts import NewAccount
from gateway.identity.passwords import WAITING_MAX, Passwords
from tests.fixtures.identity import PASSWORD, Identity, running_identity

pytestmark = pytest.mark.services
MANY = 100_000
# Far above what an indexed page takes, far below a scan's time on a busy machine.
PAGE_SECONDS_MAX = 0.25


async def code_of(awaitable: "object") -> str:
    with pytest.raises(Refusal) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value.code


def test_the_last_administrator_stays_one(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            accounts = identity.accounts
            first, second = [
                await accounts.create(NewAccount(user_name=name, password=PASSWORD), role="admin")
                for name in ("first", "second")
            ]
            # Each takes away the other at the same moment: one of them must fail.
            told = await asyncio.gather(
                accounts.set_role(first.user_id, "user", by=second.user_id),
                accounts.disable(second.user_id, by=first.user_id),
                return_exceptions=True,
            )
            assert sorted(type(one).__name__ for one in told) == ["Account", "Refusal"]
            admins = (await accounts.page(cursor=None, limit=9, role="admin")).items
            (last,) = [one for one in admins if one.state == "active"]
            for attempt in (
                accounts.set_role(last.user_id, "operator", by=""),
                accounts.disable(last.user_id, by=""),
                accounts.erase(last.user_id, by=""),
            ):
                assert await code_of(attempt) == "forbidden"

    asyncio.run(story())


def test_erasing_forgets_the_person_and_keeps_the_id(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            new = NewAccount(
                user_name="Alice", phone="+8613800000000", email="A@example.org", password=PASSWORD
            )
            made = await identity.accounts.create(new)
            await identity.login("alice")
            await identity.accounts.send_reset_code(made.user_id, by="console")
            for _ in range(2):
                erased = await identity.accounts.erase(made.user_id, by="root")
                assert (erased.user_id, erased.state) == (made.user_id, "erased")
            stored = await everything_stored(identity)
            for trace in ("alice", "+8613800000000", "example.org", "a test", "argon2"):
                assert trace not in stored
            assert (await identity.recorded()).count("erased") == 1
            assert await code_of(identity.accounts.enable(made.user_id, by="")) == "forbidden"
            assert (await identity.accounts.create(new)).user_id != made.user_id

    asyncio.run(story())


async def everything_stored(identity: Identity) -> str:
    told = []
    async with identity.database.transaction() as connection:
        for table in ("accounts", "sessions", "outbox", "reset_codes", "sign_in_records"):
            cursor = await connection.execute(f"SELECT t::text FROM {table} t".encode())
            told.append(str(await cursor.fetchall()))
    return "".join(told)


def test_a_disabled_account_is_out_until_it_is_enabled(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            made = await identity.register("alice")
            await identity.login("alice")
            await identity.accounts.disable(made.user_id, by="root")
            assert await identity.accounts.sessions(made.user_id) == ()
            assert await code_of(identity.login("alice")) == "forbidden"
            assert await code_of(identity.login("alice", "wrong one")) == "invalid_credentials"
            await identity.accounts.enable(made.user_id, by="root")
            assert (await identity.login("alice")).user_id == made.user_id

    asyncio.run(story())


@pytest.mark.parametrize("user_id", ["", "alice", "u_", "u_" + "a" * 26, "\x00", "u_\n", "'"])
def test_any_text_may_be_asked_for(
    auth_database: str, view_redis: str, tmp_path: Path, user_id: str
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            accounts = identity.accounts
            assert await code_of(accounts.get(user_id)) == "unknown_user"
            assert await code_of(accounts.find(user_id)) == "unknown_user"
            assert await code_of(accounts.erase(user_id, by="")) == "unknown_user"
            ended = accounts.end_session(user_id, user_id, by="")
            assert await code_of(ended) == "unknown_session"

    asyncio.run(story())


def test_pages_stay_quick_among_many(auth_database: str, view_redis: str, tmp_path: Path) -> None:
    with psycopg.connect(auth_database) as connection:
        connection.execute(
            "INSERT INTO accounts (user_id, role, state, user_name, created_ms) SELECT"
            " 'u_' || translate(lpad(n::text, 26, '0'), '0189', 'abcd'),"
            " CASE WHEN n %% 1000 = 0 THEN 'operator' ELSE 'user' END, 'active', 'name' || n, n"
            " FROM generate_series(1, %s) n",
            (MANY,),
        )

    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            cursor, seen, took = None, 0, []
            while True:
                began = time.perf_counter()
                page = await identity.accounts.page(cursor=cursor, limit=1_000)
                took.append(time.perf_counter() - began)
                seen, cursor = seen + len(page.items), page.next_cursor
                if cursor is None:
                    break
            assert seen == MANY
            # Medians: a machine that does other things besides makes any one page slow.
            first, last = statistics.median(took[:25]), statistics.median(took[-25:])
            assert last < max(3 * first, 0.05) and last < PAGE_SECONDS_MAX, took
            staff = await identity.accounts.page(cursor=None, limit=1_000, role="operator")
            assert len(staff.items) == MANY // 1_000
            assert await code_of(identity.accounts.page(cursor="x", limit=1)) == "invalid_request"

    asyncio.run(story())


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM accounts",
        "UPDATE sign_in_records SET what = 'x'",
        "DELETE FROM sign_in_records",
        "TRUNCATE sessions",
        "CREATE TABLE mine (a int)",
        "DROP TABLE outbox",
        "UPDATE alembic_version SET version_num = 'x'",
    ],
)
def test_the_services_role_may_do_no_more_than_it_needs(auth_database: str, statement: str) -> None:
    with (
        psycopg.connect(auth_database) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


def test_hashes_of_other_parameters_are_made_anew_at_sign_in(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def stored(identity: Identity) -> str:
        async with identity.database.transaction() as connection:
            cursor = await connection.execute("SELECT password_hash FROM accounts")
            ((found,),) = await cursor.fetchall()
            return str(found)

    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            await identity.register("alice")
            assert f"m={CHEAPEST.memory_cost}" in await stored(identity)
        stronger = Passwords(RFC_9106_LOW_MEMORY)
        async with running_identity(
            auth_database, view_redis, tmp_path, passwords=stronger
        ) as identity:
            await identity.login("alice")
            assert "m=65536,t=3,p=4" in await stored(identity)
            await identity.login("alice")

    asyncio.run(story())


def test_a_flood_is_refused_before_it_takes_memory(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            told = await asyncio.gather(
                *(identity.register(f"user{number}") for number in range(4 * WAITING_MAX)),
                return_exceptions=True,
            )
            refused = [one for one in told if isinstance(one, Refusal)]
            assert {one.code for one in refused} == {"too_many_requests"}
            assert all(one.retry_after for one in refused)
            assert len(told) - len(refused) == WAITING_MAX
            assert (await identity.register("later")).state == "active"

    asyncio.run(story())
