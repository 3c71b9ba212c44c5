"""The command port: frames in, commands to the sequencer, answers out, a connection per gateway."""

import asyncio
import contextlib
from typing import cast

import msgspec

from engine.outcomes import Digest, Outcome, Pending
from engine.sequencer import Sequencer
from schemas import frames
from schemas.rejections import Rejection

CLOSE_SECONDS = 0.5
_decode_request = msgspec.json.Decoder(frames.Request).decode
_encode = msgspec.json.Encoder().encode
# msgspec reports bad UTF-8 and bottomless nesting as Python does.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class RequestId(msgspec.Struct):
    """What can still be read of a request whose command cannot."""

    id: int | None = None


_decode_id = msgspec.json.Decoder(RequestId).decode


class CommandConnection(asyncio.Protocol):
    """One gateway's connection. Answers of one commit leave in one write."""

    def __init__(self, sequencer: Sequencer, port: "CommandPort") -> None:
        self._sequencer = sequencer
        self._port = port
        self._received = bytearray()
        self._answers: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._port.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._port.left(self)

    def close(self) -> None:
        """After what has been answered has left."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        start, size = 0, len(self._received)
        while size - start >= frames.LENGTH.size:
            (length,) = frames.LENGTH.unpack_from(self._received, start)
            if length > frames.FRAME_BYTES_MAX:
                self._refuse_frame(
                    None, f"frame of {length} bytes; at most {frames.FRAME_BYTES_MAX}"
                )
                self.close()
                return
            end = start + frames.LENGTH.size + length
            if end > size:
                break
            self._request(bytes(self._received[start + frames.LENGTH.size : end]))
            start = end
        del self._received[:start]

    def pause_writing(self) -> None:
        """A gateway that does not read its answers is not read from either."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def _request(self, body: bytes) -> None:
        try:
            request = _decode_request(body)
        except _UNREADABLE as exc:
            self._refuse_frame(_id_of(body), str(exc))
            return
        self._sequencer.submit(Pending(request, self._answer))

    def _answer(self, request_id: int, outcome: Outcome, is_repeat: bool) -> None:
        reply: msgspec.Struct
        if isinstance(outcome, Rejection):
            reply = frames.Refused(id=request_id, rejection=outcome, is_repeat=is_repeat)
        elif isinstance(outcome, Digest):
            reply = frames.StateDigest(
                id=request_id, position=outcome.position, sha256=outcome.sha256
            )
        else:
            position, payloads = outcome
            reply = frames.AcceptedStored(
                id=request_id,
                last_position=position,
                events=tuple(map(msgspec.Raw, payloads)),
                is_repeat=is_repeat,
            )
        body = _encode(reply)
        if len(body) > frames.FRAME_BYTES_MAX:
            # On disk all the same; the engine must not end because an answer cannot be packed.
            self._refuse_frame(request_id, f"the answer has {len(body)} bytes; read the log")
            return
        self._send(body)

    def _refuse_frame(self, request_id: int | None, message: str) -> None:
        self._send(_encode(frames.Malformed(id=request_id, message=message)))

    def _send(self, body: bytes) -> None:
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._flush)
        self._answers.append(frames.pack_frame(body))

    def _flush(self) -> None:
        answers, self._answers = b"".join(self._answers), []
        if self._transport is not None:
            self._transport.write(answers)


def _id_of(body: bytes) -> int | None:
    try:
        return _decode_id(body).id
    except _UNREADABLE:
        return None


class CommandPort:
    """The listening port with its connections."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer
        self._server: asyncio.Server | None = None
        self._connections: set[CommandConnection] = set()
        self._empty = asyncio.Event()

    @property
    def number(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def open(self, host: str, port: int) -> None:
        """Listen for gateways. Raises OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: CommandConnection(self._sequencer, self), host, port
        )

    async def close(self) -> None:
        """Stop listening and hang up: gateways look for the next leader at once."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.close()
        # One that does not read what it was sent does not keep the others waiting.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()

    def joined(self, connection: CommandConnection) -> None:
        self._connections.add(connection)

    def left(self, connection: CommandConnection) -> None:
        self._connections.discard(connection)
        self._empty.set()


async def serve(sequencer: Sequencer, host: str, port: int) -> CommandPort:
    """Listen for gateways. Raises OSError if the port is taken."""
    commands = CommandPort(sequencer)
    await commands.open(host, port)
    return commands
