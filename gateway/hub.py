"""Who is subscribed to each channel, and what to send so that nobody misses or repeats anything.

How snapshot and publications meet: while a snapshot is read, the channel holds publications back.
The read takes view, offset and epoch in one Redis transaction, and projections write them in one;
so the snapshot contains exactly the publications up to its offset. Held ones past it follow; those
at or below it are dropped, also if the feed is late (a subscriber is `ahead` until a higher one).
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from gateway.channels import Channel, FeedId, parse_key
from gateway.history import History, Publication
from schemas.wire import Pub, Recovered, Since, Snapshot

_encode = msgspec.json.Encoder().encode


class Subscriber(Protocol):
    """A connection as the hub sees it. push never joins or leaves: the hub is walking its lists."""

    def push(self, frame: str, replace_key: str | None = None) -> None: ...

    def room(self) -> int: ...


class SnapshotRead(msgspec.Struct, frozen=True, kw_only=True):
    """epoch: None while the projection has written nothing."""

    epoch: str | None
    offset: int
    content: bytes


class _Feed:
    __slots__ = ("epoch", "history", "offsets")

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.history = History()
        self.offsets: dict[str, int] = {}


class _Audience:
    """One channel's subscribers. ahead: by the offset they have; joining: await the snapshot.

    ticket: of the one snapshot being read for them, None if none is.
    """

    __slots__ = ("ahead", "channel", "held", "joining", "live", "ticket")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.live: dict[Subscriber, None] = {}
        self.ahead: dict[Subscriber, int] = {}
        self.joining: dict[Subscriber, Since | None] = {}
        self.held: list[Publication] = []
        self.ticket: int | None = None

    def is_empty(self) -> bool:
        return not (self.live or self.ahead or self.joining)


class Hub:
    """read_snapshot(channel, ticket): the hub needs one; take_snapshot answers with that ticket."""

    def __init__(self, read_snapshot: Callable[[Channel, int], None]) -> None:
        self._read_snapshot = read_snapshot
        self._feeds: dict[FeedId, _Feed] = {}
        self._audiences: dict[str, _Audience] = {}
        self._tickets = itertools.count(1)

    def epoch(self, feed_id: FeedId) -> str | None:
        return self._feed(feed_id).epoch

    def has_audience(self, key: str) -> bool:
        return key in self._audiences

    def is_awaited(self, key: str, ticket: int) -> bool:
        """Whether somebody still waits for the snapshot of this ticket."""
        audience = self._audiences.get(key)
        return audience is not None and audience.ticket == ticket and bool(audience.joining)

    def join(self, subscriber: Subscriber, channel: Channel, since: Since | None) -> None:
        """Subscribe, resuming after `since` if everything after it is at hand."""
        audience = self._audiences.get(channel.key)
        if audience is None:
            audience = self._audiences[channel.key] = _Audience(channel)
        self._take_out(audience, subscriber)
        feed = self._feed(channel.feed)
        if since is not None and feed.epoch == since.epoch:
            missed = feed.history.since(channel.key, since.offset)
            if missed is not None and len(missed) < subscriber.room() // 2:
                for publication in missed:
                    self._push(channel, publication, (subscriber,))
                offset = missed[-1].offset if missed else since.offset
                subscriber.push(_recovered(channel, since.epoch, offset))
                audience.live[subscriber] = None
                return
        audience.joining[subscriber] = since
        if audience.ticket is None:
            self._read(audience)

    def leave(self, subscriber: Subscriber, key: str) -> None:
        audience = self._audiences.get(key)
        if audience is None:
            return
        self._take_out(audience, subscriber)
        if audience.is_empty():
            del self._audiences[key]

    def restart(
        self, feed_id: FeedId, epoch: str | None, publications: Iterable[Publication] = ()
    ) -> None:
        """The feed begins anew or has a gap: everyone on its channels gets a fresh snapshot."""
        feed = self._feed(feed_id)
        feed.epoch = epoch
        feed.history = History(publications)
        feed.offsets = {}
        for audience in self._audiences.values():
            if audience.channel.feed == feed_id:
                self._rejoin(audience)

    def deliver(self, feed_id: FeedId, publication: Publication) -> None:
        """One publication, in the feed's order; one that was delivered before is dropped."""
        feed = self._feed(feed_id)
        audience = self._audiences.get(publication.key)
        channel = audience.channel if audience else parse_key(publication.key)
        if channel is None:
            return
        known = feed.offsets.get(publication.key, feed.history.newest_offset(publication.key))
        if known is not None and publication.offset <= known:
            return
        has_gap = False
        if channel.traits.is_contiguous:
            has_gap = known is not None and publication.offset != known + 1
            feed.offsets[publication.key] = publication.offset
        if has_gap:
            feed.history.forget(publication.key)
        if channel.user_id == "":
            # Not kept for accounts: a whole account is read as fast as it is remembered.
            feed.history.add(publication)
        if audience is None:
            return
        if has_gap:
            self._rejoin(audience)
        self._send(audience, publication)

    def take_snapshot(self, key: str, ticket: int, snapshot: SnapshotRead) -> bool:
        """The answer to read_snapshot. False: it is of another epoch than the feed; read again."""
        audience = self._audiences.get(key)
        if audience is None or audience.ticket != ticket:
            return True
        channel = audience.channel
        if snapshot.epoch is None or snapshot.epoch != self._feed(channel.feed).epoch:
            return False
        audience.ticket, frame = None, _snapshot(channel, snapshot.epoch, snapshot)
        following = [held for held in audience.held if held.offset > snapshot.offset]
        offset = following[-1].offset if following else snapshot.offset
        joining, audience.joining, audience.held = audience.joining, {}, []
        for subscriber, since in joining.items():
            if since == Since(epoch=snapshot.epoch, offset=snapshot.offset):
                subscriber.push(_recovered(channel, snapshot.epoch, snapshot.offset))
            else:
                subscriber.push(frame)
            audience.ahead[subscriber] = offset
        for publication in following:
            self._push(channel, publication, joining)
        return True

    def _send(self, audience: _Audience, publication: Publication) -> None:
        if audience.ticket is not None:
            audience.held.append(publication)
        caught_up: list[Subscriber] = []
        for subscriber, offset in list(audience.ahead.items()):
            if publication.offset <= offset:
                continue
            del audience.ahead[subscriber]
            if audience.channel.traits.is_contiguous and publication.offset != offset + 1:
                audience.joining[subscriber] = None
            else:
                caught_up.append(subscriber)
        audience.live.update(dict.fromkeys(caught_up))
        self._push(audience.channel, publication, audience.live)
        if audience.joining and audience.ticket is None:
            self._read(audience)

    def _push(
        self, channel: Channel, publication: Publication, subscribers: Iterable[Subscriber]
    ) -> None:
        frame: str | None = None
        replace_key = channel.key if channel.traits.newest_wins else None
        for subscriber in subscribers:
            if frame is None:
                frame = _pub(channel, publication)
            subscriber.push(frame, replace_key)

    def _rejoin(self, audience: _Audience) -> None:
        audience.joining |= dict.fromkeys((*audience.live, *audience.ahead))
        audience.live, audience.ahead = {}, {}
        # A read under way may be older than what made us start over: its ticket lapses.
        self._read(audience)

    def _read(self, audience: _Audience) -> None:
        audience.ticket = next(self._tickets)
        audience.held = []
        self._read_snapshot(audience.channel, audience.ticket)

    def _take_out(self, audience: _Audience, subscriber: Subscriber) -> None:
        audience.live.pop(subscriber, None)
        audience.ahead.pop(subscriber, None)
        audience.joining.pop(subscriber, None)

    def _feed(self, feed_id: FeedId) -> _Feed:
        feed = self._feeds.get(feed_id)
        if feed is None:
            feed = self._feeds[feed_id] = _Feed()
        return feed


def _pub(channel: Channel, publication: Publication) -> str:
    content = msgspec.Raw(publication.content)
    return _encode(Pub(ch=channel.name, offset=publication.offset, data=content)).decode()


def _snapshot(channel: Channel, epoch: str, snapshot: SnapshotRead) -> str:
    content = msgspec.Raw(snapshot.content)
    return _encode(
        Snapshot(ch=channel.name, epoch=epoch, offset=snapshot.offset, data=content)
    ).decode()


def _recovered(channel: Channel, epoch: str, offset: int) -> str:
    return _encode(Recovered(ch=channel.name, epoch=epoch, offset=offset)).decode()
