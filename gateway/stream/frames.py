"""RFC 6455 frames of the server's side, without I/O: bytes in, events out, and ready frames.

Knows neither handshake nor closing: after a Close or a Fault it looks at nothing more.
Whatever a peer sends, no more of it is held than one message, one control frame and one header.
"""

from collections.abc import Iterator

import msgspec

CONTINUATION = 0
TEXT = 1
BINARY = 2
CLOSE = 8
PING = 9
PONG = 10

PROTOCOL_ERROR = 1002
NO_STATUS = 1005
NOT_UTF8 = 1007
TOO_BIG = 1009

CONTROL_BYTES_MAX = 125
# Empty fragments cost a peer nothing and us time, and no message of ours needs so many.
FRAGMENTS_MAX = 1_024

_FINAL = 0x80
_RESERVED = 0x70
_OPCODE = 0x0F
_CONTROL = 0x08
_MASKED = 0x80
_SIZE = 0x7F
_KEY_BYTES = 4
# By the size in the second byte: how many more bytes the size has, and what fits into fewer.
_LONGER = {126: (2, 126), 127: (8, 1 << 16)}
_OPCODES = {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}
# The codes that may be on the wire. Source: RFC 6455 section 7.4 and IANA's registry.
_REGISTERED_CODES = {*range(1000, 1004), *range(1007, 1015)}
_CODES_OF_OTHERS = range(3000, 5000)


class Ping(msgspec.Struct, frozen=True):
    payload: bytes


class Pong(msgspec.Struct, frozen=True):
    payload: bytes


class Close(msgspec.Struct, frozen=True):
    """code: NO_STATUS if the peer named none."""

    code: int
    reason: str


class Fault(msgspec.Struct, frozen=True):
    """The peer broke the protocol: what to close with. Always the last event."""

    code: int
    reason: str


# A whole message is its text or its bytes.
Event = str | bytes | Ping | Pong | Close | Fault


class _Broken(Exception):
    def __init__(self, code: int, reason: str) -> None:
        self.fault = Fault(code, reason)


