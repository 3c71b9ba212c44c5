"""Limits of addresses in Redis, database 14: kept over a restart, and no lock without it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import redis

from gateway.errors import Refusal
from gateway.identity.client_limits import AUTH_DB, ClientLimits, Kind
from tests.fixtures.identity import Clock

pytestmark = pytest.mark.services
LIMITS: dict[Kind, str] = {"sign_in": "3/minute", "register": "1/minute"}


@contextlib.asynccontextmanager
async def limits(url: str) -> AsyncIterator[ClientLimits]:
    clock = Clock()
    found = ClientLimits(url, clock.second, LIMITS)
    try:
        yield found
    finally:
        await found.close()


async def is_refused(found: ClientLimits, kind: Kind, client: str) -> bool:
    try:
        await found.check(kind, client)
    except Refusal as refusal:
        assert refusal.code == "too_many_requests"
        assert refusal.retry_after is not None
        assert 1 <= refusal.retry_after <= 60
        return True
    return False


def test_each_address_has_its_own_and_a_restart_forgets_none(view_redis: str) -> None:
    async def story() -> None:
        async with limits(view_redis) as found:
            told = [await is_refused(found, "sign_in", "192.0.2.1/32") for _ in range(4)]
            assert told == [False, False, False, True]
            assert not await is_refused(found, "sign_in", "192.0.2.2/32")
            assert not await is_refused(found, "register", "192.0.2.1/32")
            # No limit is set for this kind.
            assert not any([await is_refused(found, "code", "a") for _ in range(9)])
        async with limits(view_redis) as found:
            assert await is_refused(found, "sign_in", "192.0.2.1/32")

    with redis.Redis.from_url(f"{view_redis}/{AUTH_DB}") as client:
        client.flushdb()
        asyncio.run(story())
        assert client.dbsize() > 0


def test_without_redis_nobody_is_kept_out() -> None:
    async def story() -> None:
        async with limits("redis://127.0.0.1:1") as found:
            assert not any([await is_refused(found, "register", "a") for _ in range(5)])

    asyncio.run(story())
