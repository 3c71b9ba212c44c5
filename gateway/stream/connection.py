"""One WebSocket: joins the sans-IO session to the protocol below ASGI, the pump and the hub.

No task and no timer of its own: what the client says comes as a call, what is to be sent waits in
`pending` until the pump, or an answer, flushes it in one write; once a second the stream ticks.
Whatever the client does, bounded memory waits for it: values that a newer one replaces are left out
for a client that lags, and one that lags too far is closed and may resume.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, assert_never

import msgspec

from gateway.stream.close_codes import CloseCode
from gateway.stream.encodings import Encoding, encoded
from gateway.stream.figures import StreamFigures
from gateway.stream.hub import Hub
from gateway.stream.protocol import WRITE_HIGH_BYTES, StreamProtocol
from gateway.stream.publication import Bundle
from gateway.stream.pump import Pump
from gateway.stream.session import AskMarkets, Close, Effect, Join, Leave, Reply, Session

# A client with more than this unsent in user space lags, until the protocol says it is writable.
LAGGING_BYTES = WRITE_HIGH_BYTES
UNREAD_BYTES_MAX = 1 << 20
STALLED_SECONDS_MAX = 10
INTERNAL_ERROR = 1011
PING_SECONDS = 25
PONG_SECONDS = 20
# While the markets are read again for one message, so much of what the client says may wait.
WAITING_BYTES_MAX = 64 * 1024


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What all connections of a process share.

    look_for_markets: has the session's markets read again; not too often.
    spawn: runs a coroutine that the connection need not wait for. ended: the connection is gone.
    """

    hub: Hub
    pump: Pump
    figures: StreamFigures
    look_for_markets: Callable[[], Awaitable[None]]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    ended: "Callable[[Connection], None]"


