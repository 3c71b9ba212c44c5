"""Views in Redis: one script applies a batch and its checkpoint, or nothing if the checkpoint
moved.

Redis runs a script alone and writes its effects to the append-only file as one transaction, so a
crash keeps all of a batch or none. Values are absolute; only tape rows and feed entries are
added, and the compare-and-set keeps them from being added twice. Only this module and the
generations know that stored keys begin with projection and generation.
"""

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, cast

import msgspec
from redis.asyncio import Redis

from projections.batch import Batch, Place, Publication
from projections.errors import ViewBroken
from projections.ports import Checkpoint, Held, Moved, Overtaken, Refused, ViewReader
from schemas import views

PAIRS_MAX = 500  # Lua unpacks a command's arguments onto its stack, which holds about 8,000
DATABASES = {
    views.MARKET: (views.TRADING_DB,),
    views.MINING: (views.MINING_DB,),
    views.ACCOUNTS: (views.TRADING_DB, views.CONTRIBUTION_DB, views.ADMIN_DB),
}

# KEYS: generation pointer, hold, checkpoint, feed. ARGV: home database, generation that must be
# live ("": any, and no hold counts), the first generation's name, expected position and epoch, four
# values of the new checkpoint, entries the feed keeps, then MessagePack of [commands,
# publications]; a command is its database and its words, a publication its values without their
# names. One packed argument costs the client a tenth of a thousand plain ones.
COMMIT_SCRIPT = """
local home = ARGV[1]
redis.call('SELECT', home)
if ARGV[2] ~= '' then
  local live = redis.call('GET', KEYS[1]) or ARGV[3]
  if live ~= ARGV[2] then return {'moved', live} end
  if redis.call('EXISTS', KEYS[2]) == 1 then return {'held'} end
end
local stored = redis.call('HMGET', KEYS[3], 'position', 'sequence', 'offset', 'epoch')
if (stored[1] or '0') ~= ARGV[4] or (stored[4] or '') ~= ARGV[5] then
  return {'overtaken', stored[1] or '0', stored[2] or '0', stored[3] or '-1', stored[4] or ''}
end
local batch = cmsgpack.unpack(ARGV[11])
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
  if entry[4] then
    redis.call('XADD', KEYS[4], '*', 'ch', entry[1], 'offset', entry[2], 'data', entry[3],
      'user', entry[4])
  else
    redis.call('XADD', KEYS[4], '*', 'ch', entry[1], 'offset', entry[2], 'data', entry[3])
  end
end
if #batch[2] > 0 then redis.call('XTRIM', KEYS[4], 'MAXLEN', '~', ARGV[10]) end
redis.call('HSET', KEYS[3], 'position', ARGV[6], 'sequence', ARGV[7],
  'offset', ARGV[8], 'epoch', ARGV[9])
return false
"""

# KEYS: generation pointer. ARGV: home database, pinned generation ("": the live one), the first
# generation's name, what comes before and after the generation in the checkpoint's key.
CHECKPOINT_SCRIPT = """
redis.call('SELECT', ARGV[1])
local generation = ARGV[2]
if generation == '' then generation = redis.call('GET', KEYS[1]) or ARGV[3] end
return {generation, redis.call('HGETALL', ARGV[4] .. generation .. ARGV[5])}
"""

# Stands where a generation's name goes when a key is cut into what is before and after it.
_MARK: Final = "\0"

_pack = msgspec.msgpack.Encoder().encode


class RedisReader:
    """A ViewReader of one generation."""

    def __init__(self, clients: Mapping[int, Redis], projection: str, generation: str) -> None:
        self._clients = clients
        self._prefix = views.stored_key(projection, generation, "")

    async def strings(self, database: int, keys: Sequence[str]) -> list[bytes | None]:
        if not keys:
            return []
        stored = self._clients[database].mget([self._prefix + key for key in keys])
        return cast(list[bytes | None], await stored)

    async def fields(self, place: Place, names: Sequence[str]) -> list[bytes | None]:
        if not names:
            return []
        database, key = place
        read = self._clients[database].hmget(self._prefix + key, list(names))
        return await cast(Awaitable[list[bytes | None]], read)

    async def all_fields(self, place: Place) -> dict[str, bytes]:
        database, key = place
        read = self._clients[database].hgetall(self._prefix + key)
        stored = await cast(Awaitable[dict[bytes, bytes]], read)
        return {name.decode(): content for name, content in stored.items()}

    async def hashes(self, database: int, keys: Sequence[str]) -> list[dict[str, bytes]]:
        if not keys:
            return []
        async with self._clients[database].pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(self._prefix + key)
            found: list[dict[bytes, bytes]] = await pipe.execute()
        return [{name.decode(): content for name, content in stored.items()} for stored in found]


