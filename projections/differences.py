"""Comparing stored views with expected ones, key by key. Feeds and checkpoints are not views.

A feed's content depends on where batches were cut (pulse and account publish only the newest
state), its offsets do not: those are views and are compared.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from projections.batch import Place
from projections.memory import Stored
from projections.redis_views import DATABASES, connect
from schemas import views

SHOWN_MAX = 200

# Which keys are whose, by database; the part before ":" of a key, or all of it.
FAMILIES: dict[str, dict[int, frozenset[str]]] = {
    views.MARKET: {
        views.TRADING_DB: frozenset(
            {"assets", "markets", "kline", "burns", "trades", "ticker", "state", "offsets"}
        )
    },
    views.MINING: {
        views.MINING_DB: frozenset({"pool", "emission", "marks", "state", "offsets"}),
    },
    views.ACCOUNTS: {
        views.TRADING_DB: frozenset({"account"}),
        views.CONTRIBUTION_DB: frozenset({"contribution", "weights"}),
    },
}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One key or field that differs. expected, found: what is there; None if it is absent."""

    database: int
    key: str
    field: str = ""
    expected: str | None
    found: str | None


async def read_views(projection: str, url: str) -> dict[Place, Stored]:
    """Everything the projection holds in Redis, in the shape of MemoryViews.views."""
    stored: dict[Place, Stored] = {}
    for database in DATABASES[projection]:
        client = connect(url, database)
        try:
            async for key in _keys(client, FAMILIES[projection][database]):
                stored[database, key] = await _read_key(client, key)
        finally:
            await client.aclose()
    return stored


async def compare(projection: str, url: str, expected: Mapping[Place, Stored]) -> list[Difference]:
    """What differs between Redis and `expected`, in the order of the keys; empty when all agree."""
    return list_differences(expected, await read_views(projection, url))


def list_differences(
    expected: Mapping[Place, Stored], found: Mapping[Place, Stored]
) -> list[Difference]:
    """Key by key, hashes and sorted sets field by field; an empty collection is an absent one."""
    listed: list[Difference] = []
    for place in sorted({*expected, *found}):
        wanted, got = expected.get(place) or None, found.get(place) or None
        if wanted == got:
            continue
        if isinstance(wanted, dict) and isinstance(got, dict):
            for field in sorted({*wanted, *got}):
                listed += _differ(place, wanted.get(field), got.get(field), field)
        else:
            listed += _differ(place, wanted, got)
    return listed


def _differ(place: Place, wanted: object, got: object, field: str = "") -> list[Difference]:
    if wanted == got:
        return []
    expected, found = _shown(wanted), _shown(got)
    return [
        Difference(database=place[0], key=place[1], field=field, expected=expected, found=found)
    ]


def _shown(stored: object) -> str | None:
    if stored is None:
        return None
    text = stored.decode(errors="replace") if isinstance(stored, bytes) else repr(stored)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


async def _keys(client: Redis, families: frozenset[str]) -> AsyncIterator[str]:
    async for key in client.scan_iter(count=1_000):
        name = cast(bytes, key).decode()
        if name.partition(":")[0] in families:
            yield name


async def _read_key(client: Redis, key: str) -> Stored:
    # redis-py shares its annotations between the sync and the async client.
    reads: Any = client
    match await reads.type(key):
        case b"string":
            return cast(bytes, await reads.get(key))
        case b"hash":
            hashed = await reads.hgetall(key)
            return {field.decode(): content for field, content in hashed.items()}
        case b"list":
            return cast(list[bytes], await reads.lrange(key, 0, -1))
        case b"zset":
            ranked = await reads.zrange(key, 0, -1, withscores=True)
            return {member.decode(): score for member, score in ranked}
        case other:
            return cast(bytes, other)
