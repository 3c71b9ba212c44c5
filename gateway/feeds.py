"""Reads the feeds of one Redis database into the hub: one reader per process and database.

Entries, epoch and the name of the live generation are read in one transaction, so an entry is never
taken for one of another epoch. A switch of generations starts the feed over.
While Redis is away connections stay; the reader comes back and goes on after the last entry it had,
or, if that is gone, starts the feed over with fresh snapshots.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.channels import FeedId, Kind, account_key
from gateway.errors import Refusal, ViewsUnavailable
from gateway.history import HISTORY_MAX, Publication
from gateway.hub import Hub
from gateway.snapshots import SnapshotReader
from gateway.views import MOVES_MAX, AccountState, Views, translated
from schemas import views as keys
from schemas.records import POSTINGS_PARTITIONS
from schemas.views import AccountPublication

logger = logging.getLogger(__name__)

READ_ENTRIES_MAX = 1_000
BLOCK_MS = 1_000
RETRY_SECONDS = 0.5
START_ID = "0-0"

FEEDS_BY_HOME = (
    (FeedId(keys.MINING, 0),),
    (
        FeedId(keys.MARKET, 0),
        *(FeedId(keys.ACCOUNTS, partition) for partition in range(POSTINGS_PARTITIONS)),
    ),
)
_account_publication = msgspec.json.Decoder(AccountPublication).decode
Entry = tuple[bytes, dict[bytes, bytes]]


class _Position:
    """How far one feed was read, and in which generation. epoch: None until something is there."""

    __slots__ = ("epoch", "generation", "last_id")

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.generation = keys.FIRST_GENERATION
        self.last_id = START_ID


class _Poll(NamedTuple):
    """What one transaction found. oldest_ids: of the feeds, only after a possible gap."""

    pointers: dict[FeedId, bytes | None]
    epochs: dict[FeedId, str | None]
    oldest_ids: dict[FeedId, str]
    entries: dict[FeedId, list[Entry]]


class FeedReader:
    """Feeds that live in the same database."""

    def __init__(
        self, *, views: Views, feeds: Sequence[FeedId], hub: Hub, snapshots: SnapshotReader
    ) -> None:
        self._client = views.home(feeds[0].projection)
        self._views = views
        self._hub = hub
        self._snapshots = snapshots
        self._positions = {feed: _Position() for feed in feeds}
        self._may_have_gap = False

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                while True:
                    if not await self.poll():
                        await self._wait()
            except (ViewsUnavailable, Refusal) as exc:
                logger.warning("feeds wait for the views: %s", exc)
                self._may_have_gap = True
                await asyncio.sleep(RETRY_SECONDS)

    async def poll(self) -> int:
        """Deliver what is new, without waiting; returns how many entries that were."""
        found = await self._read()
        count = 0
        for feed, position in self._positions.items():
            entries = found.entries.get(feed, ())
            oldest_id = found.oldest_ids.get(feed)
            is_gap = oldest_id is not None and _order(oldest_id) > _order(position.last_id)
            has_moved = not self._views.is_live(
                feed.projection, position.generation, found.pointers[feed]
            )
            is_new = found.epochs[feed] != position.epoch
            if has_moved or is_new or (is_gap and position.last_id != START_ID):
                await self._start(feed, position)
            else:
                for entry_id, fields in entries:
                    await self._deliver(feed, fields)
                    position.last_id = entry_id.decode()
            count += len(entries)
        self._may_have_gap = any(len(read) >= READ_ENTRIES_MAX for read in found.entries.values())
        return count

    async def _read(self) -> _Poll:
        by_key = {self._key(feed, keys.feed_key): feed for feed in self._positions}
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                for feed in self._positions:
                    pipe.get(keys.generation_key(feed.projection))
                    pipe.hget(self._key(feed, keys.checkpoint_key), "epoch")
                pipe.xread(self._streams(), count=READ_ENTRIES_MAX)
                if self._may_have_gap:
                    for key in by_key:
                        pipe.xrange(key, count=1)
                answers = await pipe.execute()
        feeds, size = list(self._positions), 2 * len(self._positions)
        oldest = zip(feeds, answers[size + 1 :], strict=False)
        return _Poll(
            pointers=dict(zip(feeds, answers[0:size:2], strict=True)),
            epochs={
                feed: _text(epoch) for feed, epoch in zip(feeds, answers[1:size:2], strict=True)
            },
            oldest_ids={feed: first[0][0].decode() for feed, first in oldest if first},
            entries={by_key[key.decode()]: entries for key, entries in answers[size] or ()},
        )

    async def _wait(self) -> None:
        # Only a wake-up call: the entries are read again, together with the epochs. A switch adds
        # an entry to the feeds of the generation that readers leave.
        with translated():
            await self._client.xread(self._streams(), count=1, block=BLOCK_MS)

    async def _start(self, feed: FeedId, position: _Position) -> None:
        epoch, newest_first = await self._newest(feed, position)
        position.epoch = _text(epoch)
        logger.info("feed %s:%d begins, epoch %s", feed.projection, feed.partition, position.epoch)
        position.last_id = newest_first[0][0].decode() if newest_first else START_ID
        self._hub.restart(
            feed,
            position.epoch,
            [_publication(fields) for _, fields in reversed(newest_first) if b"user" not in fields],
        )

    async def _newest(
        self, feed: FeedId, position: _Position
    ) -> tuple[bytes | None, Sequence[Entry]]:
        kept = 1 if feed.projection == keys.ACCOUNTS else HISTORY_MAX
        for _ in range(MOVES_MAX):
            position.generation = self._views.live(feed.projection)
            with translated():
                async with self._client.pipeline(transaction=True) as pipe:
                    pipe.get(keys.generation_key(feed.projection))
                    pipe.hget(self._key(feed, keys.checkpoint_key), "epoch")
                    pipe.xrevrange(self._key(feed, keys.feed_key), count=kept)
                    pointer, epoch, newest_first = await pipe.execute()
            if self._views.is_live(feed.projection, position.generation, pointer):
                return epoch, newest_first
        raise ViewsUnavailable(f"the generation of {feed.projection} does not stay")

    async def _deliver(self, feed: FeedId, fields: dict[bytes, bytes]) -> None:
        if fields[b"ch"] != Kind.ACCOUNT.encode():
            self._hub.deliver(feed, _publication(fields))
            return
        key = account_key(fields[b"user"].decode())
        if not self._hub.has_audience(key):
            return
        changed = _account_publication(fields[b"data"])
        content = await self._snapshots.account(
            AccountState(account=changed.account, contribution=changed.contribution, epoch=None)
        )
        self._hub.deliver(
            feed, Publication(key=key, offset=int(fields[b"offset"]), content=content)
        )

    def _streams(self) -> dict[Any, Any]:
        return {
            self._key(feed, keys.feed_key): position.last_id
            for feed, position in self._positions.items()
        }

    def _key(self, feed: FeedId, name: Callable[[str, int], str]) -> str:
        generation = self._positions[feed].generation
        return keys.stored_key(feed.projection, generation, name(feed.projection, feed.partition))


def _publication(fields: dict[bytes, bytes]) -> Publication:
    return Publication(
        key=fields[b"ch"].decode(), offset=int(fields[b"offset"]), content=fields[b"data"]
    )


def _text(value: bytes | None) -> str | None:
    return value.decode() if value else None


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
