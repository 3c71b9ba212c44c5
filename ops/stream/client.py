"""StreamClient: the newest state of some channels, over as many connections as it takes.

    async with StreamClient(url, token=fresh_token) as client:
        await client.subscribe("pulse", "account")
        async for change in client:
            print(change.channel, change.state)

It comes back by itself, resumes each channel where it was cut off, and renews its token in time.
"""

import asyncio
import contextlib
import inspect
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from ops.backoff import Backoff
from ops.stream.codec import CODECS, Encoding
from ops.stream.errors import StreamFault, StreamRefused
from ops.stream.following import Change, Following, Hole
from ops.stream.inbox import Inbox
from ops.stream.link import Answer, Link, LinkLost, reason_of, together
from schemas.wire import (
    Ack,
    Authenticate,
    Draining,
    Fresh,
    Hello,
    Ping,
    Pub,
    Recovered,
    ServerMessages,
    Since,
    Snapshot,
    Stale,
    StreamError,
    StreamRequest,
    Unsubscribe,
    WireCode,
)

OPEN_SECONDS_MAX = 5.0
CLOSE_SECONDS_MAX = 1.0
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
BACKOFF_FIRST_S = 1.0
BACKOFF_LONGEST_S = 30.0
# Of a token's remaining life, after which a new one is sent.
TOKEN_RENEW_SHARE = 0.8
TOKEN_RENEW_S_MIN = 0.2
TOKEN_RENEW_S_LATE = 5.0

Token = Callable[[], str] | Callable[[], Awaitable[str]]


class Counts(msgspec.Struct):
    """What a client has been through. holes: publications that did not follow the one before."""

    connections: int = 0
    snapshots: int = 0
    recoveries: int = 0
    publications: int = 0
    holes: int = 0
    tokens: int = 0


