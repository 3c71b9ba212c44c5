"""The way to the engine: one TCP connection of schemas.frames to whoever leads, many in flight.

A keyed command that lost its connection is sent again under the same key until its time is over:
the engine answers a repeat with the first answer. One without a key is written at most once. A
connection that says nothing while answers are due is given up when another engine leads by now (a
paused leader keeps its sockets open), or in the end without a reason.
"""

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from gateway.errors import EngineMisread, EngineUnavailable, LeaderUnknown
from schemas.commands import LedgerCommand
from schemas.frames import (
    FRAME_BYTES_MAX,
    LENGTH,
    Accepted,
    AdvanceClock,
    DigestState,
    Malformed,
    Refused,
    Reply,
    Request,
    StateDigest,
    pack_frame,
)

logger = logging.getLogger(__name__)

OUTSTANDING_MAX = 4_096
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Reply).decode

Address = tuple[str, int]
Locate = Callable[[], Awaitable[Address]]
"""Host and port of the leading engine now. Raises LeaderUnknown."""
Answer = Accepted | Refused | StateDigest


class EngineTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. connected_max: a command waits so long for a connection. answer_max: for its answer.

    retry_first to retry_last: pauses between attempts to connect, doubling, each halved at random.
    silence_max: answers are due and none came, so ask who leads; silence_last: give up anyway.
    """

    connected_max: float = 5.0
    answer_max: float = 10.0
    connect_max: float = 1.0
    retry_first: float = 0.02
    retry_last: float = 0.25
    silence_max: float = 1.0
    silence_last: float = 5.0


class _Outstanding:
    """A command that was written to the engine at least once."""

    __slots__ = ("answer", "frame", "is_keyed", "sent_at")

    def __init__(
        self, frame: bytes, answer: "asyncio.Future[Answer]", *, is_keyed: bool, sent_at: float
    ) -> None:
        self.frame = frame
        self.answer = answer
        self.is_keyed = is_keyed
        self.sent_at = sent_at


def fixed_address(host: str, port: int) -> Locate:
    """For an engine that never moves: tests, and stacks with one engine."""

    async def locate() -> Address:
        return host, port

    return locate


class EngineClient:
    """CommandPort over TCP. Use `async with client.running():` around everything that submits."""

    def __init__(self, *, locate: Locate, times: EngineTimes | None = None) -> None:
        """locate: asked before each attempt to connect, and when a connection falls silent."""
        self._locate = locate
        self._times = times or EngineTimes()
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._outstanding: dict[int, _Outstanding] = {}
        self._waiting = 0
        self._heard_at = 0.0
        self._ids = itertools.count(1)

    def is_connected(self) -> bool:
        return self._writer is not None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps a connection open inside the block."""
        keeper = asyncio.create_task(self._keep_connected(), name="engine connection")
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def submit(
        self, command: LedgerCommand | AdvanceClock, *, key: str = "", trace: str = ""
    ) -> Accepted | Refused:
        """Have a command decided. key: idempotency key, 1 to 128 characters, "" for none.

        Raises EngineUnavailable; with a key its outcome "unknown" still allows the same again.
        """
        reply = await self._ask(Request(id=next(self._ids), command=command, key=key, trace=trace))
        if isinstance(reply, StateDigest):
            raise EngineMisread("a digest answers a command")
        return reply

    async def digest(self) -> StateDigest:
        """The engine's digest of its whole state; it stands still for that, so for operators."""
        reply = await self._ask(Request(id=next(self._ids), command=DigestState()))
        if not isinstance(reply, StateDigest):
            raise EngineMisread("no digest came")
        return reply

    async def _ask(self, request: Request) -> Answer:
        if len(self._outstanding) + self._waiting >= OUTSTANDING_MAX:
            raise EngineUnavailable("not_sent")
        frame = pack_frame(_encode(request))
        writer = self._writer or await self._await_connection()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._outstanding[request.id] = _Outstanding(
            frame, answer, is_keyed=request.key != "", sent_at=loop.time()
        )
        try:
            if not writer.transport.is_closing():
                writer.write(frame)
            elif not request.key:
                # Lost just now, and the reader has not noticed; a keyed one goes out with the next.
                raise EngineUnavailable("not_sent")
            async with asyncio.timeout(self._times.answer_max):
                return await answer
        except TimeoutError as exc:
            raise EngineUnavailable("unknown") from exc
        finally:
            self._outstanding.pop(request.id, None)

    async def _await_connection(self) -> asyncio.StreamWriter:
        self._waiting += 1
        try:
            async with asyncio.timeout(self._times.connected_max):
                while self._writer is None:  # it may be lost again before this task has its turn
                    await self._connected.wait()
                return self._writer
        except TimeoutError as exc:
            raise EngineUnavailable("not_sent") from exc
        finally:
            self._waiting -= 1

    async def _keep_connected(self) -> None:
        loop, pause = asyncio.get_running_loop(), self._times.retry_first
        while True:
            try:
                async with asyncio.timeout(self._times.connect_max):
                    address = await self._locate()
                    reader, writer = await asyncio.open_connection(*address)
            except (OSError, TimeoutError, LeaderUnknown) as exc:
                logger.debug("engine not reachable: %s", exc)
            else:
                began = loop.time()
                await self._serve(address, reader, writer)
                if loop.time() - began > self._times.retry_last:
                    pause = self._times.retry_first
            # Jitter: gateways that lost the same engine must not return in step.
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, self._times.retry_last)

    async def _serve(
        self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        logger.info("connected to the engine at %s:%d", *address)
        again = [
            waiting.frame for waiting in self._outstanding.values() if not waiting.answer.done()
        ]
        if again:
            logger.info("%d commands are sent again under their keys", len(again))
            writer.writelines(again)
        self._writer = writer
        self._connected.set()
        watch = asyncio.create_task(self._watch(address, writer), name="engine silence")
        was_misread = False
        try:
            while True:
                self._settle(await _read_frame(reader))
                self._heard_at = asyncio.get_running_loop().time()
        except asyncio.IncompleteReadError:
            logger.warning("engine connection lost: closed")
        except OSError as exc:
            logger.warning("engine connection lost: %s", exc)
        except EngineMisread:
            # What confused one of us would do so again: nothing is sent a second time.
            was_misread = True
            logger.exception("engine connection dropped")
        finally:
            watch.cancel()
            self._writer = None
            self._connected.clear()
            # Not close(): what is buffered for a silent peer would keep the socket for ever.
            writer.transport.abort()
            for waiting in self._outstanding.values():
                if (was_misread or not waiting.is_keyed) and not waiting.answer.done():
                    waiting.answer.set_exception(EngineUnavailable("unknown"))

    async def _watch(self, address: Address, writer: asyncio.StreamWriter) -> None:
        """Ends a connection that is silent although answers are due."""
        loop, times = asyncio.get_running_loop(), self._times
        began = loop.time()
        while True:
            await asyncio.sleep(times.silence_max / 4)
            # The one written first comes first, and each leaves with its answer.
            oldest = next(iter(self._outstanding.values()), None)
            if oldest is None:
                continue
            silent_s = loop.time() - max(oldest.sent_at, self._heard_at, began)
            if silent_s < times.silence_max:
                continue
            if silent_s >= times.silence_last or await self._has_moved(address):
                logger.warning("engine at %s:%d is silent, %.1f s", *address, silent_s)
                writer.transport.abort()
                return

    async def _has_moved(self, address: Address) -> bool:
        try:
            async with asyncio.timeout(self._times.connect_max):
                return await self._locate() != address
        except (OSError, TimeoutError, LeaderUnknown):
            return False

    def _settle(self, frame: bytes) -> None:
        try:
            reply = _decode(frame)
        except msgspec.MsgspecError as exc:
            raise EngineMisread(str(exc)) from exc
        waiting = self._outstanding.get(reply.id) if reply.id is not None else None
        if isinstance(reply, Malformed):
            # It understood the connection but not the request: only that request failed.
            if waiting is None:
                raise EngineMisread(reply.message)
            if not waiting.answer.done():
                waiting.answer.set_exception(EngineMisread(reply.message))
            return
        # Absent or done: the asker gave up waiting.
        if waiting is not None and not waiting.answer.done():
            waiting.answer.set_result(reply)


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > FRAME_BYTES_MAX:
        raise EngineMisread(f"frame of {length} bytes; at most {FRAME_BYTES_MAX}")
    return await reader.readexactly(length)
