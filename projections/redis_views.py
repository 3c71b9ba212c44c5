"""Views in Redis: one script applies a batch and its checkpoint, or nothing if the checkpoint
moved.

Redis runs a script alone and writes its effects to the append-only file as one transaction, so a
crash keeps all of a batch or none. Values are absolute; only tape rows and feed entries are
added, and the compare-and-set keeps them from being added twice.
"""

from collections.abc import Awaitable, Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from projections.batch import Batch, Place, Publication
from projections.errors import ViewBroken
from projections.ports import Checkpoint
from schemas import views

PAIRS_MAX = 500  # Lua unpacks a command's arguments onto its stack, which holds about 8,000
DATABASES = {
    views.MARKET: (views.TRADING_DB,),
    views.MINING: (views.MINING_DB,),
    views.ACCOUNTS: (views.TRADING_DB, views.CONTRIBUTION_DB),
}

# KEYS: checkpoint, feed. ARGV: home database, expected position and epoch, four values of the new
# checkpoint, entries the feed keeps, then MessagePack of [commands, publications]; a command is its
# database and its words. One packed argument costs the client a tenth of a thousand plain ones.
COMMIT_SCRIPT = """
local home = ARGV[1]
redis.call('SELECT', home)
local stored = redis.call('HMGET', KEYS[1], 'position', 'epoch', 'sequence', 'offset')
if (stored[1] or '0') ~= ARGV[2] or (stored[2] or '') ~= ARGV[3] then
  return {stored[1] or '0', stored[2] or '', stored[3] or '0', stored[4] or '-1'}
end
local batch = cmsgpack.unpack(ARGV[9])
local database = home
for _, command in ipairs(batch[1]) do
  if command[1] ~= database then
    database = command[1]
    redis.call('SELECT', database)
  end
  redis.call(unpack(command, 2))
end
redis.call('SELECT', home)
for _, entry in ipairs(batch[2]) do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[8], '*', unpack(entry))
end
redis.call('HSET', KEYS[1], 'sequence', ARGV[4], 'epoch', ARGV[5],
  'position', ARGV[6], 'offset', ARGV[7])
return false
"""

_pack = msgspec.msgpack.Encoder().encode


class RedisViews:
    """A ViewStore of one projection. url: any database in it is replaced by the views' own."""

    def __init__(self, projection: str, url: str) -> None:
        self._projection = projection
        self._home = views.HOME_DB[projection]
        self._clients = {database: connect(url, database) for database in DATABASES[projection]}
        self._script = self._clients[self._home].register_script(COMMIT_SCRIPT)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def strings(self, database: int, keys: Sequence[str]) -> list[bytes | None]:
        return cast(list[bytes | None], await self._clients[database].mget(keys)) if keys else []

    async def fields(self, place: Place, names: Sequence[str]) -> list[bytes | None]:
        if not names:
            return []
        database, key = place
        read = self._clients[database].hmget(key, list(names))
        return await cast(Awaitable[list[bytes | None]], read)

    async def all_fields(self, place: Place) -> dict[str, bytes]:
        database, key = place
        read = self._clients[database].hgetall(key)
        stored = await cast(Awaitable[dict[bytes, bytes]], read)
        return {name.decode(): content for name, content in stored.items()}

    async def checkpoint(self, partition: int) -> Checkpoint:
        key = views.checkpoint_key(self._projection, partition)
        stored = await self.all_fields((self._home, key))
        if not stored:
            return Checkpoint()
        try:
            return Checkpoint(
                position=int(stored["position"]),
                sequence=int(stored["sequence"]),
                offset=int(stored["offset"]),
                epoch=stored["epoch"].decode(),
            )
        except (KeyError, ValueError) as exc:
            raise ViewBroken(f"{key} is not a checkpoint: {stored}") from exc

    async def commit(
        self, partition: int, batch: Batch, *, expected: Checkpoint, reached: Checkpoint
    ) -> Checkpoint | None:
        keys = [
            views.checkpoint_key(self._projection, partition),
            views.feed_key(self._projection, partition),
        ]
        found: list[bytes] | None = await self._script(
            keys=keys,
            args=[
                self._home,
                expected.position,
                expected.epoch,
                reached.sequence,
                reached.epoch,
                reached.position,
                reached.offset,
                views.FEED_KEPT,
                _pack([_commands(batch), [_entry(entry) for entry in batch.publications]]),
            ],
        )
        if found is None:
            return None
        position, epoch, sequence, offset = found
        return Checkpoint(
            sequence=int(sequence),
            epoch=epoch.decode(),
            position=int(position),
            offset=int(offset),
        )


def _commands(batch: Batch) -> list[list[str]]:
    # All words are text: Lua's numbers are doubles, and its MessagePack reads no binary type.
    found: list[list[str]] = []
    found += [[str(database), "UNLINK", key] for database, key in batch.resets]
    for (database, key), content in batch.strings.items():
        found.append([str(database), "SET", key, content.decode()])
    for (database, key), changed in batch.fields.items():
        pairs = list(changed.items())
        for start in range(0, len(pairs), PAIRS_MAX):
            flat: list[str] = []
            for field, content in pairs[start : start + PAIRS_MAX]:
                flat += (field, content.decode())
            found.append([str(database), "HSET", key, *flat])
    for place, rows in batch.rows.items():
        database, key = place
        for start in range(0, len(rows), PAIRS_MAX):
            pushed = [row.decode() for row in rows[start : start + PAIRS_MAX]]
            found.append([str(database), "LPUSH", key, *pushed])
        found.append([str(database), "LTRIM", key, "0", str(batch.rows_kept[place] - 1)])
    for (database, key), scores in batch.ranks.items():
        for member, score in scores.items():
            score_words: list[str] = ["ZREM", key] if score is None else ["ZADD", key, str(score)]
            found.append([str(database), *score_words, member])
    return found


def _entry(publication: Publication) -> list[str]:
    channel, offset, content, user = publication
    words: list[str] = ["ch", channel, "offset", str(offset), "data", content.decode()]
    return [*words, "user", user] if user else words


def connect(url: str, database: int) -> Redis:
    """A client of one database of the server at url, whatever database the URL itself names."""
    client: Redis = Redis.from_url(url)
    # from_url lets a database in the URL win over its argument, so it is set afterwards.
    client.connection_pool.connection_kwargs["db"] = database
    return client
