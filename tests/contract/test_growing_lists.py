"""Lists that grow while they are read page by page: what was there is shown once, and all of it.

Real engine, log and databases; after every page there are more rows than before.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.services import HTTP_SERVICES
from ops.servers import postgres
from ops.service_databases import provision_auth, provision_desk
from tests.fixtures._account_command_cases import PASSWORD as USERS_PASSWORD
from tests.fixtures._commands_once import World
from tests.fixtures._desk_command_cases import ADMIN, burn
from tests.fixtures._ledger_command_cases import MARKET, OPERATOR, funded, order
from tests.fixtures._stored_line import stored_line
from tests.fixtures.postgres import LedgerDatabase

pytestmark = pytest.mark.services
SERVICES_PASSWORD = "services"
ROWS = 12
PAGE_ITEMS = 5
_numbers = itertools.count(1)

Add = Callable[[World, str], Awaitable[None]]


async def add_orders(world: World, user: str) -> None:
    """Two, which trade with each other's maker and so are fills and trades too."""
    sell = order(user_id="maker", side="sell", client_order_id=f"s{next(_numbers)}")
    await world.done("trading", "POST", "/v1/orders", OPERATOR, sell)
    buy = order(user_id=user, client_order_id=f"b{next(_numbers)}")
    await world.done("trading", "POST", "/v1/orders", OPERATOR, buy)


async def add_grant(world: World, user: str) -> None:
    body = {"user_id": user, "source": "s", "weight": "1", "grant_id": f"g{next(_numbers)}"}
    await world.done("contribution", "POST", "/v1/contributions", OPERATOR, body)


async def add_withdrawal(world: World, user: str) -> None:
    body = {"user_id": user, "asset": "CNY", "amount": "1", "destination": "bank 12345678"}
    await world.done("trading", "POST", "/v1/withdrawals", OPERATOR, body)


async def add_account(world: World, user: str) -> None:
    body = {"user_name": f"grower{next(_numbers)}", "password": USERS_PASSWORD}
    await world.done("auth", "POST", "/v1/register", None, body)


async def add_approval(world: World, user: str) -> None:
    path = f"/v1/admin/markets/{MARKET}/burn"
    await world.done("admin", "PUT", path, ADMIN, burn(next(_numbers) % 1_000))


async def add_job(world: World, user: str) -> None:
    made = await world.done("admin", "POST", "/v1/admin/jobs", ADMIN, {"kind": "verify_log"})
    await world.done("admin", "POST", f"/v1/admin/jobs/{made['id']}/cancel", ADMIN)


# service, path with {user} in it, what adds a row
LISTS: tuple[tuple[str, str, Add], ...] = (
    ("trading", "/v1/orders?user_id={user}&state=all", add_orders),
    ("trading", "/v1/fills?user_id={user}", add_orders),
    ("trading", f"/v1/trades?market={MARKET}", add_orders),
    ("trading", "/v1/withdrawals?user_id={user}", add_withdrawal),
    ("trading", "/v1/withdrawals?all_users=true", add_withdrawal),
    ("contribution", "/v1/contributions/{user}/history?", add_grant),
    ("admin", "/v1/admin/users?", add_account),
    ("admin", "/v1/admin/approvals?", add_approval),
    ("admin", "/v1/admin/records?", add_approval),
    ("admin", "/v1/admin/jobs?", add_job),
)


@pytest.fixture
def urls(postgres_server: str, database_names: Iterator[str]) -> dict[str, str]:
    """Databases of their own for auth and administration, as settings of a line."""
    found = {}
    for name, provision, role in (
        ("desk_url", provision_desk, postgres.DESK),
        ("auth_url", provision_auth, postgres.AUTH),
    ):
        owner_url = postgres_server.rpartition("/")[0] + f"/{next(database_names)}"
        provision(owner_url, password=SERVICES_PASSWORD)
        found[name] = postgres.with_role(owner_url, role=role, password=SERVICES_PASSWORD)
    return found


def test_what_was_there_is_shown_once(
    view_redis: str, ledger_database: LedgerDatabase, urls: dict[str, str], tmp_path: Path
) -> None:
    async def told() -> None:
        async with (
            stored_line(
                view_redis, tmp_path / "line", ledger_database, HTTP_SERVICES, **urls
            ) as stored,
            httpx.AsyncClient(limits=httpx.Limits(keepalive_expiry=1), timeout=60) as http,
        ):
            world = World(stored, http, {})
            deposit = {"user_id": "maker", "asset": "DUR", "amount": "1000000", "reference": "m"}
            await world.done("trading", "POST", "/v1/deposits", OPERATOR, deposit)
            for service, path, add in LISTS:
                user = await funded(world)
                for _ in range(ROWS):
                    await add(world, user)
                await check_growing(world, service, path.replace("{user}", user), add, user)

    asyncio.run(told())


async def check_growing(world: World, service: str, path: str, add: Add, user: str) -> None:
    before = await read(world, service, f"{path}&limit=1000")
    there = [_identity(item) for item in before["items"]]
    assert len(there) >= ROWS, path
    shown: list[bytes] = []
    cursor = ""
    while True:
        page = await read(world, service, f"{path}&limit={PAGE_ITEMS}{cursor}")
        assert len(page["items"]) <= PAGE_ITEMS
        shown += [_identity(item) for item in page["items"]]
        if page["next_cursor"] is None or len(shown) > 10 * len(there):
            break
        await add(world, user)
        cursor = f"&cursor={page['next_cursor']}"
        # Oldest first it would grow for ever: what matters is what was there.
        if {*there} <= {*shown}:
            break
    assert len(shown) == len({*shown}), f"{path}: {len(shown) - len({*shown})} items repeated"
    assert {*there} <= {*shown}, f"{path}: {len({*there} - {*shown})} items missing"


async def read(world: World, service: str, path: str) -> dict[str, Any]:
    page: dict[str, Any] = await world.done(service, "GET", path, ADMIN)
    return page


def _identity(item: dict[str, Any]) -> bytes:
    """What names an item, whatever becomes of it meanwhile."""
    names = ("order_id", "trade_id", "withdrawal_id", "user_id", "position", "record_id", "id")
    return msgspec.json.encode({name: item[name] for name in names if name in item})