class FrameParser:
    """What one peer sends, however it is cut into pieces."""

    __slots__ = ("_fragments", "_is_over", "_joined", "_message_bytes_max", "_opcode", "_rest")

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._rest = b""
        self._is_over = False
        # Of the message whose first fragments have come; _joined is None between messages.
        self._joined: bytearray | None = None
        self._opcode = CONTINUATION
        self._fragments = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """What is complete by now, in order; nothing follows a Close or a Fault, ever.

        To be read to its end, or the parser to be stopped: a peer that has said too much need not
        have the rest of it parsed.
        """
        if self._is_over:
            return
        if self._rest:
            data = self._rest + data
        position = 0
        try:
            while (found := self._frame_at(data, position)) is not None:
                head, payload, position = found
                event = self._event(head, payload)
                if event is None:
                    continue
                if head & _OPCODE == CLOSE:
                    self.stop()
                yield event
                if self._is_over:
                    return
        except _Broken as broken:
            self.stop()
            yield broken.fault
            return
        self._rest = data[position:]

    def held(self) -> int:
        """Bytes that wait for more of their frame or message."""
        return len(self._rest) + len(self._joined or b"")

    def stop(self) -> None:
        """Look at nothing more."""
        self._is_over = True
        self._rest, self._joined = b"", None

    def _frame_at(self, data: bytes, position: int) -> tuple[int, bytes, int] | None:
        # Judged as soon as it can be seen: a frame that will be refused is never held.
        available = len(data) - position
        if available < 2:
            return None
        head, second = data[position], data[position + 1]
        self._check_head(head, second)
        start, size = position + 2, second & _SIZE
        if size > CONTROL_BYTES_MAX:
            width, smallest = _LONGER[size]
            if available < 2 + width:
                return None
            size = int.from_bytes(data[start : start + width])
            start += width
            if size < smallest:
                raise _Broken(PROTOCOL_ERROR, "size is not minimal")
        if not head & _CONTROL and size + len(self._joined or b"") > self._message_bytes_max:
            raise _Broken(TOO_BIG, f"message over {self._message_bytes_max} bytes")
        first = start + _KEY_BYTES
        end = first + size
        if end > len(data):
            return None
        return head, _unmasked(data[first:end], data[start:first]), end

    def _check_head(self, head: int, second: int) -> None:
        opcode = head & _OPCODE
        if head & _RESERVED:
            raise _Broken(PROTOCOL_ERROR, "reserved bits are set")
        if opcode not in _OPCODES:
            raise _Broken(PROTOCOL_ERROR, f"unknown opcode {opcode}")
        if not second & _MASKED:
            raise _Broken(PROTOCOL_ERROR, "frame is not masked")
        if opcode & _CONTROL:
            if not head & _FINAL:
                raise _Broken(PROTOCOL_ERROR, "control frame is fragmented")
            if second & _SIZE > CONTROL_BYTES_MAX:
                raise _Broken(PROTOCOL_ERROR, f"control frame over {CONTROL_BYTES_MAX} bytes")
        elif (opcode == CONTINUATION) == (self._joined is None):
            expected = "no message to continue" if self._joined is None else "message is not over"
            raise _Broken(PROTOCOL_ERROR, expected)

    def _event(self, head: int, payload: bytes) -> Event | None:
        opcode = head & _OPCODE
        if opcode == PING:
            return Ping(payload)
        if opcode == PONG:
            return Pong(payload)
        if opcode == CLOSE:
            return _close(payload)
        if head & _FINAL and self._joined is None:
            return _message(opcode, payload)
        return self._joined_by(opcode, payload, is_last=bool(head & _FINAL))

    def _joined_by(self, opcode: int, payload: bytes, *, is_last: bool) -> str | bytes | None:
        if self._joined is None:
            self._joined, self._opcode, self._fragments = bytearray(), opcode, 0
        self._joined += payload
        self._fragments += 1
        if is_last:
            whole, self._joined = bytes(self._joined), None
            return _message(self._opcode, whole)
        if self._fragments >= FRAGMENTS_MAX:
            raise _Broken(TOO_BIG, f"message of over {FRAGMENTS_MAX} fragments")
        return None


def frame(opcode: int, payload: bytes) -> bytes:
    """One whole unmasked frame."""
    size = len(payload)
    if size <= CONTROL_BYTES_MAX:
        return bytes((_FINAL | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((_FINAL | opcode, 126)) + size.to_bytes(2) + payload
    return bytes((_FINAL | opcode, 127)) + size.to_bytes(8) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """code: NO_STATUS for none. reason: at most 123 bytes of UTF-8."""
    if code == NO_STATUS:
        return frame(CLOSE, b"")
    payload = code.to_bytes(2) + reason.encode()
    assert len(payload) <= CONTROL_BYTES_MAX, reason
    return frame(CLOSE, payload)


def _unmasked(masked: bytes, key: bytes) -> bytes:
    # One XOR of two large numbers is many times faster than one for each byte.
    size = len(masked)
    mask = int.from_bytes((key * (size // _KEY_BYTES + 1))[:size], "little")
    return (int.from_bytes(masked, "little") ^ mask).to_bytes(size, "little")


def _message(opcode: int, payload: bytes) -> str | bytes:
    return _text(payload) if opcode == TEXT else payload


def _close(payload: bytes) -> Close:
    if not payload:
        return Close(NO_STATUS, "")
    code = int.from_bytes(payload[:2])
    if len(payload) == 1 or not (code in _REGISTERED_CODES or code in _CODES_OF_OTHERS):
        raise _Broken(PROTOCOL_ERROR, "close code is not valid")
    return Close(code, _text(payload[2:]))


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as exc:
        raise _Broken(NOT_UTF8, "text is not UTF-8") from exc
