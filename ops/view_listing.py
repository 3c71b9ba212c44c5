"""What `durian views` lists: generations of every projection, keys of one, one key decoded."""

from typing import Any, Final

import msgspec

from ops.config import Config, require
from ops.errors import UsageError
from ops.rebuilding import positions_of
from ops.view_access import open_generations
from projections.differences import live_generation
from projections.redis_entries import Entry, RedisEntries, decode_rows
from projections.redis_generations import translated
from schemas import views
from schemas.views import HOME_DB

# What stands before the colon of a key -> the shape of its values, fields or rows.
_SHAPES: Final[dict[str, Any]] = {
    "account": views.AccountView,
    "assets": views.AssetView,
    "book": views.BookOrder,
    "burned": views.BurnedView,
    "burns": views.BurnMinute,
    "contribution": views.ContributionView,
    "depth": views.DepthView,
    "fills": views.FillView,
    "kline": views.Candle,
    "markets": views.MarketView,
    "orders": views.OrderView,
    "pool": views.PoolView,
    "reserve_burns": views.BurnMinute,
    "ticker": views.TickerView,
    "trades": views.TradeView,
}


class ListedGeneration(msgspec.Struct, frozen=True, kw_only=True):
    """entries: keys or rows. bytes: about. epochs: different ones among the partitions'."""

    projection: str
    generation: str
    state: str
    positions: tuple[int, ...]
    epochs: tuple[str, ...]
    entries: int
    bytes: int
    source: str
    started_at: str
    switched_at: str


class ShownKey(msgspec.Struct, frozen=True, kw_only=True):
    """content: plain values; of a hash or sorted set by field, of a list newest first."""

    projection: str
    generation: str
    database: int
    key: str
    kind: str
    content: Any


async def list_generations(config: Config, names: tuple[str, ...]) -> list[ListedGeneration]:
    """Oldest first within a projection. Raises ViewsUnavailable."""
    found = []
    for name in names:
        store = open_generations(config, name)
        try:
            for one in await store.generations():
                size = await store.size(one.name)
                epochs = dict.fromkeys(point.epoch for point in one.checkpoints if point.epoch)
                found.append(
                    ListedGeneration(
                        projection=name,
                        generation=one.name,
                        state=one.state,
                        positions=positions_of(one),
                        epochs=tuple(epochs),
                        entries=size.entries,
                        bytes=size.bytes,
                        source=one.record.source,
                        started_at=one.record.started_at,
                        switched_at=one.record.switched_at,
                    )
                )
        finally:
            await store.close()
    return found


async def list_keys(
    config: Config, projection: str, beginning: str, generation: str, limit: int
) -> tuple[int, list[tuple[int, str]]]:
    """How many keys begin so, and the first of them: (database, key). Raises ViewsUnavailable."""
    entries = _open(config, projection)
    try:
        with translated():
            named = generation or await live_generation(entries)
            found: list[tuple[int, str]] = []
            for database in entries.databases:
                async for names in entries.keys(database, named, is_view_only=False):
                    found += [(database, name) for name in names if name.startswith(beginning)]
        return len(found), sorted(found)[:limit]
    finally:
        await entries.close()


async def show_key(config: Config, projection: str, key: str, generation: str) -> ShownKey | None:
    """None if there is no view of exactly this name. Raises ViewsUnavailable."""
    entries = _open(config, projection)
    try:
        with translated():
            named = generation or await live_generation(entries)
            for database in entries.databases:
                held = await entries.entries_of([(database, key)], named)
                read = await entries.read(named, held)
                if read:
                    return ShownKey(
                        projection=projection,
                        generation=named,
                        database=database,
                        key=key,
                        kind=held[0].kind,
                        content=_content(key, read),
                    )
        return None
    finally:
        await entries.close()


def _open(config: Config, projection: str) -> RedisEntries:
    if projection not in HOME_DB:
        raise UsageError(f"{projection} is in PostgreSQL: its tables are read with psql")
    return RedisEntries(projection, require(config, "redis_url"))


def _content(key: str, read: dict[Entry, bytes | None]) -> Any:
    shape = _SHAPES.get(key.partition(":")[0], Any)
    (first, content), *_ = read.items()
    match first.kind:
        case "hash":
            return {entry.field: _decoded(text, shape) for entry, text in sorted(read.items())}
        case "zset":
            return {entry.field: float(score or 0) for entry, score in sorted(read.items())}
        case "list":
            return [_decoded(row, shape) for row in decode_rows(content or b"")]
        case "string" | "other":
            return _decoded(content, shape)


def _decoded(text: bytes | None, shape: Any) -> Any:
    if text is None:
        return None
    try:
        return _named(msgspec.json.decode(text, type=shape))
    except msgspec.DecodeError:
        return text.decode(errors="replace")


def _named(content: Any) -> Any:
    # Structs are stored as arrays; people want the names.
    if isinstance(content, msgspec.Struct):
        return {name: _named(value) for name, value in msgspec.structs.asdict(content).items()}
    if isinstance(content, dict):
        return {name: _named(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_named(value) for value in content]
    return content
