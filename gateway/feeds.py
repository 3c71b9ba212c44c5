"""Reads the feeds of one Redis database into the hub: one reader per process and database.

Entries and epoch are read in one transaction, so an entry is never taken for one of another epoch.
While Redis is away connections stay; the reader comes back and goes on after the last entry it had,
or, if that is gone, starts the feed over with fresh snapshots.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.channels import FeedId, Kind, account_key
from gateway.errors import Refusal, ViewsUnavailable
from gateway.history import HISTORY_MAX, Publication
from gateway.hub import Hub
from gateway.snapshots import SnapshotReader
from gateway.views import AccountState, Views, translated
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
    """How far one feed was read. epoch: None until its projection has written."""

    __slots__ = ("epoch", "last_id")

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.last_id = START_ID


class FeedReader:
    """Feeds that live in the same database."""

    def __init__(
        self, *, views: Views, feeds: Sequence[FeedId], hub: Hub, snapshots: SnapshotReader
    ) -> None:
        self._client = views.home(feeds[0].projection)
        self._hub = hub
        self._snapshots = snapshots
        self._positions = {feed: _Position() for feed in feeds}
        self._by_key = {keys.feed_key(feed.projection, feed.partition): feed for feed in feeds}
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
        epochs, oldest_ids, entries = await self._read()
        count = 0
        for feed, position in self._positions.items():
            epoch, oldest_id = epochs[feed], oldest_ids.get(feed)
            is_gap = oldest_id is not None and _order(oldest_id) > _order(position.last_id)
            if epoch != position.epoch or (is_gap and position.last_id != START_ID):
                await self._start(feed, position)
            else:
                for entry_id, fields in entries.get(feed, ()):
                    await self._deliver(feed, fields)
                    position.last_id = entry_id.decode()
            count += len(entries.get(feed, ()))
        self._may_have_gap = any(len(read) >= READ_ENTRIES_MAX for read in entries.values())
        return count

    async def _read(
        self,
    ) -> tuple[dict[FeedId, str | None], dict[FeedId, str], dict[FeedId, list[Entry]]]:
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                for feed in self._positions:
                    pipe.hget(keys.checkpoint_key(feed.projection, feed.partition), "epoch")
                pipe.xread(self._streams(), count=READ_ENTRIES_MAX)
                if self._may_have_gap:
                    for key in self._by_key:
                        pipe.xrange(key, count=1)
                answers = await pipe.execute()
        feeds, size = list(self._positions), len(self._positions)
        epochs = {feed: _text(epoch) for feed, epoch in zip(feeds, answers[:size], strict=True)}
        read = {self._by_key[key.decode()]: entries for key, entries in answers[size] or ()}
        oldest = zip(self._by_key.values(), answers[size + 1 :], strict=False)
        oldest_ids = {feed: first[0][0].decode() for feed, first in oldest if first}
        return epochs, oldest_ids, read

    async def _wait(self) -> None:
        # Only a wake-up call: the entries are read again, together with the epochs.
        with translated():
            await self._client.xread(self._streams(), count=1, block=BLOCK_MS)

    async def _start(self, feed: FeedId, position: _Position) -> None:
        kept = 1 if feed.projection == keys.ACCOUNTS else HISTORY_MAX
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hget(keys.checkpoint_key(feed.projection, feed.partition), "epoch")
                pipe.xrevrange(keys.feed_key(feed.projection, feed.partition), count=kept)
                epoch, newest_first = await pipe.execute()
        position.epoch = _text(epoch)
        logger.info("feed %s:%d begins, epoch %s", feed.projection, feed.partition, position.epoch)
        position.last_id = newest_first[0][0].decode() if newest_first else START_ID
        self._hub.restart(
            feed,
            position.epoch,
            [_publication(fields) for _, fields in reversed(newest_first) if b"user" not in fields],
        )

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
        return {key: self._positions[feed].last_id for key, feed in self._by_key.items()}


def _publication(fields: dict[bytes, bytes]) -> Publication:
    return Publication(
        key=fields[b"ch"].decode(), offset=int(fields[b"offset"]), content=fields[b"data"]
    )


def _text(value: bytes | None) -> str | None:
    return value.decode() if value else None


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
