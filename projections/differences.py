"""What differs between two lots of views, key by key, in words for people.

Feeds and checkpoints are not views. A feed's content depends on where batches were cut (pulse and
account publish only the newest state), its offsets do not: those are views and are compared.
"""

from collections.abc import Mapping
from typing import cast

import msgspec

from projections.batch import Place
from projections.memory import Stored
from projections.redis_entries import Entry, RedisEntries, decode_rows
from schemas import views

SHOWN_MAX = 200


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One key or field that differs. expected, found: what is there; None if it is absent.

    field: of a hash, member of a sorted set, or "row 7" of a list (0 is the head).
    """

    database: int
    key: str
    field: str = ""
    expected: str | None
    found: str | None


async def read_views(projection: str, url: str, generation: str = "") -> dict[Place, Stored]:
    """Everything a generation ("": the live one) holds in Redis, in the shape of MemoryViews.views.

    For tests and small ledgers: all of it is in memory.
    """
    entries = RedisEntries(projection, url)
    try:
        named = generation or await live_generation(entries)
        stored: dict[Place, Stored] = {}
        for database in entries.databases:
            async for names in entries.keys(database, named):
                found = await entries.entries_of([(database, name) for name in names], named)
                for entry, content in (await entries.read(named, found)).items():
                    _store(stored, entry, content)
        return stored
    finally:
        await entries.close()


async def live_generation(entries: RedisEntries) -> str:
    """The name of the generation that readers see."""
    home = entries.clients[views.HOME_DB[entries.projection]]
    pointer: bytes | None = await home.get(views.generation_key(entries.projection))
    return pointer.decode() if pointer else views.FIRST_GENERATION


async def compare(
    projection: str, url: str, expected: Mapping[Place, Stored], generation: str = ""
) -> list[Difference]:
    """What differs between Redis and `expected`, in the order of the keys; empty when all agree."""
    return list_differences(expected, await read_views(projection, url, generation))


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


def difference(entry: Entry, expected: bytes | None, found: bytes | None) -> Difference:
    """Of two contents of one entry that are not the same; of a list, its first differing row."""
    field, wanted, got = entry.field, expected, found
    if entry.kind == "list" and expected is not None and found is not None:
        rows, others = decode_rows(expected), decode_rows(found)
        row = next(
            (row for row, pair in enumerate(zip(rows, others, strict=False)) if pair[0] != pair[1]),
            min(len(rows), len(others)),
        )
        field = f"row {row}"
        wanted = rows[row] if row < len(rows) else None
        got = others[row] if row < len(others) else None
    return Difference(
        database=entry.database,
        key=entry.key,
        field=field,
        expected=_shown(wanted),
        found=_shown(got),
    )


def _store(stored: dict[Place, Stored], entry: Entry, content: bytes | None) -> None:
    place = (entry.database, entry.key)
    if content is None:
        return
    match entry.kind:
        case "hash":
            cast(dict[str, bytes], stored.setdefault(place, {}))[entry.field] = content
        case "zset":
            cast(dict[str, float], stored.setdefault(place, {}))[entry.field] = float(content)
        case "list":
            stored[place] = decode_rows(content)
        case "string" | "other":
            stored[place] = content


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