class RedisViews:
    """A ViewStore of one projection. url: any database in it is replaced by the views' own.

    generation: the store is pinned to it; without, the store follows the live one.
    """

    def __init__(self, projection: str, url: str, *, generation: str = "") -> None:
        self._projection = projection
        self._pinned = generation
        self._home = views.HOME_DB[projection]
        self._clients = {database: connect(url, database) for database in DATABASES[projection]}
        self._commit = self._clients[self._home].register_script(COMMIT_SCRIPT)
        self._checkpoint = self._clients[self._home].register_script(CHECKPOINT_SCRIPT)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    def reader(self, generation: str) -> ViewReader:
        return RedisReader(self._clients, self._projection, generation)

    async def checkpoint(self, partition: int) -> Checkpoint:
        name = views.checkpoint_key(self._projection, partition)
        before, after = views.stored_key(self._projection, _MARK, name).split(_MARK)
        generation, flat = await self._checkpoint(
            keys=[views.generation_key(self._projection)],
            args=[self._home, self._pinned, views.FIRST_GENERATION, before, after],
        )
        stored = dict(zip(flat[::2], flat[1::2], strict=True))
        if not stored:
            return Checkpoint(generation=generation.decode())
        try:
            return Checkpoint(
                position=int(stored[b"position"]),
                sequence=int(stored[b"sequence"]),
                offset=int(stored[b"offset"]),
                epoch=stored[b"epoch"].decode(),
                generation=generation.decode(),
            )
        except (KeyError, ValueError) as exc:
            raise ViewBroken(f"{name} is not a checkpoint: {stored}") from exc

    async def commit(
        self, partition: int, batch: Batch, *, expected: Checkpoint, reached: Checkpoint
    ) -> Refused | None:
        generation = expected.generation
        assert generation == reached.generation, (expected, reached)
        assert not self._pinned or generation == self._pinned, (expected, self._pinned)
        prefix = views.stored_key(self._projection, generation, "")
        refused: list[bytes] | None = await self._commit(
            keys=[
                views.generation_key(self._projection),
                views.hold_key(self._projection),
                prefix + views.checkpoint_key(self._projection, partition),
                prefix + views.feed_key(self._projection, partition),
            ],
            args=[
                self._home,
                "" if self._pinned else generation,
                views.FIRST_GENERATION,
                expected.position,
                expected.epoch,
                reached.position,
                reached.sequence,
                reached.offset,
                reached.epoch,
                views.FEED_KEPT,
                _pack([_commands(batch, prefix), [_entry(entry) for entry in batch.publications]]),
            ],
        )
        return None if refused is None else _refusal(refused, generation)


def _refusal(answer: Sequence[bytes], generation: str) -> Refused:
    why, *told = (word.decode() for word in answer)
    if why == "moved":
        return Moved(told[0])
    if why == "held":
        return Held()
    position, sequence, offset, epoch = told
    return Overtaken(
        Checkpoint(
            position=int(position),
            sequence=int(sequence),
            offset=int(offset),
            epoch=epoch,
            generation=generation,
        )
    )


def _commands(batch: Batch, prefix: str) -> list[list[str]]:
    # All words are text: Lua's numbers are doubles, and its MessagePack reads no binary type.
    found: list[list[str]] = []
    found += [[str(database), "UNLINK", prefix + key] for database, key in batch.resets]
    for (database, key), content in batch.strings.items():
        found.append([str(database), "SET", prefix + key, content.decode()])
    for (database, key), changed in batch.fields.items():
        head = [str(database), "HSET", prefix + key]
        kept = ((name, text.decode()) for name, text in changed.items() if text is not None)
        found += ([*head, *words] for words in _slices(kept))
        head = [str(database), "HDEL", prefix + key]
        gone = ((name,) for name, text in changed.items() if text is None)
        found += ([*head, *words] for words in _slices(gone))
    for place, rows in batch.rows.items():
        name, key = str(place[0]), prefix + place[1]
        found += (
            [name, "LPUSH", key, *words] for words in _slices((row.decode(),) for row in rows)
        )
        found.append([name, "LTRIM", key, "0", str(batch.rows_kept[place] - 1)])
    for (database, key), scores in batch.ranks.items():
        head = [str(database), "ZADD", prefix + key]
        ranked = ((str(score), member) for member, score in scores.items() if score is not None)
        found += ([*head, *words] for words in _slices(ranked))
        head = [str(database), "ZREM", prefix + key]
        left = ((member,) for member, score in scores.items() if score is None)
        found += ([*head, *words] for words in _slices(left))
    return found


def _slices(words: Iterable[tuple[str, ...]]) -> Iterable[list[str]]:
    """The words flat, of at most PAIRS_MAX entries at a time; none if there are none."""
    entries = iter(words)
    while taken := list(islice(entries, PAIRS_MAX)):
        yield [word for entry in taken for word in entry]


def _entry(publication: Publication) -> list[str]:
    channel, offset, content, user = publication
    values = [channel, str(offset), content.decode()]
    return [*values, user] if user else values


def connect(url: str, database: int) -> Redis:
    """A client of one database of the server at url, whatever database the URL itself names."""
    client: Redis = Redis.from_url(url)
    # from_url lets a database in the URL win over its argument, so it is set afterwards.
    client.connection_pool.connection_kwargs["db"] = database
    return client