class StreamClient:
    """An async context manager and iterator of changes; for one task to iterate at a time.

    token: called for a fresh token at each connection and before one expires; what it raises ends
    the client (an OSError is tried again). Iterating, subscribing and unsubscribing raise
    StreamFault once the gateway refuses us for good, or is not to be believed.
    """

    def __init__(
        self,
        url: str,
        *,
        encoding: Encoding = "json",
        token: Token | None = None,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.counts = Counts()
        self.hello: Hello | None = None
        self._url = url
        self._codec = CODECS[encoding]
        self._token = token
        self._now_s = now_s
        self._rng = rng or random.Random()
        self._backoff = backoff or Backoff(
            self._rng, first_s=BACKOFF_FIRST_S, longest_s=BACKOFF_LONGEST_S, shortest_share=0.0
        )
        self._following = Following()
        self._granted: dict[str, None] = {}
        self._inbox = Inbox(is_urgent=self._awaits_answers)
        self._link: Link | None = None
        self._askers = 0
        self._turned = asyncio.Event()
        self._reconnect_within_s: float | None = None
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "StreamClient":
        self._running = asyncio.create_task(self._run(), name="stream client")
        self._running.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    def __aiter__(self) -> "StreamClient":
        return self

    async def __anext__(self) -> Change:
        change = await self._inbox.take()
        if change is not None:
            return change
        if self._running is None or self._running.cancelled():
            raise StopAsyncIteration
        self._raise_if_ended()
        raise AssertionError("the client runs until it is closed or fails")

    def position(self, channel: str) -> Since | None:
        """The last snapshot or publication of a channel; None before the first."""
        return self._following.position(channel)

    def state(self, channel: str) -> Any:
        """What is known of a channel, whether or not the change was iterated over yet."""
        return self._following.state(channel)

    def is_settled(self, *channels: str) -> bool:
        """Whether all are subscribed to, and up to date as far as this connection knows."""
        return all(self._following.is_settled(channel) for channel in channels)

    def cut(self) -> bool:
        """Drop the connection as a dead network would; the client comes back. False: none is up."""
        link = self._link
        if link is not None:
            link.abort()
        return link is not None

    async def subscribe(self, *channels: str) -> None:
        """Wait until the gateway has granted all of them, over whatever connection.

        Raises StreamRefused if it does not: then none is subscribed to.
        """
        new = [channel for channel in dict.fromkeys(channels) if channel not in self._granted]
        if not new:
            return
        answer = await self._ask(
            lambda request_id: self._following.ask(new, request_id),
            lambda answer: self._grant(new, answer),
        )
        _accept(answer)

    async def unsubscribe(self, *channels: str) -> None:
        leaving = [channel for channel in dict.fromkeys(channels) if channel in self._granted]
        for channel in leaving:
            del self._granted[channel]
        self._following.forget(leaving)
        if self._link is None or not leaving:
            return  # the next connection does not subscribe to them
        answer = await (
            await self._send(
                self._link,
                lambda request_id: Unsubscribe(id=request_id, channels=tuple(leaving)),
            )
        )
        if answer is not None:
            _accept(answer)

    async def ping(self) -> None:
        """Wait until the gateway has answered all that was asked before."""
        await self._ask(lambda request_id: Ping(id=request_id))

    async def _ask(
        self,
        request: Callable[[int], StreamRequest],
        answered: Callable[[Answer], None] = lambda answer: None,
    ) -> Answer:
        self._askers += 1
        try:
            while True:
                link = await self._linked()
                answer = await (await self._send(link, request, answered))
                if answer is not None:
                    return answer
                # The connection went away with the question: ask the next one.
                while self._link is link:
                    await self._turned.wait()
        finally:
            self._askers -= 1

    async def _send(
        self,
        link: Link,
        request: Callable[[int], StreamRequest],
        answered: Callable[[Answer], None] = lambda answer: None,
    ) -> "asyncio.Future[Answer | None]":
        answer = await link.ask(request, answered)
        self._inbox.nudge()  # it comes behind what is still unread
        return answer

    async def _linked(self) -> Link:
        while self._link is None:
            self._raise_if_ended()
            await self._turned.wait()
        return self._link

    def _grant(self, channels: list[str], answer: Answer) -> None:
        if isinstance(answer, StreamError):
            self._following.forget(channels)
            return
        assert answer.id is not None
        self._following.granted(channels, answer.id)
        self._granted |= dict.fromkeys(channels)
        self._backoff.reset()

    async def _run(self) -> None:
        while True:
            reason = await self._connect()
            self._inbox.put(Change(kind="lost", data=reason))
            if self._reconnect_within_s is not None:
                await asyncio.sleep(self._rng.uniform(0, self._reconnect_within_s))
            else:
                await asyncio.sleep(self._backoff.next_s())

    async def _connect(self) -> str:
        """Serve one connection to its end; why it ended."""
        self._reconnect_within_s = None
        wanted = Subprotocol(self._codec.subprotocol)
        try:
            token = await self._fresh_token()
            async with connect(
                self._url,
                subprotocols=[wanted],
                compression=None,
                proxy=None,
                open_timeout=OPEN_SECONDS_MAX,
                close_timeout=CLOSE_SECONDS_MAX,
                max_size=MESSAGE_BYTES_MAX,
            ) as socket:
                if socket.subprotocol != wanted:
                    raise StreamRefused("subprotocol", f"the gateway does not speak {wanted}")
                self.counts.connections += 1
                await self._serve(Link(socket, self._codec), token)
        except LinkLost as error:
            return str(error)
        except (OSError, TimeoutError, WebSocketException) as error:
            return reason_of(error)
        raise AssertionError("a connection is read until it ends")

    async def _serve(self, link: Link, token: str | None) -> None:
        beside = []
        try:
            # Sent without waiting for each other's answers: they are answered in order.
            if token is not None:
                beside.append(self._renew_token(link, await self._authenticate(link, token)))
            if self._granted:
                await self._resume(link, list(self._granted))
            self._link = link
            self._turn()
            await together(self._read(link), *beside)
        finally:
            self._link = None
            self._turn()
            link.end()
            ungranted = [name for name in self._following.channels() if name not in self._granted]
            self._following.forget(ungranted)

    async def _read(self, link: Link) -> None:
        while True:
            message = await link.receive()
            if message is not None:
                await self._take(link, message)
                await self._inbox.room()

    async def _take(self, link: Link, message: ServerMessages) -> None:
        change: Change | Hole | None = None
        match message:
            case Pub():
                change = self._following.publication(message, link.plain(message.data))
                self.counts.publications += isinstance(change, Change)
            case Snapshot():
                change = self._following.snapshot(message, link.plain(message.data))
                self.counts.snapshots += isinstance(change, Change)
            case Recovered():
                change = self._following.recovered(message)
                self.counts.recoveries += isinstance(change, Change)
            case Hello():
                self.hello = message
            case Stale():
                change = Change(kind="stale")
            case Fresh():
                change = Change(kind="fresh")
            case Draining():
                self._reconnect_within_s = message.reconnect_within_ms / 1_000
            case _:
                raise AssertionError("the link keeps answers to itself")
        if isinstance(change, Hole):
            self.counts.holes += 1
            await self._resume(link, [change.channel])
        elif change is not None:
            self._inbox.put(change)

    async def _resume(self, link: Link, channels: list[str]) -> None:
        def answered(answer: Answer) -> None:
            if not isinstance(answer, StreamError):
                self._grant([name for name in channels if name in self._granted], answer)
            elif answer.code == WireCode.UNKNOWN_CHANNEL:
                # It was there before: this gateway has not read its views yet.
                raise LinkLost(answer.message)
            else:
                _accept(answer)

        await self._send(
            link, lambda request_id: self._following.ask(channels, request_id), answered
        )

    async def _fresh_token(self) -> str | None:
        if self._token is None:
            return None
        token = self._token()
        return await token if inspect.isawaitable(token) else token

    async def _authenticate(self, link: Link, token: str) -> "asyncio.Future[Answer | None]":
        self.counts.tokens += 1
        return await self._send(
            link, lambda request_id: Authenticate(id=request_id, token=token), _accept
        )

    async def _renew_token(self, link: Link, asked: "asyncio.Future[Answer | None]") -> None:
        """Go on until the connection ends or a token does not expire."""
        while True:
            answer = await asked
            if not isinstance(answer, Ack) or answer.expires_at is None:
                return
            token = None
            while token is None:
                left_s = answer.expires_at - self._now_s()
                renew_s = max(left_s * TOKEN_RENEW_SHARE, TOKEN_RENEW_S_MIN)
                # Our clock may be ahead of the issuer's: then every token looks expired.
                await asyncio.sleep(renew_s if left_s > 0 else TOKEN_RENEW_S_LATE)
                with contextlib.suppress(OSError):  # whoever issues them may be back in time
                    token = await self._fresh_token()
            asked = await self._authenticate(link, token)

    def _turn(self) -> None:
        """Wake all who wait for a connection, or for the end of them."""
        self._turned.set()
        self._turned = asyncio.Event()

    def _ended(self, running: "asyncio.Task[None]") -> None:
        self._inbox.end()
        self._turn()

    def _raise_if_ended(self) -> None:
        running = self._running
        if running is not None and running.done():
            if running.cancelled():
                raise StreamFault("the client is closed")
            running.result()

    def _awaits_answers(self) -> bool:
        return self._askers > 0 or (self._link is not None and self._link.awaits_answers())


def _accept(answer: Answer) -> None:
    if isinstance(answer, StreamError):
        raise StreamRefused(answer.code, answer.message, answer.ch or "")
