"""One stream connection as a state machine, without I/O: a message in, a list of effects out.

Holds who the client is and what it subscribed to; knows nothing of sockets, queues or Redis.
Every message gets exactly one answer (ack, pong or error) with its id; an error changes nothing.
A subscription to an unknown market is answered after one more look at the markets.
"""

from collections.abc import Callable

import msgspec

from gateway.access import Principal
from gateway.errors import Refusal
from gateway.stream.channels import PRIVATE_KINDS, Channel, parse_name
from gateway.stream.close_codes import CloseCode
from gateway.stream.encodings import Encoding, decode_head, decode_request
from schemas.wire import (
    Ack,
    Authenticate,
    Ping,
    Pong,
    Since,
    StreamError,
    StreamRequest,
    Subscribe,
    Unsubscribe,
    WireCode,
)

MESSAGE_BYTES_MAX = 16 * 1024
SUBSCRIPTIONS_MAX = 64
MESSAGES_PER_SECOND_MAX = 50
# All of them once, and once more after a mishap.
ASKED_CHANNELS_MAX = 2 * SUBSCRIPTIONS_MAX
ASKING_SECONDS = 10
SECOND_NS = 1_000_000_000

_OPS = frozenset(kind.__struct_config__.tag for kind in StreamRequest.__args__)


class Reply(msgspec.Struct, frozen=True):
    message: Ack | Pong | StreamError


class Join(msgspec.Struct, frozen=True):
    channel: Channel
    since: Since | None = None


class Leave(msgspec.Struct, frozen=True):
    channel: Channel


class Close(msgspec.Struct, frozen=True):
    code: CloseCode


class AskMarkets(msgspec.Struct, frozen=True):
    """The market may be newer than what is known: look again, then subscribe_again(request)."""

    request: Subscribe


Effect = Reply | Join | Leave | Close | AskMarkets


