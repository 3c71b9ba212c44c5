"""The generations of one projection in Redis: begun, compared with the live one, switched, dropped.

A switch copies nothing: one script names the new generation, after it has made sure that the hold
is still ours and that the new one is not behind. Generations are numbered; each has a record but
the first. One process at a time may change them: it holds a lock that expires by itself.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Literal

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from projections.batch import Batch
from projections.differences import live_generation
from projections.errors import RebuildRefused, RebuildUnderWay, ViewsUnavailable
from projections.generations import (
    CatchUp,
    Comparison,
    Generation,
    GenerationRecord,
    Size,
)
from projections.ports import Checkpoint, Refused, ViewReader
from projections.redis_comparison import RedisComparison
from projections.redis_entries import RedisEntries
from projections.redis_views import RedisViews
from schemas import views
from schemas.records import POSTINGS_PARTITIONS

LOCK_MS = 15_000
RENEW_SECONDS = 4.0
HOLD_MS_MAX = 1_000
# For how long the live generation may be held, attempt by attempt. More time only helps where the
# machine is too busy for the usual one.
HOLD_BUDGETS_MS = (*(100.0,) * 15, *(250.0,) * 10, *(700.0,) * 10)
# Entries left to read when a hold is worth trying, and how often we go after the live one before.
FEW_ENTRIES = 500
ROUNDS_MAX = 20
AWAIT_SECONDS = 60.0
POLL_SECONDS = 0.05
# Keys of a family (what is before the colon) whose memory is asked for; the others are like them.
SAMPLED_KEYS = 200

# KEYS: lock. ARGV: ours, milliseconds. Renews only what is still ours.
RENEW_SCRIPT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
RELEASE_SCRIPT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
# KEYS: pointer, hold, records. ARGV: home database, what is in the hold, the first generation's
# name, old and new generation, their records, the new epoch, then for each partition checkpoint and
# feed of the old and of the new one.
SWITCH_SCRIPT = """
redis.call('SELECT', ARGV[1])
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 'the hold was over' end
if (redis.call('GET', KEYS[1]) or ARGV[3]) ~= ARGV[4] then return 'another generation is live' end
for at = 9, #ARGV, 4 do
  local old = tonumber(redis.call('HGET', ARGV[at], 'position') or '0')
  local new = tonumber(redis.call('HGET', ARGV[at + 2], 'position') or '0')
  if new < old then return 'the new generation is behind' end
end
for at = 9, #ARGV, 4 do
  if redis.call('EXISTS', ARGV[at + 2]) == 1 then
    local offset = redis.call('HGET', ARGV[at], 'offset') or '-1'
    redis.call('HSET', ARGV[at + 2], 'epoch', ARGV[8], 'offset', offset)
  end
  redis.call('UNLINK', ARGV[at + 3])
  if redis.call('EXISTS', ARGV[at + 1]) == 1 then
    redis.call('XADD', ARGV[at + 1], '*', 'ch', 'moved', 'offset', '0', 'data', 'null')
  end
