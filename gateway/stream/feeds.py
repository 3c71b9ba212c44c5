"""Reads the feeds of one Redis database into the hub: one reader per process and database.

Entries, epoch and the name of the live generation are read in one transaction, so an entry is never
taken for one of another epoch. A switch of generations starts the feed over.
While Redis is away connections stay; the reader comes back and goes on after the last entry it had,
or, if that is gone, starts the feed over with fresh snapshots.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.errors import Refusal, ViewsUnavailable
from gateway.stream.balances import Moment
from gateway.stream.channels import (
    PRIVATE_KINDS,
    FeedId,
    Kind,
    account_key,
    balance_key,
    parse_key,
    private_channel,
)
from gateway.stream.history import HISTORY_MAX
from gateway.stream.hub import Hub
from gateway.stream.publication import Publication
from gateway.stream.snapshots import SnapshotReader
from gateway.views import MOVES_MAX, AccountState, Views, translated
from schemas import views as keys
from schemas.records import POSTINGS_PARTITIONS
from schemas.views import AccountPublication

logger = logging.getLogger(__name__)

# A catch-up comes in parts that the buffers of a connection take.
READ_ENTRIES_MAX = 250
BLOCK_MS = 1_000
RETRY_SECONDS = 0.5
START_ID = "0-0"
# A reconnect within this time is no news.
STALE_SECONDS = 1.0
BALANCES_SLICE = 250
ACCOUNT_NAME = Kind.ACCOUNT.encode()
PULSE_FEED = FeedId(keys.MINING, 0)

FEEDS_BY_HOME = (
    (PULSE_FEED,),
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
    """What one transaction found. oldest_ids: of the feeds that are not empty."""

    pointers: dict[FeedId, bytes | None]
    epochs: dict[FeedId, str | None]
    oldest_ids: dict[FeedId, str]
    entries: dict[FeedId, list[Entry]]


class FeedReader:
    """Feeds that live in the same database.

    settled: returns when what was delivered has been sent, so that no more waits than one poll.
    on_stale: called with True when the views cannot be read, with False when they can again.
    """

    def __init__(
        self,
        *,
        views: Views,
        feeds: Sequence[FeedId],
        hub: Hub,
        snapshots: SnapshotReader,
        settled: Callable[[], Awaitable[None]],
        on_stale: Callable[[bool], None],
    ) -> None:
        self._client = views.home(feeds[0].projection)
        self._views = views
        self._hub = hub
        self._snapshots = snapshots
        self._settled = settled
        self._on_stale = on_stale
        self._positions = {feed: _Position() for feed in feeds}
        # While an answer is due: tells that it is late.
        self._alarm: asyncio.TimerHandle | None = None
        self._is_stale = False

    async def run(self) -> None:
        """Read until cancelled."""
        task = asyncio.current_task()
        assert task is not None
        try:
            # The driver may swallow a cancellation that arrives together with an answer.
            while not task.cancelling():
                try:
                    if not await self.poll():
                        await self._wait()
                except (ViewsUnavailable, Refusal) as exc:
                    logger.log(
                        logging.DEBUG if self._is_stale else logging.WARNING,
                        "feeds wait for the views: %s",
                        exc,
                    )
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._calm()

    async def poll(self) -> int:
        """Deliver what is new, without waiting for more; returns how many entries that were."""
        self._expect_answer(STALE_SECONDS)
        found = await self._read()
        count = 0
        moment: Moment | None = None
        for feed, position in self._positions.items():
            entries = found.entries.get(feed, ())
            if self._is_new(feed, position, found):
                await self._start(feed, position)
            elif entries:
                publications = await self._publications(entries)
                self._hub.deliver(feed, publications)
                position.last_id = entries[-1][0].decode()
                if feed.projection == keys.MINING:
                    moment = await self._moment(publications)
            count += len(entries)
        self._calm()
        if self._is_stale:
            self._is_stale = False
            self._on_stale(False)
        if moment is not None:
            await self._deliver_balances(moment)
        await self._settled()
        return count

    def _is_new(self, feed: FeedId, position: _Position, found: _Poll) -> bool:
        # Whether what we know of the feed is of another generation or epoch, or has a hole.
        pointer = found.pointers[feed]
        if not self._views.is_live(feed.projection, position.generation, pointer):
            return True
        if found.epochs[feed] != position.epoch:
            return True
        # A feed is capped: whoever was away, or held up, too long finds later entries only.
        oldest_id = found.oldest_ids.get(feed)
        is_gap = oldest_id is not None and _order(oldest_id) > _order(position.last_id)
        return is_gap and position.last_id != START_ID

    async def _read(self) -> _Poll:
        by_key = {self._key(feed, keys.feed_key): feed for feed in self._positions}
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                for feed in self._positions:
                    pipe.get(keys.generation_key(feed.projection))
                    pipe.hget(self._key(feed, keys.checkpoint_key), "epoch")
                pipe.xread(self._streams(), count=READ_ENTRIES_MAX)
                for key in by_key:
                    pipe.xrange(key, count=1)
                answers = await pipe.execute()
        feeds, size = list(self._positions), 2 * len(self._positions)
        oldest = zip(feeds, answers[size + 1 :], strict=True)
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
        self._expect_answer(BLOCK_MS / 1_000 + STALE_SECONDS)
        with translated():
            await self._client.xread(self._streams(), count=1, block=BLOCK_MS)
        self._calm()

    async def _start(self, feed: FeedId, position: _Position) -> None:
        epoch, newest_first = await self._newest(feed, position)
        position.epoch = _text(epoch)
        logger.info("feed %s:%d begins, epoch %s", feed.projection, feed.partition, position.epoch)
        position.last_id = newest_first[0][0].decode() if newest_first else START_ID
        if feed.projection == keys.ACCOUNTS:
            self._snapshots.balances.forget(feed.partition)
        elif feed == PULSE_FEED:
            self._snapshots.balances.forget()
        oldest_first = (_publication(fields) for _, fields in reversed(newest_first))
        kept = [publication for publication in oldest_first if publication is not None]
        self._hub.restart(feed, position.epoch, kept)

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

    async def _publications(self, entries: Sequence[Entry]) -> list[Publication]:
        found = []
        for _, fields in entries:
            if fields[b"ch"] == ACCOUNT_NAME:
                publication = await self._account(fields)
            else:
                publication = _publication(fields)
            if publication is not None:
                found.append(publication)
        return found

    async def _account(self, fields: dict[bytes, bytes]) -> Publication | None:
        user_id = fields[b"user"].decode()
        is_wanted = self._hub.has_audience(account_key(user_id))
        is_balance_wanted = self._hub.has_audience(balance_key(user_id))
        if not (is_wanted or is_balance_wanted):
            return None
        changed = _account_publication(fields[b"data"])
        if is_balance_wanted:
            balances = self._snapshots.balances
            version = balances.version(changed.account.user_id)
            await balances.note(changed.account, changed.contribution, version)
        if not is_wanted:
            return None
        content = await self._snapshots.account(
            AccountState(account=changed.account, contribution=changed.contribution, epoch=None)
        )
        channel = private_channel(Kind.ACCOUNT, user_id)
        return Publication(channel, int(fields[b"offset"]), content)

    async def _moment(self, publications: Sequence[Publication]) -> Moment | None:
        pulses = [each for each in publications if each.channel.kind is Kind.PULSE]
        if not pulses or self._snapshots.balances.is_empty():
            return None
        return await self._snapshots.balances.moment(pulses[-1].content)

    async def _deliver_balances(self, moment: Moment) -> None:
        for part in self._snapshots.balances.publications(
            moment, self._hub.has_audience, size=BALANCES_SLICE
        ):
            self._hub.deliver(PULSE_FEED, part)
            await self._settled()

    def _expect_answer(self, seconds: float) -> None:
        if self._alarm is None and not self._is_stale:
            self._alarm = asyncio.get_running_loop().call_later(seconds, self._go_stale)

    def _calm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _go_stale(self) -> None:
        self._alarm, self._is_stale = None, True
        self._on_stale(True)

    def _streams(self) -> dict[Any, Any]:
        return {
            self._key(feed, keys.feed_key): position.last_id
            for feed, position in self._positions.items()
        }

    def _key(self, feed: FeedId, name: Callable[[str, int], str]) -> str:
        generation = self._positions[feed].generation
        return keys.stored_key(feed.projection, generation, name(feed.projection, feed.partition))


def _publication(fields: dict[bytes, bytes]) -> Publication | None:
    channel = parse_key(fields[b"ch"].decode())
    if channel is None or channel.kind in PRIVATE_KINDS:
        return None
    return Publication(channel, int(fields[b"offset"]), fields[b"data"])


def _text(value: bytes | None) -> str | None:
    return value.decode() if value else None


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