class Session:
    """verify: a token's principal, or Refusal. has_market: whether a market id is known."""

    __slots__ = (
        "_asked_channels",
        "_asking_began_ns",
        "_encoding",
        "_has_market",
        "_subscribed",
        "_verify",
        "_window_began_ns",
        "_window_messages",
        "principal",
    )

    def __init__(
        self,
        *,
        verify: Callable[[str], Principal],
        has_market: Callable[[str], bool],
        principal: Principal | None = None,
        encoding: Encoding = Encoding.JSON,
    ) -> None:
        self.principal = principal
        self._encoding = encoding
        self._verify = verify
        self._has_market = has_market
        self._subscribed: dict[str, Channel] = {}
        self._asking_began_ns = self._asked_channels = 0
        self._window_began_ns = 0
        self._window_messages = 0

    def receive(self, message: str | bytes) -> list[Effect]:
        """Answer a message that was counted when it came."""
        try:
            request = decode_request(message, self._encoding)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            return [Reply(_unreadable(message, self._encoding, exc))]
        return self._answer(request)

    def count(self, now_ns: int) -> list[Effect]:
        """A message, ping or pong came, whenever it is answered. now_ns: does not go back."""
        if now_ns - self._window_began_ns >= SECOND_NS:
            self._window_began_ns, self._window_messages = now_ns, 0
        self._window_messages += 1
        if now_ns - self._asking_began_ns >= ASKING_SECONDS * SECOND_NS:
            self._asking_began_ns, self._asked_channels = now_ns, 0
        if self._window_messages > MESSAGES_PER_SECOND_MAX:
            return [Close(CloseCode.TOO_MANY_MESSAGES)]
        return []

    def _answer(self, request: StreamRequest) -> list[Effect]:
        match request:
            case Authenticate():
                return self._authenticate(request)
            case Subscribe():
                return self._subscribe(request)
            case Unsubscribe():
                return self._unsubscribe(request)
            case Ping():
                return [Reply(Pong(id=request.id))]

    def expire(self, now_second: int) -> list[Effect]:
        """Ends the connection once its token has expired; to be asked now and then."""
        if self.principal is None or now_second < self.principal.expires_second:
            return []
        return [Close(CloseCode.TOKEN_EXPIRED)]

    def channels(self) -> list[Channel]:
        """What the client is subscribed to."""
        return list(self._subscribed.values())

    def _authenticate(self, request: Authenticate) -> list[Effect]:
        try:
            principal = self._verify(request.token)
        except Refusal as refusal:
            return [_error(request.id, refusal.code, refusal.detail)]
        effects: list[Effect] = [
            Leave(self._subscribed.pop(channel.name))
            for channel in self.channels()
            if channel.user_id not in ("", principal.user_id)
        ]
        self.principal = principal
        return [*effects, Reply(Ack(id=request.id, expires_at=principal.expires_second))]

    def subscribe_again(self, request: Subscribe) -> list[Effect]:
        """The answer to AskMarkets' request, with the markets as they are known by now."""
        return self._subscribe(request, are_markets_fresh=True)

    def _subscribe(self, request: Subscribe, *, are_markets_fresh: bool = False) -> list[Effect]:
        user_id = self.principal.user_id if self.principal else None
        joins: dict[str, Join] = {}
        for asked in request.channels:
            channel = parse_name(asked.ch, user_id=user_id, has_market=self._has_market)
            if channel is None:
                if not are_markets_fresh and _names_a_market(asked.ch):
                    return [AskMarkets(request)]
                return [self._no_channel(request.id, asked.ch)]
            joins[channel.name] = Join(channel, asked.since)
        if len(self._subscribed.keys() | joins.keys()) > SUBSCRIPTIONS_MAX:
            text = f"At most {SUBSCRIPTIONS_MAX} channels per connection."
            return [_error(request.id, WireCode.TOO_MANY_SUBSCRIPTIONS, text)]
        # Each may cost a read of the views, also a channel that is asked for again.
        if self._asked_channels + len(joins) > ASKED_CHANNELS_MAX:
            text = f"At most {ASKED_CHANNELS_MAX} channels may be asked for in {ASKING_SECONDS} s."
            return [_error(request.id, WireCode.TOO_MANY_SUBSCRIPTIONS, text)]
        self._asked_channels += len(joins)
        self._subscribed |= {name: join.channel for name, join in joins.items()}
        return [Reply(Ack(id=request.id)), *joins.values()]

    def _unsubscribe(self, request: Unsubscribe) -> list[Effect]:
        for name in request.channels:
            if name not in self._subscribed:
                return [_error(request.id, WireCode.NOT_SUBSCRIBED, "Not subscribed.", name)]
        leaving = [self._subscribed.pop(name) for name in dict.fromkeys(request.channels)]
        return [*(Leave(channel) for channel in leaving), Reply(Ack(id=request.id))]

    def _no_channel(self, request_id: int | None, name: str) -> Reply:
        if name in PRIVATE_KINDS:
            text = f"Send auth before subscribing to {name}."
            return _error(request_id, WireCode.UNAUTHORIZED, text, name)
        return _error(request_id, WireCode.UNKNOWN_CHANNEL, "No such channel.", name)


def _names_a_market(name: str) -> bool:
    channel = parse_name(name, user_id=None, has_market=lambda market_id: True)
    return channel is not None and channel.market_id != ""


def _error(request_id: int | None, code: str, text: str, ch: str | None = None) -> Reply:
    return Reply(StreamError(id=request_id, code=code, message=text, ch=ch))


def _unreadable(message: str | bytes, encoding: Encoding, exc: Exception) -> StreamError:
    try:
        head = decode_head(message, encoding)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return StreamError(code=WireCode.INVALID_MESSAGE, message=str(exc))
    if head.op is not None and head.op not in _OPS:
        text = f"No op {head.op[:40]!r}; there are {', '.join(sorted(_OPS))}."
        return StreamError(id=head.id, code=WireCode.UNKNOWN_OP, message=text)
    return StreamError(id=head.id, code=WireCode.INVALID_MESSAGE, message=str(exc))
