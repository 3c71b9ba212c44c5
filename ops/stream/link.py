"""One connection of a client: requests out, each with what is to happen when its answer comes.

Also says what the end of a connection means: come back, or stay away for good.
"""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI

from ops.stream.codec import Codec, decoded
from ops.stream.errors import StreamBroken, StreamRefused
from schemas.wire import Ack, Pong, ServerMessages, StreamError, StreamRequest

ANSWER_SECONDS_MAX = 10.0
NO_RECONNECT = range(4_500, 5_000)
# What a gateway's protocol layer says to a client that misbehaves; it would do so again.
NO_RECONNECT_CODES = frozenset({1003, 1007, 1008, 1009, 1010})
# What our own protocol layer sends when the gateway's bytes are not WebSocket.
PROTOCOL_ERRORS = frozenset({1002, 1007, 1009})
STATUSES_TO_RETRY = frozenset({408, 425, 429})

Answer = Ack | Pong | StreamError
Answered = Callable[[Answer], None]


class LinkLost(Exception):
    """The connection is of no use any more; str(error) says why. Another one may be."""


class _Asked(msgspec.Struct):
    answer: "asyncio.Future[Answer | None]"
    answered: Answered
    late: asyncio.TimerHandle


class Link:
    def __init__(self, socket: ClientConnection, codec: Codec) -> None:
        self._socket = socket
        self._codec = codec
        self._ids = itertools.count(1)
        self._asked: dict[int, _Asked] = {}

    def awaits_answers(self) -> bool:
        return bool(self._asked)

    async def ask(
        self, request: Callable[[int], StreamRequest], answered: Answered = lambda answer: None
    ) -> "asyncio.Future[Answer | None]":
        """Send the request made for an id; the answer, or None if the connection ends before it.

        answered: is called with it before any later message is read.
        """
        loop, request_id = asyncio.get_running_loop(), next(self._ids)
        late = loop.call_later(ANSWER_SECONDS_MAX, self.abort)
        answer: asyncio.Future[Answer | None] = loop.create_future()
        self._asked[request_id] = _Asked(answer, answered, late)
        message = request(request_id)
        try:
            await self._socket.send(self._codec.encode(message))
        except ConnectionClosed:
            self.end()
        return answer

    async def receive(self) -> ServerMessages | None:
        """The next message that is no answer; None for an answer, or one that we do not know.

        Raises ConnectionClosed, StreamBroken, and what `answered` raises.
        """
        message = decoded(self._codec, await self._socket.recv(decode=False))
        if not isinstance(message, Ack | Pong | StreamError):
            return message
        asked = self._asked.pop(message.id, None) if message.id is not None else None
        if asked is None:
            if isinstance(message, StreamError):
                raise StreamBroken(message.ch or "", f"{message.code}: {message.message}")
            return None
        asked.late.cancel()
        # First what follows from it: whoever awaits the answer runs later, and may rely on that.
        try:
            asked.answered(message)
        finally:
            _settle(asked.answer, message)
        return None

    def plain(self, raw: msgspec.Raw) -> Any:
        return self._codec.plain(raw)

    def end(self) -> None:
        """No more answers: whoever waits for one is told."""
        for asked in self._asked.values():
            asked.late.cancel()
            _settle(asked.answer, None)
        self._asked.clear()

    def abort(self) -> None:
        """Drop the connection without a word."""
        self._socket.transport.abort()


def _settle(answer: "asyncio.Future[Answer | None]", message: Answer | None) -> None:
    if not answer.done():  # whoever waited may have been cancelled
        answer.set_result(message)


async def together(main: Coroutine[Any, Any, None], *beside: Coroutine[Any, Any, None]) -> None:
    """Run main to its end, or until one beside it raises; what was raised is raised."""
    tasks = [asyncio.create_task(part) for part in (main, *beside)]
    try:
        pending = set(tasks)
        while not tasks[0].done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=tasks.index):
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def reason_of(error: Exception) -> str:
    """Why the connection was lost or not made. Raises StreamFault if another try is no use."""
    match error:
        case ConnectionClosed():
            return _reason_of_close(error)
        case InvalidStatus(response=response):
            status = response.status_code
            if status >= 500 or status in STATUSES_TO_RETRY:
                return f"HTTP status {status}"
            raise StreamRefused(str(status), f"HTTP status {status}") from error
        case InvalidURI():
            raise StreamRefused("invalid_url", str(error)) from error
        case TimeoutError():
            return "no answer"
        case OSError():
            return "no connection"
        case _:
            return str(error) or type(error).__name__


def _reason_of_close(closed: ConnectionClosed) -> str:
    if closed.rcvd is None:
        if closed.sent is not None and closed.sent.code in PROTOCOL_ERRORS:
            raise StreamBroken("", str(closed)) from closed
        return "connection lost"
    code, reason = closed.rcvd.code, closed.rcvd.reason
    if code in NO_RECONNECT or code in NO_RECONNECT_CODES:
        raise StreamRefused(str(code), reason or f"close code {code}") from closed
    return reason or f"close code {code}"
