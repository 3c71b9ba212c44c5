"""Who is subscribed to each channel, and what to send so that nobody misses or repeats anything.

How snapshot and publications meet: while a snapshot is read, the channel holds publications back.
The read takes view, offset and epoch in one Redis transaction, and projections write them in one;
so the snapshot contains exactly the publications up to its offset. Held ones past it follow; those
at or below it are dropped, also if the feed is late (a subscriber is `ahead` until a higher one).
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from gateway.stream.channels import Channel, FeedId, Kind, Offsets
from gateway.stream.encodings import Encoding, encoded, raw
from gateway.stream.history import HISTORY_MAX, History
from gateway.stream.publication import Bundle, Publication
from schemas.wire import Recovered, Since, Snapshot


class Subscriber(Protocol):
    """A connection as the hub sees it. None of these joins or leaves: the hub walks its lists."""

    encoding: Encoding

    def push(self, frame: bytes) -> None:
        """Send these frames, whatever else waits."""

    def take(self, bundle: Bundle) -> None:
        """Send what is new on a channel; who lags may leave it out where newest wins, and asks the
        hub to refresh it later."""

    def expect_whole(self, key: str) -> None:
        """The next publication of a channel where newest wins is to be sent whole; nothing that
        was left out before is wanted any more."""

    def room(self) -> int:
        """Bytes that may still wait for it."""
        ...


class SnapshotRead(msgspec.Struct, frozen=True, kw_only=True):
    """epoch: None while the projection has written nothing."""

    epoch: str | None
    offset: int
    content: bytes


class _Feed:
    __slots__ = ("epoch", "history")

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.history = History()


class _Audience:
    """One channel's subscribers. ahead: by the offset they have; joining: await the snapshot.

    ticket: of the one snapshot being read for them, None if none is. newest: where newest wins, for
    who left it out.
    """

    __slots__ = ("ahead", "channel", "held", "joining", "live", "newest", "ticket")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.live: dict[Subscriber, None] = {}
        self.ahead: dict[Subscriber, int] = {}
        self.joining: dict[Subscriber, Since | None] = {}
        self.held: list[Publication] = []
        self.newest: Publication | None = None
        self.ticket: int | None = None

    def size(self) -> int:
        return len(self.live) + len(self.ahead) + len(self.joining)

    def take_out(self, subscriber: Subscriber) -> None:
        self.live.pop(subscriber, None)
        self.ahead.pop(subscriber, None)
        self.joining.pop(subscriber, None)
        if not self.joining:
            # Nobody awaits the read under way: it lapses, or the next to join would wait for it.
            self.ticket, self.held = None, []


class Hub:
    """read_snapshot(channel, ticket): the hub needs one; take_snapshot answers with that ticket.

    recovered, snapshots: how often a subscriber was told that it missed nothing, and how often a
    snapshot.
    """

    def __init__(self, read_snapshot: Callable[[Channel, int], None]) -> None:
        self._read_snapshot = read_snapshot
        self._feeds: dict[FeedId, _Feed] = {}
        self._audiences: dict[str, _Audience] = {}
        self._tickets = itertools.count(1)
        self.recovered = 0
        self.snapshots = 0

    def epoch(self, feed_id: FeedId) -> str | None:
        return self._feed(feed_id).epoch

    def has_audience(self, key: str) -> bool:
        return key in self._audiences

    def is_awaited(self, key: str, ticket: int) -> bool:
        """Whether somebody still waits for the snapshot of this ticket."""
        audience = self._audiences.get(key)
        return audience is not None and audience.ticket == ticket and bool(audience.joining)

    def subscriptions(self) -> dict[Kind, int]:
        """How many there are now, for the metrics."""
        found = Counter(dict.fromkeys(Kind, 0))
        for audience in self._audiences.values():
            found[audience.channel.kind] += audience.size()
        return dict(found)

    def join(self, subscriber: Subscriber, channel: Channel, since: Since | None) -> None:
        """Subscribe, resuming after `since` if everything after it is at hand."""
        audience = self._audiences.get(channel.key)
        if audience is None:
            audience = self._audiences[channel.key] = _Audience(channel)
        audience.take_out(subscriber)
        if since is not None and self._recover(subscriber, channel, since):
            audience.live[subscriber] = None
            return
        audience.joining[subscriber] = since
        if audience.ticket is None:
            self._read(audience)

    def leave(self, subscriber: Subscriber, key: str) -> None:
        audience = self._audiences.get(key)
        if audience is None:
            return
        audience.take_out(subscriber)
        if audience.size() == 0:
            del self._audiences[key]

    def refresh(self, subscriber: Subscriber, key: str) -> None:
        """A client that left out publications of a channel where newest wins keeps up again."""
        audience = self._audiences.get(key)
        if audience is None or subscriber not in audience.live:
            return  # a snapshot is on its way or has just been sent
        if audience.channel.traits.offsets is Offsets.LINKED:
            del audience.live[subscriber]
            audience.joining[subscriber] = None
            if audience.ticket is None:
                self._read(audience)
        elif audience.newest is not None and not audience.newest.is_owed():
            subscriber.push(audience.newest.whole(subscriber.encoding))

    def restart(
        self, feed_id: FeedId, epoch: str | None, publications: Iterable[Publication] = ()
    ) -> None:
        """The feed begins anew or has a gap: everyone on its channels gets a fresh snapshot."""
        feed = self._feed(feed_id)
        feed.epoch = epoch
        feed.history = History(publications)
        for audience in self._audiences.values():
            if audience.channel.comes_from(feed_id):
                self._rejoin(audience)

    def deliver(self, feed_id: FeedId, publications: Iterable[Publication]) -> None:
        """What one poll brought, in the feed's order; what was delivered before is dropped."""
        history = self._feed(feed_id).history
        by_key: dict[str, list[Publication]] = {}
        for publication in publications:
            by_key.setdefault(publication.key, []).append(publication)
        for key, brought in by_key.items():
            fresh, has_hole = history.admit(key, brought)
            audience = self._audiences.get(key)
            if audience is None or not fresh:
                continue
            if has_hole:
                self._rejoin(audience)
            self._send(audience, fresh)

    def take_snapshot(self, key: str, ticket: int, snapshot: SnapshotRead) -> bool:
        """The answer to read_snapshot. False: it is of another epoch than the feed; read again."""
        audience = self._audiences.get(key)
        if audience is None or audience.ticket != ticket:
            return True
        channel, epoch = audience.channel, snapshot.epoch
        if epoch is None or epoch != self._feed(channel.feed).epoch:
            return False
        following = [held for held in audience.held if held.offset > snapshot.offset]
        offset = following[-1].offset if following else snapshot.offset
        bundle = Bundle(following) if following else None
        joining, audience.joining = audience.joining, {}
        audience.ticket, audience.held = None, []
        frames: dict[Encoding, bytes] = {}
        for subscriber, since in joining.items():
            encoding = subscriber.encoding
            if since == Since(epoch=epoch, offset=snapshot.offset):
                subscriber.push(_recovered(channel, since, encoding))
                self.recovered += 1
            else:
                self.snapshots += 1
                if encoding not in frames:
                    frames[encoding] = _snapshot(channel, epoch, snapshot, encoding)
                subscriber.push(frames[encoding])
            if channel.traits.newest_wins:
                subscriber.expect_whole(key)
            if bundle is not None:
                subscriber.push(bundle.whole(encoding))
            audience.ahead[subscriber] = offset
        return True

    def _recover(self, subscriber: Subscriber, channel: Channel, since: Since) -> bool:
        feed, traits, encoding = self._feed(channel.feed), channel.traits, subscriber.encoding
        if feed.epoch != since.epoch:
            return False
        missed = feed.history.since(channel.key, since.offset, traits.recovered_max)
        if missed is None:
            return False
        frames = Bundle(missed).whole(encoding) if missed else b""
        if len(frames) > subscriber.room() // 2:
            return False
        if traits.newest_wins:
            subscriber.expect_whole(channel.key)
        newest = missed[-1].offset if missed else since.offset
        self.recovered += 1
        reached = Since(epoch=since.epoch, offset=newest)
        subscriber.push(frames + _recovered(channel, reached, encoding))
        return True

    def _send(self, audience: _Audience, fresh: Sequence[Publication]) -> None:
        if audience.channel.traits.newest_wins:
            audience.newest = fresh[-1]
        if audience.ticket is not None:
            audience.held.extend(fresh)
        if audience.live:
            bundle = Bundle(fresh)
            for subscriber in audience.live:
                subscriber.take(bundle)
        if audience.ahead:
            self._catch_up(audience, fresh)
        is_overdue = len(audience.held) > HISTORY_MAX
        if audience.joining and (audience.ticket is None or is_overdue):
            self._read(audience)

    def _catch_up(self, audience: _Audience, fresh: Sequence[Publication]) -> None:
        bundles: dict[int, Bundle | None] = {}
        for subscriber, offset in list(audience.ahead.items()):
            if fresh[-1].offset <= offset:
                continue
            del audience.ahead[subscriber]
            if offset not in bundles:
                following = [each for each in fresh if each.offset > offset]
                is_next = following[0].follows(offset)
                bundles[offset] = Bundle(following) if is_next else None
            bundle = bundles[offset]
            if bundle is None:
                audience.joining[subscriber] = None
            else:
                subscriber.take(bundle)
                audience.live[subscriber] = None

    def _rejoin(self, audience: _Audience) -> None:
        audience.joining |= dict.fromkeys((*audience.live, *audience.ahead))
        audience.live, audience.ahead, audience.newest = {}, {}, None
        # A read under way may be older than what made us start over: its ticket lapses.
        self._read(audience)

    def _read(self, audience: _Audience) -> None:
        audience.ticket = next(self._tickets)
        audience.held = []
        self._read_snapshot(audience.channel, audience.ticket)

    def _feed(self, feed_id: FeedId) -> _Feed:
        feed = self._feeds.get(feed_id)
        if feed is None:
            feed = self._feeds[feed_id] = _Feed()
        return feed


def _snapshot(channel: Channel, epoch: str, snapshot: SnapshotRead, encoding: Encoding) -> bytes:
    content = raw(snapshot.content, encoding)
    message = Snapshot(ch=channel.name, epoch=epoch, offset=snapshot.offset, data=content)
    return encoded(message, encoding)


def _recovered(channel: Channel, reached: Since, encoding: Encoding) -> bytes:
    message = Recovered(ch=channel.name, epoch=reached.epoch, offset=reached.offset)
    return encoded(message, encoding)
