"""The load generator's side of WebSocket: what it sends, and what of the answers it looks at.

Frames of a server are taken for well formed: whether they are is the tests' business. Reads our
stream in both encodings, a plain broadcast of the same messages, and Socket.IO around them.
"""

import msgspec

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FINAL, MASKED = 0x80, 0x80
# A mask of zeros leaves the payload as it is, and is as good as any on loopback.
MASK = bytes(4)
SIZE_SHORT_MAX = 125
SIZE_16_BITS, SIZE_64_BITS = 126, 127
NO_CODE = 1005
PUBLICATION = "pub"
CLOSED = "close"
PINGED = "ping"
# Engine.IO 4 and Socket.IO 5, of which a client that only listens needs four packets.
ENGINE_OPENED, ENGINE_PINGED, ENGINE_JOINED = "engine open", "engine ping", "engine joined"
ENGINE_JOIN, ENGINE_PONG = b"40", b"3"
_ENGINE_OPS = {b"0": ENGINE_OPENED, b"2": ENGINE_PINGED}
_ENGINE_EVENT = b"42"


class Seen(msgspec.Struct, frozen=True):
    """One message of a server. at: when it was sent, nanoseconds of the monotonic clock, if told.

    offset: of a publication or snapshot; of a closing connection its code. payload: of a ping.
    """

    op: str = ""
    ch: str = ""
    offset: int = 0
    at: str = ""
    code: str = ""
    message: str = ""
    payload: bytes = b""


_decode_json = msgspec.json.Decoder(Seen).decode
_decode_msgpack = msgspec.msgpack.Decoder(Seen).decode
_decode_event = msgspec.json.Decoder(tuple[str, Seen]).decode


def read_messages(received: bytes) -> tuple[tuple[Seen, ...], bytes]:
    """The whole messages, in their order, and what is left of the next one."""
    found, start, size = [], 0, len(received)
    while size - start >= 2:
        length, begin = received[start + 1], start + 2
        if length == SIZE_16_BITS:
            length, begin = int.from_bytes(received[begin : begin + 2]), begin + 2
        elif length == SIZE_64_BITS:
            length, begin = int.from_bytes(received[begin : begin + 8]), begin + 8
        if begin + length > size:
            break
        found.append(_seen(received[start] & 0x0F, received[begin : begin + length]))
        start = begin + length
    return tuple(found), received[start:]


def _seen(opcode: int, payload: bytes) -> Seen:
    if opcode == BINARY:
        return _decode_msgpack(payload)
    if opcode == TEXT:
        return _decode_json(payload) if payload.startswith(b"{") else _engine_message(payload)
    if opcode == CLOSE:
        return Seen(op=CLOSED, offset=int.from_bytes(payload[:2]) or NO_CODE)
    return Seen(op=PINGED if opcode == PING else "", payload=payload)


def _engine_message(payload: bytes) -> Seen:
    if payload.startswith(_ENGINE_EVENT):
        return _decode_event(payload[2:])[1]
    if payload.startswith(ENGINE_JOIN):
        return Seen(op=ENGINE_JOINED)
    return Seen(op=_ENGINE_OPS.get(payload[:1], ""))


def client_frame(opcode: int, payload: bytes) -> bytes:
    """One whole masked frame of up to 64 KiB."""
    if len(payload) <= SIZE_SHORT_MAX:
        return bytes((FINAL | opcode, MASKED | len(payload))) + MASK + payload
    size = len(payload).to_bytes(2)
    return bytes((FINAL | opcode, MASKED | SIZE_16_BITS)) + size + MASK + payload


def handshake(path: str, port: int, subprotocol: str) -> bytes:
    """The request that opens a connection. subprotocol: "" for none."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    if subprotocol:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    return "\r\n".join([*lines, "", ""]).encode()
