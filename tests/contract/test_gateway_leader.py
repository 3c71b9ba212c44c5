"""ops.leader against PostgreSQL: the leader's address as the reader's role sees it, or why not."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import psycopg
import pytest

from gateway.errors import LeaderUnknown
from ops.config import Config
from ops.errors import UsageError
from ops.leader import LeaderLocator, leader_locator
from tests.fixtures.postgres import LedgerDatabase

pytestmark = pytest.mark.services
DEADLINE_SECONDS = 20.0
UNELECTED = ("127.0.0.1", 3030)


def write_address(database: LedgerDatabase, address: str) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute("UPDATE ledger_events_head SET address = %s", (address,))


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await story()

    asyncio.run(told())


def test_the_address_is_read_anew_each_time(ledger_database: LedgerDatabase) -> None:
    async def story() -> None:
        config = Config(postgres_url=ledger_database.reader_url, engine_url="tcp://10.0.0.9:1")
        async with leader_locator(config) as locate:
            assert await locate() == ("10.0.0.9", 1)  # nobody was elected yet
            for host in ("10.0.0.1", "10.0.0.2"):
                write_address(ledger_database, f"tcp://{host}:3030")
                assert await locate() == (host, 3030)
            write_address(ledger_database, "tcp://[::1]:3030")
            assert await locate() == ("::1", 3030)

    run(story)


@pytest.mark.parametrize("address", ["", "nowhere", "tcp://host", "tcp://host:port"])
def test_an_address_that_is_none_is_said_so(ledger_database: LedgerDatabase, address: str) -> None:
    async def story() -> None:
        write_address(ledger_database, address)
        async with leader_locator(Config(postgres_url=ledger_database.reader_url)) as locate:
            with pytest.raises(LeaderUnknown):
                await locate()

    run(story)


def test_a_lost_connection_is_made_anew(ledger_database: LedgerDatabase) -> None:
    async def story() -> None:
        locate = LeaderLocator(ledger_database.reader_url, unelected=UNELECTED)
        assert await locate() == UNELECTED
        with psycopg.connect(ledger_database.owner_url, autocommit=True) as owner:
            owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'durian gateway' AND datname = current_database()"
            )
        with pytest.raises(LeaderUnknown):
            await locate()
        assert await locate() == UNELECTED
        await locate.close()

    run(story)


def test_a_server_that_says_nothing_can_be_given_up(ledger_database: LedgerDatabase) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            place = urlsplit(ledger_database.reader_url)
            url = f"postgresql://a:b@127.0.0.1:{silent.getsockname()[1]}{place.path}"
            locate = LeaderLocator(url)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await locate()
            # libpq's own deadline ends the attempt; whoever asks then is told.
            with pytest.raises(LeaderUnknown):
                await locate()
            await locate.close()

    run(story)


def test_without_the_log_the_configured_engine_is_the_leader() -> None:
    async def story() -> None:
        async with leader_locator(Config(engine_url="tcp://127.0.0.1:3030")) as locate:
            assert await locate() == UNELECTED
        with pytest.raises(UsageError):
            async with leader_locator(Config()):
                pass

    run(story)
