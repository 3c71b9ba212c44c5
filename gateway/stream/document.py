"""The stream as an AsyncAPI 3.0 document, generated from the structs that the wire is made of.

What belongs to no struct (how channels differ, why connections end) is written down once, here and
in gateway.stream.document_channels.
Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from typing import Any, Final

import msgspec

from gateway.stream.close_codes import RECONNECT_BELOW, CloseCode
from gateway.stream.document_channels import CHANNELS, PLACEHOLDERS, ChannelShape
from gateway.stream.document_messages import (
    ENCODINGS,
    Node,
    message_name,
    messages,
    payload_schemas,
)
from schemas.views import INTERVAL_SECONDS
from schemas.wire import (
    STREAM_VERSION,
    SUBPROTOCOL_JSON,
    SUBPROTOCOL_MSGPACK,
    ServerMessages,
    StreamRequest,
)

STREAM_PATH: Final = "/v1/stream"
CLOSING: Final[dict[CloseCode, str]] = {
    CloseCode.GOING_AWAY: "this gateway is being restarted",
    CloseCode.SLOW_CONSUMER: "you read too slowly; resume by `since`",
    CloseCode.TOKEN_EXPIRED: "come back with a new token",
    CloseCode.NO_PONG: "no sign of life within `limits.pong_seconds` of a ping",
    CloseCode.TOO_MANY_MESSAGES: "more than `limits.messages_per_second` of the hello",
}
PROTOCOL_CLOSING: Final = {
    1002: "a frame that RFC 6455 does not allow",
    1007: "a text message that is not UTF-8",
    1009: "a message above `limits.message_bytes` of the hello",
}
_ANSWERED_BY: Final = {
    "auth": ("ack", "error"),
    "subscribe": ("ack", "error"),
    "unsubscribe": ("ack", "error"),
    "ping": ("pong",),
}


def document() -> Node:
    """The whole AsyncAPI document, ready to be encoded as JSON."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Durian stream",
            "version": f"{STREAM_VERSION}.0.0",
            "description": _description(),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {
            **{name: _connection(name) for name in ENCODINGS},
            **{name: _subscription(name, shape) for name, shape in CHANNELS.items()},
        },
        "operations": _operations(),
        "components": {
            "messages": messages(),
            "schemas": payload_schemas(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "In the handshake's Authorization header, or in an auth message."
                    " Only private channels need it.",
                }
            },
        },
    }


def encoded_document() -> bytes:
    return msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n"


def _description() -> str:
    rows = [
        f"| {int(code)} | `{code.reason}`: {CLOSING[code]} |"
        f" {'yes' if code.should_reconnect else 'no'} |"
        for code in CloseCode
    ] + [f"| {code} | {words} | no |" for code, words in PROTOCOL_CLOSING.items()]
    return "\n".join(
        [
            "Everything that changes, over one WebSocket. Messages are objects with `op`, the same"
            f" in both encodings: `{SUBPROTOCOL_JSON}` (also without a subprotocol) and"
            f" `{SUBPROTOCOL_MSGPACK}`. Ignore fields, and `op`s, that you do not know.",
            "",
            "Amounts are decimal strings in whole units, times Unix milliseconds; integers that can"
            " pass 2^53 are decimal strings.",
            "",
            "| close code | meaning | reconnect |",
            "|--:|---|---|",
            *rows,
            "",
            f"4000 to {RECONNECT_BELOW - 1} mean reconnect, {RECONNECT_BELOW} to 4999 do not; a cut"
            " without a code (1006) is like 4000.",
        ]
    )


def _servers() -> Node:
    return {
        "local": {
            "host": "127.0.0.1:3025",
            "protocol": "ws",
            "description": "A stack of `durian up` or `make run` on this machine.",
        },
        "public": {
            "host": "{host}",
            "protocol": "wss",
            "description": "Behind a proxy that ends TLS.",
            "variables": {"host": {"description": "Where it is.", "default": "localhost"}},
        },
    }


def _connection(name: str) -> Node:
    subprotocol, _, frames = ENCODINGS[name]
    return {
        "address": STREAM_PATH,
        "title": f"The connection, {subprotocol}",
        "description": f"Carries all messages, in {frames}. Hello is always the first.",
        "bindings": {"ws": {"method": "GET", "headers": _headers(subprotocol)}},
        "messages": {
            op: {"$ref": f"#/components/messages/{message_name(op, name)}"}
            for op in (*_tags(StreamRequest), *_tags(ServerMessages))
        },
    }


def _headers(subprotocol: str) -> Node:
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {
            "Sec-WebSocket-Protocol": {"const": subprotocol},
            "Authorization": {**text, "description": "Bearer and a token; optional."},
            "Origin": {**text, "description": "What browsers send; it must be an allowed one."},
        },
    }


def _subscription(name: str, shape: ChannelShape) -> Node:
    parameters: Node = {
        placeholder: {"description": words}
        for placeholder, words in PLACEHOLDERS.items()
        if f"{{{placeholder}}}" in shape.address
    }
    if "interval" in parameters:
        parameters["interval"]["enum"] = list(INTERVAL_SECONDS)
    needs = " Needs a token." if shape.is_private else ""
    return {
        "address": shape.address,
        "title": f"Subscription {shape.address}",
        "description": f"{shape.words}{needs} Offsets: {shape.offsets}. A `ch` of subscribe, inside"
        f" the connection {STREAM_PATH}.",
        **({"parameters": parameters} if parameters else {}),
        "messages": {
            op: {"$ref": f"#/components/messages/{name}{op.capitalize()}"}
            for op in ("snapshot", "pub")
        },
    }


def _operations() -> Node:
    """As the gateway sees it: it receives requests and sends all else."""
    found: Node = {}
    for op, answers in _ANSWERED_BY.items():
        found[op] = {
            "action": "receive",
            "channel": _to_channel("stream"),
            "messages": [_to_message("stream", op)],
            "reply": {
                "channel": _to_channel("stream"),
                "messages": [_to_message("stream", answer) for answer in answers],
            },
        }
    found["greet"] = _sending("stream", "hello")
    found["follow"] = _sending("stream", "snapshot", "recovered", "pub")
    found["tell"] = _sending("stream", "stale", "fresh", "draining")
    for op in _tags(StreamRequest):
        found[f"{op}Msgpack"] = {
            "action": "receive",
            "channel": _to_channel("streamMsgpack"),
            "messages": [_to_message("streamMsgpack", op)],
        }
    found["sendMsgpack"] = _sending("streamMsgpack", *_tags(ServerMessages))
    for name, shape in CHANNELS.items():
        found[f"publish{name.capitalize()}"] = {
            **_sending(name, "snapshot", "pub"),
            **(
                {"security": [{"$ref": "#/components/securitySchemes/bearer"}]}
                if shape.is_private
                else {}
            ),
        }
    return found


def _sending(channel: str, *ops: str) -> Node:
    return {
        "action": "send",
        "channel": _to_channel(channel),
        "messages": [_to_message(channel, op) for op in ops],
    }


def _to_channel(name: str) -> Node:
    return {"$ref": f"#/channels/{name}"}


def _to_message(channel: str, op: str) -> Node:
    return {"$ref": f"#/channels/{channel}/messages/{op}"}


def _tags(union: Any) -> tuple[str, ...]:
    return tuple(str(kind.__struct_config__.tag) for kind in union.__args__)
