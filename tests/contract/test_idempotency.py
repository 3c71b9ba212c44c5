"""Every command of every service, sent 50 times at once with one key over a real engine and
PostgreSQL: it happens once, and all get the first answer.

Which commands there are is asked of the services; one without a case fails the test.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from gateway.services import ENDPOINTS, HttpService
from ops.servers import postgres
from ops.service_databases import provision_auth, provision_desk
from tests.fixtures._account_command_cases import CASES as ACCOUNT_CASES
from tests.fixtures._commands_once import AT_ONCE, Case, World, check_once
from tests.fixtures._desk_command_cases import CASES as DESK_CASES
from tests.fixtures._ledger_command_cases import CASES as LEDGER_CASES
from tests.fixtures._stored_line import stored_line
from tests.fixtures.postgres import LedgerDatabase

pytestmark = pytest.mark.services
CASES: Mapping[str, Mapping[str, Case]] = {
    **LEDGER_CASES,
    "auth": ACCOUNT_CASES,
    "admin": DESK_CASES,
}
TOGETHER: tuple[HttpService, ...] = ("contribution", "mining", "trading", "auth", "admin")
PASSWORD = "services"


@pytest.fixture
def databases(postgres_server: str, database_names: Iterator[str]) -> dict[str, tuple[str, str]]:
    """New databases of the services by name: as the owner, and as the services' own role."""
    found = {}
    for name, provision, role in (
        ("desk", provision_desk, postgres.DESK),
        ("auth", provision_auth, postgres.AUTH),
    ):
        owner_url = postgres_server.rpartition("/")[0] + f"/{next(database_names)}"
        provision(owner_url, password=PASSWORD)
        found[name] = owner_url, postgres.with_role(owner_url, role=role, password=PASSWORD)
    return found


def commands(service: HttpService) -> set[str]:
    return {f"{each.method} {each.path}" for each in ENDPOINTS[service] if each.is_command}


@pytest.mark.parametrize("service", ENDPOINTS)
def test_every_command_has_a_case(service: HttpService) -> None:
    assert commands(service) == {*CASES.get(service, {})}


def test_every_command_happens_once(
    view_redis: str,
    ledger_database: LedgerDatabase,
    databases: dict[str, tuple[str, str]],
    tmp_path: Path,
) -> None:
    urls = {f"{name}_url": url for name, (_, url) in databases.items()}
    owners = {name: url for name, (url, _) in databases.items()}

    async def told() -> list[str]:
        # Connections that the services are about to close for their silence are not used again.
        limits = httpx.Limits(max_connections=AT_ONCE, keepalive_expiry=1)
        async with (
            stored_line(view_redis, tmp_path / "line", ledger_database, TOGETHER, **urls) as stored,
            httpx.AsyncClient(limits=limits, timeout=60) as http,
        ):
            world = World(stored, http, owners)
            return [found async for found in wrong(world)]

    found = asyncio.run(told())
    assert not found, "\n".join(found)


async def wrong(world: World) -> AsyncIterator[str]:
    """What is wrong, by command."""
    for service in TOGETHER:
        for number, (command, case) in enumerate(CASES[service].items()):
            method = command.partition(" ")[0]
            try:
                await check_once(world, service, method, case, f"{service}-{number}")
            except (AssertionError, TimeoutError) as exc:
                yield f"{service} {command}: {exc!r}"