end
redis.call('SET', KEYS[1], ARGV[5])
redis.call('HSET', KEYS[3], ARGV[4], ARGV[6], ARGV[5], ARGV[7])
redis.call('DEL', KEYS[2])
return 'switched'
"""


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """name: for whoever finds the lock taken. now, epoch: as ISO 8601 and a name never used."""

    name: str
    now: str
    token: str


class WatchedViews:
    """A pinned store that tells the comparison, if one goes on, of each batch before it."""

    def __init__(self, projection: str, url: str, generation: str) -> None:
        self._store = RedisViews(projection, url, generation=generation)
        self.comparison: RedisComparison | None = None

    async def close(self) -> None:
        await self._store.close()

    def reader(self, generation: str) -> ViewReader:
        return self._store.reader(generation)

    async def checkpoint(self, partition: int) -> Checkpoint:
        with translated():
            return await self._store.checkpoint(partition)

    async def commit(
        self, partition: int, batch: Batch, *, expected: Checkpoint, reached: Checkpoint
    ) -> Refused | None:
        with translated():
            if self.comparison is not None:
                await self.comparison.touch(batch)
            return await self._store.commit(partition, batch, expected=expected, reached=reached)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns the driver's exceptions into ours."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as exc:
        raise ViewsUnavailable(f"Redis: {exc}") from exc


class RedisGenerations:
    """A GenerationStore. Close with close(), which gives up the lock."""

    def __init__(self, projection: str, url: str, who: Who) -> None:
        self.projection = projection
        self._url = url
        self._who = who
        self._entries = RedisEntries(projection, url)
        self._home: Redis = self._entries.clients[views.HOME_DB[projection]]
        self._stores: dict[str, WatchedViews] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._is_lost = False

    @property
    def partition_count(self) -> int:
        return POSTINGS_PARTITIONS if self.projection == views.ACCOUNTS else 1

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            with contextlib.suppress(RedisError, OSError):
                await self._script(RELEASE_SCRIPT, [self._lock_key()], [self._lock_value()])
        for store in self._stores.values():
            await store.close()
        await self._entries.close()

    async def generations(self) -> list[Generation]:
        with translated():
            records, live = await self._records(), await live_generation(self._entries)
            names = {*records, live}
            if any(one.position for one in await self._checkpoints(views.FIRST_GENERATION)):
                names.add(views.FIRST_GENERATION)
            found = []
            for name in sorted(names, key=int):
                record = records.get(name, GenerationRecord(state="previous"))
                found.append(
                    Generation(
                        name=name,
                        state="live" if name == live else record.state,
                        checkpoints=tuple(await self._checkpoints(name)),
                        record=record,
                    )
                )
        return found

    async def begin(self, source: str = "") -> str:
        """source: what it is built from, for whoever lists generations."""
        await self._lock()
        found = await self.generations()
        unfinished = [one.name for one in found if one.state in ("building", "built")]
        if unfinished:
            return unfinished[-1]
        await self._drop_older()
        name = str(max(int(one.name) for one in found) + 1)
        record = GenerationRecord(state="building", started_at=self._who.now, source=source)
        with translated():
            await self._write_record(name, record)
        return name

    def store(self, generation: str) -> WatchedViews:
        if generation not in self._stores:
            self._stores[generation] = WatchedViews(self.projection, self._url, generation)
        return self._stores[generation]

    async def compare(
        self, generation: str, catch_up: CatchUp, *, switch: Literal["never", "if_equal", "always"]
    ) -> Comparison:
        await self._lock()
        with translated():
            live = await live_generation(self._entries)
            if generation == live:
                raise RebuildRefused(f"{self.projection}: generation {live} is live already")
            await self._note_built(generation)
            comparison = RedisComparison(self._entries, new=generation, old=live)
            if await self._is_ahead(generation, live):
                if switch != "never":
                    return await self._switch_uncompared(comparison, generation, live, catch_up)
                await self._await_live(generation, live)
            self.store(generation).comparison = comparison
            try:
                await comparison.scan()
                await self._approach(comparison, live, catch_up)
                made = await self._decide(comparison, generation, live, catch_up, switch)
            finally:
                self.store(generation).comparison = None
        if made.switched:
            await self._drop_older()
        return made

    async def size(self, generation: str) -> Size:
        sampled: dict[str, list[str]] = {}
        counts: dict[str, int] = {}
        count = size = 0
        with translated():
            for database in self._entries.databases:
                sampled.clear()
                counts.clear()
                async for names in self._entries.keys(database, generation, is_view_only=False):
                    for name in names:
                        family = name.partition(":")[0]
                        counts[family] = counts.get(family, 0) + 1
                        kept = sampled.setdefault(family, [])
                        if len(kept) < SAMPLED_KEYS:
                            kept.append(self._stored(generation, name))
                count += sum(counts.values())
                for family, keys in sampled.items():
                    async with self._entries.clients[database].pipeline(transaction=False) as pipe:
                        for key in keys:
                            pipe.memory_usage(key)
                        used = sum(bytes_used or 0 for bytes_used in await pipe.execute())
                    size += used * counts[family] // len(keys)
        return Size(entries=count, bytes=size)

    async def drop(self, generation: str) -> int:
        await self._lock()
        with translated():
            if generation == await live_generation(self._entries):
                raise RebuildRefused(f"{self.projection}: generation {generation} is live")
            count = 0
            for database in self._entries.databases:
                async for names in self._entries.keys(database, generation, is_view_only=False):
                    stored = [self._stored(generation, name) for name in names]
                    await self._entries.clients[database].unlink(*stored)
                    count += len(names)
            removed: Any = self._home.hdel(views.generations_key(self.projection), generation)
            await removed
        return count

    async def _approach(self, comparison: RedisComparison, live: str, catch_up: CatchUp) -> None:
        for _ in range(ROUNDS_MAX):
            await catch_up(await self._positions(live))
            is_near = comparison.pending <= FEW_ENTRIES
            await comparison.settle()
            if is_near:
                return

    async def _decide(
        self,
        comparison: RedisComparison,
        new: str,
        live: str,
        catch_up: CatchUp,
        switch: Literal["never", "if_equal", "always"],
    ) -> Comparison:
        for budget_ms in HOLD_BUDGETS_MS:
            async with self._hold() as held:
                positions = await self._positions(live)
                await catch_up(positions)
                await comparison.settle()
                wanted = switch == "always" or (switch == "if_equal" and not comparison.differing)
                if held.ms() <= budget_ms:
                    if wanted:
                        await self._switch(new, live, held.token)
                    ms = held.ms()
                    break
            await asyncio.sleep(POLL_SECONDS)
            await catch_up(await self._positions(live))
            await comparison.settle()
        else:
            raise RebuildRefused(
                f"{self.projection}: could not catch up with the live views within "
                f"{HOLD_BUDGETS_MS[-1]:.0f} ms; run it again when the machine is less busy"
            )
        new_digest, old_digest = comparison.digests()
        return Comparison(
            positions=positions,
            old_digest=old_digest.hex(),
            new_digest=new_digest.hex(),
            entries=max(new_digest.entries, old_digest.entries),
            differing=comparison.differing,
            differences=comparison.differences(),
            switched=wanted,
            held_ms=ms,
        )

    async def _switch_uncompared(
        self, comparison: RedisComparison, new: str, live: str, catch_up: CatchUp
    ) -> Comparison:
        await catch_up(await self._positions(live))  # some partitions may be behind
        await comparison.scan_new()
        async with self._hold() as held:
            await catch_up(await self._positions(live))
            await self._switch(new, live, held.token)
            ms = held.ms()
        await self._drop_older()
        digest = comparison.digests()[0]
        return Comparison(
            positions=await self._positions(new),
            old_digest="",
            new_digest=digest.hex(),
            entries=digest.entries,
            differing=0,
            differences=(),
            is_compared=False,
            switched=True,
            held_ms=ms,
        )

    async def _switch(self, new: str, live: str, token: str) -> None:
        records = await self._records()
        before = records.get(live, GenerationRecord(state="live"))
        after = records.get(new, GenerationRecord(state="built"))
        words: list[str | int | bytes] = [
            views.HOME_DB[self.projection],
            token,
            views.FIRST_GENERATION,
            live,
            new,
            msgspec.json.encode(
                msgspec.structs.replace(before, state="previous", switched_at=self._who.now)
            ),
            msgspec.json.encode(
                msgspec.structs.replace(after, state="live", switched_at=self._who.now)
            ),
            f"{self._who.token}-{new}",
        ]
        for partition in range(self.partition_count):
            for generation in (live, new):
                for name in (views.checkpoint_key, views.feed_key):
                    words.append(self._stored(generation, name(self.projection, partition)))
        keys = [
            views.generation_key(self.projection),
            views.hold_key(self.projection),
            views.generations_key(self.projection),
        ]
        answer = (await self._script(SWITCH_SCRIPT, keys, words)).decode()
        if answer != "switched":
            raise RebuildRefused(f"{self.projection}: not switched: {answer}")

    async def _is_ahead(self, new: str, live: str) -> bool:
        ours, theirs = await self._positions(new), await self._positions(live)
        return any(mine > other for mine, other in zip(ours, theirs, strict=True))

    async def _await_live(self, new: str, live: str) -> None:
        deadline = time.monotonic() + AWAIT_SECONDS
        while await self._is_ahead(new, live):
            if time.monotonic() > deadline:
                raise RebuildRefused(
                    f"{self.projection}: the live views are behind generation {new} and do not "
                    "come nearer; is their worker running?"
                )
            await asyncio.sleep(POLL_SECONDS)

    @contextlib.asynccontextmanager
    async def _hold(self) -> AsyncIterator["_Held"]:
        held = _Held(self._who.token)
        key = views.hold_key(self.projection)
        deadline = time.monotonic() + AWAIT_SECONDS
        while not await self._home.set(key, held.token, nx=True, px=HOLD_MS_MAX):
            if time.monotonic() > deadline:
                raise RebuildUnderWay(self.projection, "it holds the live views")
            await asyncio.sleep(POLL_SECONDS)
        held.began = time.monotonic()
        try:
            yield held
        finally:
            await self._script(RELEASE_SCRIPT, [key], [held.token])

    async def _lock(self) -> None:
        if self._is_lost:
            raise RebuildUnderWay(self.projection, "it took over when this one was too slow")
        if self._renewing is not None:
            return
        with translated():
            taken = await self._home.set(self._lock_key(), self._lock_value(), nx=True, px=LOCK_MS)
            if not taken:
                holder = (await self._home.get(self._lock_key()) or b"").decode()
                raise RebuildUnderWay(self.projection, holder.partition(" #")[0])
        self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        while not self._is_lost:
            await asyncio.sleep(RENEW_SECONDS)
            with contextlib.suppress(RedisError, OSError):
                renewed = await self._script(
                    RENEW_SCRIPT, [self._lock_key()], [self._lock_value(), LOCK_MS]
                )
                self._is_lost = not renewed

    def _lock_key(self) -> str:
        return f"rebuild:{self.projection}"

    def _lock_value(self) -> str:
        return f"{self._who.name} since {self._who.now} #{self._who.token}"

    async def _records(self) -> dict[str, GenerationRecord]:
        read: Any = self._home.hgetall(views.generations_key(self.projection))
        return {
            name.decode(): msgspec.json.decode(text, type=GenerationRecord)
            for name, text in (await read).items()
        }

    async def _write_record(self, name: str, record: GenerationRecord) -> None:
        text = msgspec.json.encode(record).decode()
        written: Any = self._home.hset(views.generations_key(self.projection), name, text)
        await written

    async def _note_built(self, name: str) -> None:
        record = (await self._records()).get(name)
        if record is not None and record.state == "building":
            await self._write_record(name, msgspec.structs.replace(record, state="built"))

    async def _drop_older(self) -> None:
        found = [one for one in await self.generations() if one.state == "previous"]
        found.sort(key=lambda one: (one.record.switched_at, int(one.name)))
        for one in found[:-1]:
            await self.drop(one.name)

    async def _checkpoints(self, generation: str) -> list[Checkpoint]:
        store = self.store(generation)
        return [await store.checkpoint(partition) for partition in range(self.partition_count)]

    async def _positions(self, generation: str) -> tuple[int, ...]:
        async with self._home.pipeline(transaction=True) as pipe:
            for partition in range(self.partition_count):
                key = views.checkpoint_key(self.projection, partition)
                pipe.hget(self._stored(generation, key), "position")
            return tuple(int(position or 0) for position in await pipe.execute())

    def _stored(self, generation: str, name: str) -> str:
        return views.stored_key(self.projection, generation, name)

    async def _script(self, text: str, keys: Sequence[str], words: Sequence[Any]) -> Any:
        evaluated: Any = self._home.eval(text, len(keys), *keys, *words)
        return await evaluated


class _Held:
    def __init__(self, token: str) -> None:
        self.token = token
        self.began = 0.0

    def ms(self) -> float:
        """Since the hold began."""
        return (time.monotonic() - self.began) * 1_000