class Connection:
    """An Endpoint of the protocol, a Subscriber of the hub and a Sender of the pump."""

    __slots__ = (
        "_around",
        "_code",
        "_is_due",
        "_looking",
        "_pending",
        "_pending_bytes",
        "_protocol",
        "_sent_bytes",
        "_session",
        "_silent_seconds",
        "_skipped",
        "_stalled_seconds",
        "_taken_bytes",
        "_whole",
        "encoding",
    )

    def __init__(
        self,
        *,
        protocol: StreamProtocol,
        session: Session,
        encoding: Encoding,
        around: Surroundings,
    ) -> None:
        self.encoding = encoding
        self._protocol = protocol
        self._session = session
        self._around = around
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._is_due = False
        # Channels of which the next publication is sent whole; those that lack the newest.
        self._whole: set[str] = set()
        self._skipped: set[str] = set()
        self._looking: deque[str | bytes] | None = None
        self._code: CloseCode | None = None
        self._silent_seconds = self._stalled_seconds = 0
        # Handed to the transport so far, and of it what the kernel had taken at the last tick.
        self._sent_bytes = self._taken_bytes = 0

    # --- what the client does

    def received(self, message: str | bytes) -> None:
        if self._code is not None:
            return
        self._around.figures.messages_in += 1
        self.controlled()
        if self._looking is not None:
            self._wait_for_markets(message)
        else:
            self._answer(message)

    def controlled(self) -> None:
        if self._code is None:
            self._carry_out(self._session.count(_now_ns()))

    def writable(self) -> None:
        """The client has read on: give it the newest of what it was spared."""
        skipped, self._skipped = self._skipped, set()
        for key in skipped:
            self._around.hub.refresh(self, key)
        self.flush()

    def ended(self, code: int) -> None:
        self._leave_all()
        self._pending.clear()
        self._around.figures.closed(code, by_gateway=self._code)
        self._around.ended(self)

    # --- what the hub has for it

    def push(self, frame: bytes) -> None:
        """Queue a frame that must arrive."""
        if self._code is not None:
            return
        self._pending.append(frame)
        self._pending_bytes += len(frame)
        if not self._is_due:
            self._is_due = True
            self._around.pump.add(self)

    def take(self, bundle: Bundle) -> None:
        """Queue publications; of newest-wins channels a client that lags gets the least."""
        if not bundle.newest_wins:
            self.push(bundle.frames(self.encoding))
            return
        key = bundle.key
        # Once one was left out, all are until writable(): what follows could not be understood.
        if key in self._skipped or self._protocol.buffered() > LAGGING_BYTES:
            self._skip(bundle)
        elif key in self._whole:
            self._whole.discard(key)
            self.push(bundle.whole(self.encoding))
        else:
            self.push(bundle.frames(self.encoding))

    def expect_whole(self, key: str) -> None:
        self._whole.add(key)
        self._skipped.discard(key)

    def room(self) -> int:
        return UNREAD_BYTES_MAX - self.unread()

    def unread(self) -> int:
        """Bytes that wait for the client in user space."""
        return self._pending_bytes + self._protocol.buffered()

    def flush(self) -> None:
        """Hand all that is pending to the transport, in one write."""
        self._is_due = False
        pending = self._pending
        if not pending:
            return
        frames = pending[0] if len(pending) == 1 else b"".join(pending)
        pending.clear()
        self._pending_bytes = 0
        self._sent_bytes += len(frames)
        self._around.figures.sent(len(frames))
        self._protocol.write(frames)
        if self._protocol.buffered() > UNREAD_BYTES_MAX:
            self.close(CloseCode.SLOW_CONSUMER)

    # --- its life

    def tick(self, now_second: int) -> None:
        """To be called once a second. now_second: Unix, for the token's expiry."""
        if self._code is not None or self._protocol.is_closing:
            return
        self._carry_out(self._session.expire(now_second))
        self._look_for_life()
        self._look_for_progress()

    def close(self, code: CloseCode) -> None:
        """Begin to end the connection: what is pending goes first, then the first code given."""
        if self._code is not None:
            return
        self._code = code
        self._leave_all()
        if code is not CloseCode.SLOW_CONSUMER:
            self._protocol.write(b"".join(self._pending))
        self._pending.clear()
        self._protocol.close(code, code.reason)

    def _look_for_life(self) -> None:
        if self._protocol.heard:
            self._protocol.heard = False
            self._silent_seconds = 0
            return
        self._silent_seconds += 1
        if self._silent_seconds == PING_SECONDS:
            self._protocol.ping()
        elif self._silent_seconds >= PING_SECONDS + PONG_SECONDS:
            self.close(CloseCode.NO_PONG)

    def _look_for_progress(self) -> None:
        taken = self._sent_bytes - self._protocol.buffered()
        if taken > self._taken_bytes or taken == self._sent_bytes:
            self._stalled_seconds = 0
        else:
            self._stalled_seconds += 1
            if self._stalled_seconds >= STALLED_SECONDS_MAX:
                self.close(CloseCode.SLOW_CONSUMER)
        self._taken_bytes = taken

    def _skip(self, bundle: Bundle) -> None:
        self._around.figures.skipped += 1
        self._skipped.add(bundle.key)
        kept = bundle.kept(self.encoding)
        if kept:
            self.push(kept)

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply():
                    self.push(encoded(effect.message, self.encoding))
                case Join():
                    self._forget(effect.channel.key)
                    self._around.hub.join(self, effect.channel, effect.since)
                case Leave():
                    self._around.hub.leave(self, effect.channel.key)
                    self._forget(effect.channel.key)
                case Close():
                    self.close(effect.code)
                case AskMarkets():
                    self._looking = deque()
                    self._around.spawn(self._look(effect))
                case _:
                    assert_never(effect)

    async def _look(self, asked: AskMarkets) -> None:
        is_answered = False
        try:
            await self._around.look_for_markets()
            waiting, self._looking = self._looking or deque(), None
            if self._code is None and not self._protocol.is_closing:
                self._carry_out(self._session.subscribe_again(asked.request))
                self._go_on(waiting)
            is_answered = True
        finally:
            if not is_answered:  # the client would wait for its answers for ever
                self._protocol.close(INTERNAL_ERROR)

    def _go_on(self, waiting: deque[str | bytes]) -> None:
        while waiting and self._looking is None:
            self._answer(waiting.popleft())
        if self._looking is not None:
            self._looking.extend(waiting)
        self.flush()

    def _answer(self, message: str | bytes) -> None:
        if self._code is not None:
            return
        self._is_due = True  # flushed right here: no need to bother the pump
        self._carry_out(self._session.receive(message))
        self.flush()

    def _wait_for_markets(self, message: str | bytes) -> None:
        assert self._looking is not None
        self._looking.append(message)
        if sum(map(len, self._looking)) > WAITING_BYTES_MAX:
            self.close(CloseCode.TOO_MANY_MESSAGES)

    def _forget(self, key: str) -> None:
        self._whole.discard(key)
        self._skipped.discard(key)

    def _leave_all(self) -> None:
        for channel in self._session.channels():
            self._around.hub.leave(self, channel.key)


def _now_ns() -> int:
    return int(asyncio.get_running_loop().time() * 1e9)
