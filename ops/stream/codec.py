"""The two encodings of the stream as its client sees them: requests out, messages in.

The data of a message is decoded into plain objects, so that both encodings give the same.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from ops.stream.errors import StreamBroken
from schemas.wire import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, ServerMessages, StreamRequest

Encoding = Literal["json", "msgpack"]


class Codec(NamedTuple):
    """decode raises msgspec.DecodeError. plain: what a message's raw data says."""

    subprotocol: str
    encode: Callable[[StreamRequest], str | bytes]
    decode: Callable[[bytes], ServerMessages]
    plain: Callable[[bytes | msgspec.Raw], Any]


class _Head(msgspec.Struct):
    op: str


def _json(request: StreamRequest) -> str:
    return msgspec.json.encode(request).decode()


CODECS: dict[Encoding, Codec] = {
    "json": Codec(
        subprotocol=SUBPROTOCOL_JSON,
        encode=_json,
        decode=msgspec.json.Decoder(ServerMessages).decode,
        plain=msgspec.json.Decoder().decode,
    ),
    "msgpack": Codec(
        subprotocol=SUBPROTOCOL_MSGPACK,
        encode=msgspec.msgpack.Encoder().encode,
        decode=msgspec.msgpack.Decoder(ServerMessages).decode,
        plain=msgspec.msgpack.Decoder().decode,
    ),
}
KNOWN_OPS = frozenset(kind.__struct_config__.tag for kind in ServerMessages.__args__)


def decoded(codec: Codec, message: bytes) -> ServerMessages | None:
    """None for a kind of message that a newer gateway knows and we do not.

    Raises StreamBroken for one that cannot be read.
    """
    try:
        return codec.decode(message)
    except msgspec.DecodeError as error:
        if _is_unknown(codec, message):
            return None
        raise StreamBroken("", f"a message that cannot be read: {error}") from error


def _is_unknown(codec: Codec, message: bytes) -> bool:
    try:
        return msgspec.convert(codec.plain(message), _Head).op not in KNOWN_OPS
    except msgspec.DecodeError:
        return False
