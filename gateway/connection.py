"""One WebSocket: joins the sans-IO session to the socket, the outbox and the hub.

A reader task feeds the session, a writer task empties the outbox; whoever has a reason to close
sets it once, and the connection ends in bounded time whether or not the client still reads.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, assert_never

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.close_codes import CloseCode
from gateway.hub import Hub
from gateway.outbox import Outbox
from gateway.session import AskMarkets, Close, Effect, Join, Leave, Reply, Session

CLOSE_SECONDS_MAX = 5.0

_encode = msgspec.json.Encoder().encode


class Connection:
    """A Subscriber of the hub."""

    def __init__(
        self,
        *,
        websocket: WebSocket,
        session: Session,
        hub: Hub,
        outbox: Outbox,
        look_for_markets: Callable[[], Awaitable[None]],
    ) -> None:
        """look_for_markets: has the session's markets read again; not too often."""
        self._look_for_markets = look_for_markets
        self._websocket = websocket
        self._session = session
        self._hub = hub
        self._outbox = outbox
        self._closing: asyncio.Future[CloseCode] = asyncio.get_running_loop().create_future()

    def push(self, frame: str, replace_key: str | None = None) -> None:
        if not self._outbox.push(frame, replace_key):
            self.close(CloseCode.SLOW_CONSUMER)

    def room(self) -> int:
        return self._outbox.room()

    def close(self, code: CloseCode) -> None:
        """Begin to end the connection; the first code given is the one sent."""
        if not self._closing.done():
            self._closing.set_result(code)

    def expire(self, now_second: int) -> None:
        self._carry_out(self._session.expire(now_second))

    async def run(self) -> None:
        """Serve an accepted socket until either side ends it."""
        tasks: list[asyncio.Task[None]] = [
            asyncio.create_task(self._read()),
            asyncio.create_task(self._write()),
        ]
        ends: list[asyncio.Future[Any]] = [*tasks, self._closing]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for channel in self._session.channels():
                self._hub.leave(self, channel.key)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        if self._closing.done():
            await self._say_goodbye(self._closing.result())
        for outcome in ended:
            if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
                raise outcome

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message: dict[str, Any] = dict(await self._websocket.receive())
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            received: str | bytes = message["bytes"] if text is None else text
            effects = self._session.receive(received, int(loop.time() * 1e9))
            if effects and isinstance(effects[0], AskMarkets):  # then it is the only one
                await self._look_for_markets()
                effects = self._session.subscribe_again(effects[0].request)
            self._carry_out(effects)

    async def _write(self) -> None:
        while True:
            for frame in await self._outbox.take():
                await self._websocket.send_text(frame)

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply():
                    self.push(_encode(effect.message).decode())
                case Join():
                    self._outbox.forget(effect.channel.key)
                    self._hub.join(self, effect.channel, effect.since)
                case Leave():
                    self._hub.leave(self, effect.channel.key)
                    self._outbox.forget(effect.channel.key)
                case Close():
                    self.close(effect.code)
                case AskMarkets():
                    raise AssertionError("answered by _read alone")
                case _:
                    assert_never(effect)

    async def _say_goodbye(self, code: CloseCode) -> None:
        # A client that reads nothing does not get this either; the server aborts it afterwards.
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await self._websocket.close(code, code.reason)
