"""Publications as frames that are ready to send: made once per subprotocol, however many get them.

On a channel whose publications are states, what goes out are the fields that changed since the
publication before, so a client that has that one needs no more; any other gets the whole one first.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.stream.channels import Channel, Kind, Offsets
from gateway.stream.encodings import Encoding, encoded, raw
from schemas.wire import Pub

State = dict[str, Any]

# The one field that is a map of its own; entries of it that did not change are left out as well.
MAP_FIELD: Final = "prices"
# What the message's offset says already.
SAID_BY_OFFSET: Final = {Kind.PULSE: "second"}


class _Link(msgspec.Struct):
    previous: int


class _Closing(msgspec.Struct):
    closed: bool = False


_encode = msgspec.json.Encoder().encode
_state = msgspec.json.Decoder(State).decode
_link = msgspec.json.Decoder(_Link).decode
_closing = msgspec.json.Decoder(_Closing).decode


class Publication:
    """content: wire JSON of what schemas.publications says for the channel, whole.

    previous: offset of the publication that this one follows; None where offsets may skip.
    changes: what to send in content's place to who has the publication before; None: there is no
    less to say.
    """

    __slots__ = ("_frames", "changes", "channel", "content", "offset", "previous")

    def __init__(self, channel: Channel, offset: int, content: bytes) -> None:
        self.channel = channel
        self.offset = offset
        self.content = content
        self.changes: bytes | None = None
        self.previous: int | None = None
        self._frames: list[bytes | None] = [None] * (2 * len(Encoding))
        match channel.traits.offsets:
            case Offsets.COUNTED:
                self.previous = offset - 1
            case Offsets.LINKED:
                self.previous = _link(content).previous
            case Offsets.RISING:
                pass

    @property
    def key(self) -> str:
        return self.channel.key

    def follows(self, offset: int) -> bool:
        """Whether nothing is missing between `offset` and this one."""
        return self.previous is None or self.previous == offset

    def is_owed(self) -> bool:
        """Whether even a client that lags gets it, newest wins or not: candles that are closed."""
        return self.channel.kind is Kind.KLINE and _closing(self.content).closed

    def state(self) -> State:
        return _state(self.content)

    def change_from(self, before: State, state: State) -> None:
        """Say what changed since the publication before, given both as state()."""
        omitted = SAID_BY_OFFSET.get(self.channel.kind)
        changed: State = {}
        for name, value in state.items():
            old = before.get(name)
            if name == omitted or value == old:
                continue
            if name == MAP_FIELD and old is not None:
                value = {key: price for key, price in value.items() if old.get(key) != price}
            changed[name] = value
        self.changes = _encode(changed)

    def frame(self, encoding: Encoding) -> bytes:
        """As changes, where the channel has them."""
        if self.changes is None:
            return self.whole(encoding)
        return self._frames[encoding] or self._make(encoding, encoding, self.changes)

    def whole(self, encoding: Encoding) -> bytes:
        place = encoding + len(Encoding)
        return self._frames[place] or self._make(place, encoding, self.content)

    def _make(self, place: int, encoding: Encoding, content: bytes) -> bytes:
        message = Pub(ch=self.channel.name, offset=self.offset, data=raw(content, encoding))
        frame = self._frames[place] = encoded(message, encoding)
        return frame


class Bundle:
    """What one poll brought on one channel, oldest first; one frame after the other, joined."""

    __slots__ = ("_frames", "_kept", "_publications", "_whole", "key", "newest_wins")

    def __init__(self, publications: Sequence[Publication]) -> None:
        channel = publications[0].channel
        self.key = channel.key
        self.newest_wins = channel.traits.newest_wins
        self._publications = publications
        self._frames: list[bytes | None] = [None] * len(Encoding)
        self._whole: list[bytes | None] = [None] * len(Encoding)
        self._kept: list[bytes | None] = [None] * len(Encoding)

    def frames(self, encoding: Encoding) -> bytes:
        """All of them, as changes."""
        found = self._frames[encoding]
        if found is None:
            found = b"".join([each.frame(encoding) for each in self._publications])
            self._frames[encoding] = found
        return found

    def whole(self, encoding: Encoding) -> bytes:
        """The first one whole, for who does not have the publication before it."""
        found = self._whole[encoding]
        if found is None:
            first, *others = self._publications
            following = [each.frame(encoding) for each in others]
            found = self._whole[encoding] = b"".join([first.whole(encoding), *following])
        return found

    def kept(self, encoding: Encoding) -> bytes:
        """Those that even a client that lags is owed, each whole; often nothing."""
        found = self._kept[encoding]
        if found is None:
            owed = [each.whole(encoding) for each in self._publications if each.is_owed()]
            found = self._kept[encoding] = b"".join(owed)
        return found
