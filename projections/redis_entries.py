"""The entries of one projection's views in Redis, read by generation and compared in pairs.

An entry is what one write replaces: a string, a field of a hash, a member of a sorted set, a whole
list. Its content is bytes. Feeds and checkpoints are no views and are left out: where batches were
cut shows in a feed, but its offsets are views.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from projections.batch import Batch, Place
from projections.redis_views import DATABASES, connect
from schemas import views

# other: of a type that no view has; its content is the type's name.
Kind = Literal["string", "hash", "zset", "list", "other"]
SCANNED_KEYS = 500
# Fields of one reply; a hash or sorted set beyond it is read in several.
SCANNED_FIELDS = 1_000
# Commands of one pipeline.
ASKED_AT_ONCE = 500
_SCANS: dict[Kind, str] = {"hash": "HSCAN", "zset": "ZSCAN"}
_NO_VIEWS = ("feed:", "checkpoint:")
_KINDS: dict[bytes, Kind] = {
    b"string": "string",
    b"hash": "hash",
    b"zset": "zset",
    b"list": "list",
    b"set": "other",
    b"stream": "other",
}


class Entry(NamedTuple):
    """field: of a hash, or member of a sorted set; "" for all others."""

    database: int
    key: str
    kind: Kind
    field: str = ""

    def name(self) -> bytes:
        """Bytes that no other entry has, for a digest."""
        return f"{self.database}\n{self.key}\n{self.kind}\n{self.field}".encode()


class Pair(NamedTuple):
    """What two generations have of one entry; None where it is absent."""

    entry: Entry
    new: bytes | None
    old: bytes | None


class RedisEntries:
    """Of one projection. url: any database in it is replaced by the views' own."""

    def __init__(self, projection: str, url: str) -> None:
        self.projection = projection
        self.databases = DATABASES[projection]
        self.clients = {database: connect(url, database) for database in self.databases}

    async def close(self) -> None:
        for client in self.clients.values():
            await client.aclose()

    async def keys(
        self, database: int, generation: str, *, is_view_only: bool = True
    ) -> AsyncIterator[list[str]]:
        """Names of the generation's views, some at a time, each once.

        is_view_only: without feeds and checkpoints.
        """
        prefix, seen = views.stored_key(self.projection, generation, ""), set[str]()
        client, cursor = self.clients[database], None
        while cursor != 0:
            found: tuple[int, list[bytes]] = await client.scan(
                cursor or 0, match=_literal(prefix) + "*", count=SCANNED_KEYS
            )
            cursor = int(found[0])
            names = {key.decode()[len(prefix) :] for key in found[1]} - seen
            seen |= names
            listed = sorted(names)
            if is_view_only:
                listed = [name for name in listed if not name.startswith(_NO_VIEWS)]
            if listed:
                yield listed

    async def read(self, generation: str, entries: Iterable[Entry]) -> dict[Entry, bytes | None]:
        """What the entries hold; None for one that is absent or of another kind."""
        found: dict[Entry, bytes | None] = {}
        for database, asked in _by_database(entries).items():
            for start in range(0, len(asked), ASKED_AT_ONCE):
                some = asked[start : start + ASKED_AT_ONCE]
                commands = [
                    _command(kind, views.stored_key(self.projection, generation, key), fields)
                    for key, kind, fields in some
                ]
                answers = await self._ask(database, commands)
                for (key, kind, fields), answer in zip(some, answers, strict=True):
                    contents = _contents(kind, answer, len(fields))
                    for field, content in zip(fields, contents, strict=True):
                        found[Entry(database, key, kind, field)] = content
        return found

    async def pairs(self, *, new: str, old: str) -> AsyncIterator[list[Pair]]:
        """Every entry of either generation, in pairs, some at a time; `new` must not change.

        What changes in `old` meanwhile may be told as it was before or after.
        """
        for database in self.databases:
            async for names in self.keys(database, new):
                yield await self._key_pairs(database, names, new=new, old=old)
            async for names in self.keys(database, old):
                kinds = await self._kinds(database, names, new)
                only_old = [name for name, kind in zip(names, kinds, strict=True) if kind is None]
                if only_old:
                    turned = await self._key_pairs(database, only_old, new=old, old=new)
                    yield [Pair(pair.entry, pair.old, pair.new) for pair in turned]

    async def entries_of(self, places: Iterable[Place], generation: str) -> list[Entry]:
        """All that the keys hold."""
        by_database: dict[int, list[str]] = defaultdict(list)
        for database, name in places:
            by_database[database].append(name)
        return [
            entry
            for database, names in by_database.items()
            for entry in await self._entries(database, names, generation)
        ]

    async def _key_pairs(
        self, database: int, names: Sequence[str], *, new: str, old: str
    ) -> list[Pair]:
        # What is only in the old one is named before it is read: an entry that goes away meanwhile
        # is told as absent, and that it changed is known from the log.
        entries = dict.fromkeys(await self._entries(database, names, new))
        entries |= dict.fromkeys(await self._entries(database, names, old))
        fresh, stored = await self.read(new, entries), await self.read(old, entries)
        return [Pair(entry, fresh[entry], stored[entry]) for entry in entries]

    async def _kinds(
        self, database: int, names: Sequence[str], generation: str
    ) -> list[Kind | None]:
        stored = [views.stored_key(self.projection, generation, name) for name in names]
        return [
            _KINDS.get(kind) for kind in await self._ask(database, [("TYPE", k) for k in stored])
        ]

    async def _entries(self, database: int, names: Sequence[str], generation: str) -> list[Entry]:
        kinds = await self._kinds(database, names, generation)
        found = [
            Entry(database, name, kind)
            for name, kind in zip(names, kinds, strict=True)
            if kind in ("string", "list", "other")
        ]
        scanned: list[tuple[str, Kind]] = [
            (name, kind)
            for name, kind in zip(names, kinds, strict=True)
            if kind == "hash" or kind == "zset"
        ]
        cursors = dict.fromkeys(scanned, 0)
        fields: dict[tuple[str, Kind], dict[str, None]] = {one: {} for one in scanned}
        while cursors:
            commands: list[tuple[Any, ...]] = [
                (_SCANS[kind], self._stored(generation, name), cursor, "COUNT", SCANNED_FIELDS)
                for (name, kind), cursor in cursors.items()
            ]
            answers = await self._ask(database, commands)
            for one, answer in zip(list(cursors), answers, strict=True):
                # Of another kind by now, or gone.
                cursor, some = (0, {}) if isinstance(answer, ResponseError) else answer
                fields[one] |= dict.fromkeys(name.decode() for name in dict(some))
                cursors[one] = cursor
            cursors = {one: cursor for one, cursor in cursors.items() if cursor}
        return found + [
            Entry(database, name, kind, field)
            for (name, kind), named in fields.items()
            for field in named
        ]

    def _stored(self, generation: str, name: str) -> str:
        return views.stored_key(self.projection, generation, name)

    async def _ask(self, database: int, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Answers in order, as Redis words them; a refused one is its ResponseError."""
        async with self.clients[database].pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        return answers


def touched(batch: Batch) -> set[Entry]:
    """The entries that a batch writes, but for what its resets delete."""
    found = {Entry(*place, "string") for place in batch.strings}
    found |= {Entry(*place, "list") for place in batch.rows}
    for place, fields in batch.fields.items():
        found |= {Entry(*place, "hash", field) for field in fields}
    for place, members in batch.ranks.items():
        found |= {Entry(*place, "zset", member) for member in members}
    return found


def decode_rows(content: bytes) -> list[bytes]:
    """The rows of a list's content, newest first."""
    return msgspec.msgpack.decode(content, type=list[bytes])


def _by_database(entries: Iterable[Entry]) -> dict[int, list[tuple[str, Kind, list[str]]]]:
    """(key, kind, fields) by database; of a large hash in several."""
    grouped: dict[tuple[int, str, Kind], list[str]] = defaultdict(list)
    for entry in entries:
        grouped[entry.database, entry.key, entry.kind].append(entry.field)
    found: dict[int, list[tuple[str, Kind, list[str]]]] = defaultdict(list)
    for (database, key, kind), fields in grouped.items():
        for start in range(0, len(fields), SCANNED_FIELDS):
            found[database].append((key, kind, fields[start : start + SCANNED_FIELDS]))
    return found


def _command(kind: Kind, stored: str, fields: Sequence[str]) -> tuple[Any, ...]:
    match kind:
        case "string":
            return ("GET", stored)
        case "hash":
            return ("HMGET", stored, *fields)
        case "zset":
            return ("ZMSCORE", stored, *fields)
        case "list":
            return ("LRANGE", stored, 0, -1)
        case "other":
            return ("TYPE", stored)


def _contents(kind: Kind, answer: Any, count: int) -> list[bytes | None]:
    if isinstance(answer, ResponseError):  # of another kind
        return [None] * count
    if kind == "string":
        return [answer]
    if kind == "list":
        return [msgspec.msgpack.encode(answer) if answer else None]
    if kind == "other":
        return [answer if _KINDS.get(answer) == "other" else None]
    if kind == "zset":
        return [None if score is None else repr(score).encode() for score in answer]
    return list(answer)


def _literal(pattern: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in pattern)
