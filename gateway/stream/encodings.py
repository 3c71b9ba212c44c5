"""The stream's two encodings: what a subprotocol's messages look like as bytes, in both directions.

Every message exists in both, with the same fields. Publications arrive from the views as JSON;
a message that contains one is transcoded once for all who want MessagePack.
"""

import contextlib
import enum
from collections.abc import Iterator

import msgspec

from gateway.stream import frames
from schemas.wire import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, ServerMessage, StreamRequest


class Encoding(enum.IntEnum):
    """Counts from 0, so that a tuple of ready frames can be indexed by it."""

    JSON = 0
    MSGPACK = 1


class Head(msgspec.Struct, frozen=True):
    """What can still be told of a message that is not one of ours."""

    id: int | None = None
    op: str | None = None


ENCODINGS = tuple(Encoding)
SUBPROTOCOLS = {SUBPROTOCOL_JSON: Encoding.JSON, SUBPROTOCOL_MSGPACK: Encoding.MSGPACK}

_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode
_json_request: msgspec.json.Decoder[StreamRequest] = msgspec.json.Decoder(StreamRequest)
_msgpack_request: msgspec.msgpack.Decoder[StreamRequest] = msgspec.msgpack.Decoder(StreamRequest)
_json_head = msgspec.json.Decoder(Head)
_msgpack_head = msgspec.msgpack.Decoder(Head)
_plain = msgspec.json.Decoder().decode


def encoded(message: ServerMessage, encoding: Encoding) -> bytes:
    """One WebSocket frame. Raw fields of the message must be in the same encoding: raw()."""
    if encoding is Encoding.JSON:
        return frames.frame(frames.TEXT, _encode_json(message))
    return frames.frame(frames.BINARY, _encode_msgpack(message))


def raw(content: bytes, encoding: Encoding) -> msgspec.Raw:
    """JSON as the data of a message in this encoding."""
    if encoding is Encoding.JSON:
        return msgspec.Raw(content)
    return msgspec.Raw(_encode_msgpack(_plain(content)))


def decode_request(message: str | bytes, encoding: Encoding) -> StreamRequest:
    """Raises msgspec.DecodeError, and UnicodeDecodeError for JSON that is not UTF-8."""
    with _bounded_depth():
        if encoding is Encoding.JSON:
            return _json_request.decode(message)
        return _msgpack_request.decode(_as_bytes(message))


def decode_head(message: str | bytes, encoding: Encoding) -> Head:
    """Raises as decode_request does."""
    with _bounded_depth():
        if encoding is Encoding.JSON:
            return _json_head.decode(message)
        return _msgpack_head.decode(_as_bytes(message))


@contextlib.contextmanager
def _bounded_depth() -> Iterator[None]:
    try:
        yield
    except RecursionError as exc:
        raise msgspec.DecodeError("nested too deeply") from exc


def _as_bytes(message: str | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.encode()
