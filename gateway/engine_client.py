"""The way to the engine: one TCP connection of schemas.frames, many commands in flight.

A command is written at most once. If the connection breaks before its answer, the caller learns
that the outcome is unknown; sending it again is the client's decision, under the same key.
"""

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import AsyncIterator

import msgspec

from gateway.errors import EngineMisread, EngineUnavailable
from schemas.commands import LedgerCommand
from schemas.frames import (
    FRAME_BYTES_MAX,
    LENGTH,
    Accepted,
    AdvanceClock,
    Malformed,
    Refused,
    Reply,
    Request,
    pack_frame,
)

logger = logging.getLogger(__name__)

OUTSTANDING_MAX = 4_096
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Reply).decode


class EngineTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. connected_max: a command waits so long for a connection. answer_max: for its answer.

    retry_first to retry_last: pauses between attempts to connect, doubling, each halved at random.
    """

    connected_max: float = 2.0
    answer_max: float = 10.0
    connect_max: float = 2.0
    retry_first: float = 0.05
    retry_last: float = 2.0


class EngineClient:
    """CommandPort over TCP. Use `async with client.running():` around everything that submits."""

    def __init__(self, *, host: str, port: int, times: EngineTimes | None = None) -> None:
        self._host = host
        self._port = port
        self._times = times or EngineTimes()
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._outstanding: dict[int, asyncio.Future[Accepted | Refused]] = {}
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

    async def submit(self, command: LedgerCommand | AdvanceClock) -> Accepted | Refused:
        if len(self._outstanding) >= OUTSTANDING_MAX:
            raise EngineUnavailable("not_sent")
        writer = await self._await_connection()
        request_id = next(self._ids)
        answer: asyncio.Future[Accepted | Refused] = asyncio.get_running_loop().create_future()
        self._outstanding[request_id] = answer
        try:
            writer.write(pack_frame(_encode(Request(id=request_id, command=command))))
            async with asyncio.timeout(self._times.answer_max):
                return await answer
        except TimeoutError as exc:
            raise EngineUnavailable("unknown") from exc
        finally:
            self._outstanding.pop(request_id, None)

    async def _await_connection(self) -> asyncio.StreamWriter:
        if self._writer is None:
            try:
                async with asyncio.timeout(self._times.connected_max):
                    await self._connected.wait()
            except TimeoutError as exc:
                raise EngineUnavailable("not_sent") from exc
        if self._writer is None:  # lost again before this task had its turn
            raise EngineUnavailable("not_sent")
        return self._writer

    async def _keep_connected(self) -> None:
        pause = self._times.retry_first
        while True:
            try:
                async with asyncio.timeout(self._times.connect_max):
                    reader, writer = await asyncio.open_connection(self._host, self._port)
            except (OSError, TimeoutError) as exc:
                logger.debug("engine not reachable: %s", exc)
            else:
                pause = self._times.retry_first
                await self._serve(reader, writer)
            # Jitter: gateways that lost the same engine must not return in step.
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, self._times.retry_last)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        logger.info("connected to the engine")
        self._writer = writer
        self._connected.set()
        try:
            while True:
                self._settle(await _read_frame(reader))
        except (OSError, asyncio.IncompleteReadError) as exc:
            logger.warning("engine connection lost: %s", exc)
        except EngineMisread:
            logger.exception("engine connection dropped")
        finally:
            self._writer = None
            self._connected.clear()
            writer.close()
            for answer in self._outstanding.values():
                if not answer.done():
                    answer.set_exception(EngineUnavailable("unknown"))

    def _settle(self, frame: bytes) -> None:
        try:
            reply = _decode(frame)
        except msgspec.MsgspecError as exc:
            raise EngineMisread(str(exc)) from exc
        if isinstance(reply, Malformed):
            # It understood the connection but not the request: only that request failed.
            answer = self._outstanding.get(reply.id) if reply.id is not None else None
            if answer is None:
                raise EngineMisread(reply.message)
            if not answer.done():
                answer.set_exception(EngineMisread(reply.message))
            return
        answer = self._outstanding.get(reply.id)
        # Absent or done: the asker gave up waiting.
        if answer is not None and not answer.done():
            answer.set_result(reply)


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > FRAME_BYTES_MAX:
        raise EngineMisread(f"frame of {length} bytes; at most {FRAME_BYTES_MAX}")
    return await reader.readexactly(length)
