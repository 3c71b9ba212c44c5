"""gateway.view_reads on a real Redis: who travels together, and what one does not do to others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, ResponseError

from gateway.view_reads import READS_PER_TRIP_MAX, TRIPS_MAX, Fill, SharedReads, StoredKey

pytestmark = pytest.mark.services

POINTER = "pointer"
TOGETHER = 5 * READS_PER_TRIP_MAX
SECONDS_MAX = 1.0


def _prefixed(name: str) -> str:
    return f"g1:{name}"


def _get(*names: str) -> Fill:
    def fill(pipe: Pipeline, key: StoredKey) -> None:
        for name in names:
            pipe.get(key(name))

    return fill


@asynccontextmanager
async def _shared(url: str) -> AsyncIterator[tuple[Redis, SharedReads]]:
    client = Redis.from_url(url, socket_timeout=SECONDS_MAX)
    reads = SharedReads(client, POINTER, turn_seconds_max=SECONDS_MAX)
    try:
        await client.flushall()
        await client.set(POINTER, "1")
        yield client, reads
    finally:
        await reads.close()
        await client.aclose()


async def _trips(client: Redis) -> int:
    told = await client.info("commandstats")
    return int(told.get("cmdstat_exec", {}).get("calls", 0))


def test_reads_of_one_moment_travel_together_and_each_gets_its_own(view_redis: str) -> None:
    async def scenario() -> None:
        async with _shared(view_redis) as (client, reads):
            for number in range(TOGETHER):
                await client.set(f"g1:{number}", number)
            before = await _trips(client)
            asked = (reads.read(_get(str(n), "absent"), _prefixed) for n in range(TOGETHER))
            answers = await asyncio.gather(*asked)
            expected = [(b"1", [str(n).encode(), None]) for n in range(TOGETHER)]
            assert answers == expected
            assert await _trips(client) - before <= TOGETHER // READS_PER_TRIP_MAX + TRIPS_MAX

    asyncio.run(scenario())


def test_a_read_sees_what_was_written_before_it_was_asked_for(view_redis: str) -> None:
    async def scenario() -> None:
        async with _shared(view_redis) as (client, reads):
            for number in range(100):
                crowd = [
                    asyncio.create_task(reads.read(_get("x"), _prefixed)) for _ in range(number % 9)
                ]
                await client.set("g1:x", number)
                _, (seen,) = await reads.read(_get("x"), _prefixed)
                assert seen == b"%d" % number
                await asyncio.gather(*crowd)

    asyncio.run(scenario())


def test_one_that_fails_or_gives_up_leaves_the_others_alone(view_redis: str) -> None:
    async def scenario() -> None:
        async with _shared(view_redis) as (client, reads):
            await client.set("g1:x", "found")
            await client.zadd("g1:set", {"no string": 1})
            good = asyncio.create_task(reads.read(_get("x"), _prefixed))
            bad = asyncio.create_task(reads.read(_get("set"), _prefixed))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await reads.read(_get("x"), _prefixed)
            assert await good == (b"1", [b"found"])
            with pytest.raises(ResponseError):
                await bad

    asyncio.run(scenario())


def test_nobody_waits_for_a_silent_redis_longer_than_for_a_trip_and_a_turn(
    view_redis: str,
) -> None:
    async def scenario() -> None:
        async with _shared(view_redis) as (client, reads):
            await client.client_pause(int(5_000 * SECONDS_MAX))
            loop = asyncio.get_running_loop()
            began = loop.time()
            asked = (reads.read(_get("x"), _prefixed) for _ in range(TOGETHER))
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(one, TimeoutError | RedisError) for one in answers)
            assert loop.time() - began < 4 * SECONDS_MAX
        async with asyncio.timeout(20 * SECONDS_MAX):
            await _answering_again(view_redis)

    asyncio.run(scenario())


async def _answering_again(url: str) -> None:
    async with Redis.from_url(url) as client:
        await client.get(POINTER)
