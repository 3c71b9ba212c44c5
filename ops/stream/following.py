"""What a client is subscribed to and how far it is on each channel: messages in, changes out.

Without I/O. Keeps the promise that nothing is missed in silence: a publication that does not follow
the one before it is a hole, and the channel is asked for again from the last good one. What comes
between that request and its answer belongs to the old subscription and is dropped.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from ops.stream.errors import StreamBroken
from ops.stream.merging import DEPTH, ORDERED, PULSE, is_whole, kind_of, merged
from schemas.wire import ChannelRequest, Pub, Recovered, Since, Snapshot, Subscribe

# Holes of one channel in a row that are mended, by a resume and then by snapshots.
HOLES_MAX = 3

ChangeKind = Literal["snapshot", "publication", "recovered", "stale", "fresh", "lost"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. channel, epoch, offset: empty for stale, fresh and lost.

    data: as it came. state: all that is known of the channel by now; None for trades and burns.
    lost: the connection is gone and will come back; data says why.
    """

    kind: ChangeKind
    channel: str = ""
    epoch: str = ""
    offset: int = 0
    data: Any = None
    state: Any = None


class Hole(msgspec.Struct, frozen=True):
    """The channel has to be asked for again."""

    channel: str


class _Followed:
    """asked: the request whose answer is awaited. is_resuming: with `since`, so that publications
    may come before a snapshot. position: None before the first snapshot.
    """

    __slots__ = ("asked", "holes", "is_resuming", "is_settled", "kind", "position", "state")

    def __init__(self, channel: str) -> None:
        self.kind = kind_of(channel)
        self.asked: int | None = None
        self.is_resuming = False
        self.is_settled = False
        self.position: Since | None = None
        self.state: Any = None
        self.holes = 0

    def listens(self) -> bool:
        return self.asked is None and (self.is_settled or self.is_resuming)


class Following:
    """All channels of one client, over any number of connections."""

    def __init__(self) -> None:
        self._followed: dict[str, _Followed] = {}

    def channels(self) -> list[str]:
        return list(self._followed)

    def is_settled(self, channel: str) -> bool:
        """Whether the channel's state is known and its publications are being received."""
        followed = self._followed.get(channel)
        return followed is not None and followed.listens() and followed.is_settled

    def position(self, channel: str) -> Since | None:
        followed = self._followed.get(channel)
        return followed.position if followed else None

    def state(self, channel: str) -> Any:
        followed = self._followed.get(channel)
        return followed.state if followed else None

    def ask(self, channels: Iterable[str], request_id: int) -> Subscribe:
        """Subscribe, each channel after the last thing that it had."""
        asked = []
        for channel in channels:
            followed = self._followed.setdefault(channel, _Followed(channel))
            followed.asked, followed.is_settled = request_id, False
            followed.is_resuming = followed.position is not None
            asked.append(ChannelRequest(ch=channel, since=followed.position))
        return Subscribe(id=request_id, channels=tuple(asked))

    def granted(self, channels: Iterable[str], request_id: int) -> None:
        """The request was answered: what comes from now on belongs to it."""
        for channel in channels:
            followed = self._followed.get(channel)
            if followed is not None and followed.asked == request_id:
                followed.asked = None

    def forget(self, channels: Sequence[str]) -> None:
        for channel in channels:
            self._followed.pop(channel, None)

    def snapshot(self, message: Snapshot, data: Any) -> Change | None:
        followed = self._followed.get(message.ch)
        if followed is None or followed.asked is not None:
            return None
        followed.position = Since(epoch=message.epoch, offset=message.offset)
        followed.is_settled, followed.is_resuming = True, False
        followed.state = None if followed.kind in ORDERED else data
        return self._change("snapshot", message.ch, followed, data)

    def recovered(self, message: Recovered) -> Change | Hole | None:
        """Raises StreamBroken as publication() does."""
        followed = self._followed.get(message.ch)
        if followed is None or not followed.listens():
            return None
        if followed.position != Since(epoch=message.epoch, offset=message.offset):
            return self._hole(message.ch, followed, f"recovered up to {message.offset}")
        followed.is_settled, followed.is_resuming = True, False
        return self._change("recovered", message.ch, followed, None)

    def publication(self, message: Pub, data: Any) -> Change | Hole | None:
        """Raises StreamBroken at one hole more in a row than HOLES_MAX."""
        followed = self._followed.get(message.ch)
        if followed is None or not followed.listens():
            return None
        position = followed.position
        assert position is not None
        if message.offset == position.offset and _may_repeat(followed.kind, data):
            return None
        if not _follows(followed, position.offset, message.offset, data):
            return self._hole(message.ch, followed, f"{message.offset} after {position.offset}")
        followed.position = Since(epoch=position.epoch, offset=message.offset)
        followed.state = merged(followed.kind, followed.state, data, message.offset)
        if followed.is_settled:
            followed.holes = 0
        return self._change("publication", message.ch, followed, data)

    def _change(self, kind: ChangeKind, channel: str, followed: _Followed, data: Any) -> Change:
        assert followed.position is not None
        return Change(
            kind=kind,
            channel=channel,
            epoch=followed.position.epoch,
            offset=followed.position.offset,
            data=data,
            state=followed.state,
        )

    def _hole(self, channel: str, followed: _Followed, reason: str) -> Hole:
        followed.holes += 1
        if followed.holes > HOLES_MAX:
            raise StreamBroken(channel, reason)
        # Nothing that follows is taken before the request for it is answered.
        followed.is_settled = followed.is_resuming = False
        if followed.holes > 1:
            followed.position = None  # the resume did not help: a snapshot does
        return Hole(channel)


def _may_repeat(kind: str, data: Any) -> bool:
    """Whether a state may come twice: to a client that lagged, and has the newest already."""
    return kind not in ORDERED and kind != DEPTH and is_whole(kind, data)


def _follows(followed: _Followed, before: int, offset: int, data: Any) -> bool:
    if followed.kind in ORDERED:
        return offset == before + 1
    if followed.kind == DEPTH:
        return followed.state is not None and bool(data["previous"] == before) and offset > before
    if offset <= before:
        return False
    if is_whole(followed.kind, data):
        return True
    # Publications are skipped for a client that lags, and the first one after that is whole.
    return followed.state is not None and (followed.kind == PULSE or offset == before + 1)
