"""Messages and payload schemas of the stream's AsyncAPI document.

Schemas are JSON Schema draft 7, AsyncAPI's dialect, without anything newer. Each channel has its
own snapshot and publication: the wire's, with what `data` is there.
"""

import inspect
from typing import Any, Final

import msgspec

from gateway.stream import document_examples as stream_examples
from gateway.stream.document_channels import CHANNELS, ChannelShape
from schemas.views import INTERVAL_SECONDS
from schemas.wire import (
    SUBPROTOCOL_JSON,
    SUBPROTOCOL_MSGPACK,
    Pub,
    ServerMessages,
    Snapshot,
    StreamRequest,
)

Node = dict[str, Any]

# The stream's one address is two channels here: a message of AsyncAPI has one content type.
ENCODINGS: Final = {
    "stream": (SUBPROTOCOL_JSON, "application/json", "text frames"),
    "streamMsgpack": (SUBPROTOCOL_MSGPACK, "application/msgpack", "binary frames"),
}


def messages() -> Node:
    found: Node = {}
    for kind in (*StreamRequest.__args__, *ServerMessages.__args__):
        op = str(kind.__struct_config__.tag)
        for name, (_, content_type, _) in ENCODINGS.items():
            found[message_name(op, name)] = {
                "name": op,
                "title": kind.__name__,
                **_words(kind),
                "contentType": content_type,
                "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
                **(_examples(_plain_examples(op)) if name == "stream" else {}),
            }
    for name, shape in CHANNELS.items():
        snapshot, publication = _shown_examples(name)
        for kind, example in ((Snapshot, snapshot), (Pub, publication)):
            op = str(kind.__struct_config__.tag)
            found[f"{name}{op.capitalize()}"] = {
                "name": f"{op} of {shape.address}",
                "title": f"{kind.__name__} of {shape.address}",
                "payload": {"$ref": f"#/components/schemas/{_schema_name(name, kind)}"},
                **_examples([example]),
            }
    return found


def _words(kind: type[msgspec.Struct]) -> Node:
    # A struct without words of its own would show those of the struct it derives from.
    words = inspect.cleandoc(vars(kind).get("__doc__") or "")
    return {"description": words} if words else {}


def _examples(payloads: list[Node]) -> Node:
    return {"examples": [{"payload": payload} for payload in payloads]} if payloads else {}


def _plain_examples(op: str) -> list[Node]:
    if op in ("snapshot", "pub"):
        return [_shown_examples("trades")[op == "pub"]]
    if op in stream_examples.REQUESTS:
        return [stream_examples.REQUESTS[op]]
    return [_builtin(stream_examples.ANSWERS[op])]


def _shown_examples(name: str) -> tuple[Node, Node]:
    shown_at, shown, published_at, published = stream_examples.SHOWN[name]
    ch = CHANNELS[name].address.format(market="DUR-CNY", interval="1m")
    at_snapshot: Node = {"op": "snapshot", "ch": ch, "epoch": stream_examples.EPOCH}
    return (
        {**at_snapshot, "offset": shown_at, "data": _builtin(shown)},
        {"op": "pub", "ch": ch, "offset": published_at, "data": _builtin(published)},
    )


def _builtin(message: object) -> Node:
    # By way of JSON: what is absent on the wire is absent here too.
    plain: Node = msgspec.json.decode(msgspec.json.encode(message))
    return plain


def payload_schemas() -> Node:
    roots: list[Any] = [*StreamRequest.__args__, *ServerMessages.__args__]
    for shape in CHANNELS.values():
        roots += [shape.snapshot, shape.publication]
    shaped, definitions = msgspec.json.schema_components(
        roots, ref_template="#/components/schemas/{name}"
    )
    data = iter(shaped[-2 * len(CHANNELS) :])
    found: Node = {name: _draft_7(schema) for name, schema in definitions.items()}
    for name, shape in CHANNELS.items():
        snapshot, publication = next(data), next(data)
        if shape.sends_changes:
            changed = f"{shape.publication.__name__}Changes"
            whole = found[shape.publication.__name__]
            found[changed] = _changes_of(whole)
            publication = {"$ref": f"#/components/schemas/{changed}"}
        for kind, content in ((Snapshot, snapshot), (Pub, publication)):
            found[_schema_name(name, kind)] = _carrying(kind, shape, content, found[kind.__name__])
    return dict(sorted(found.items()))


def _changes_of(whole: Node) -> Node:
    return {
        **{key: value for key, value in whole.items() if key != "required"},
        "title": f"{whole['title']}Changes",
        "description": "The fields that changed; all of them in the first publication after a"
        " snapshot, a resume or skipped publications. Maps hold the entries that changed.",
    }


def _carrying(kind: type[msgspec.Struct], shape: ChannelShape, content: Node, bare: Node) -> Node:
    """The schema of a snapshot or publication, with what its `data` is on this channel."""
    name = shape.address.format(market=".+", interval=f"({'|'.join(INTERVAL_SECONDS)})")
    ch = (
        {"const": name}
        if name == shape.address
        else {"pattern": f"^{name.replace('.', '[.]', 1)}$"}
    )
    return {
        **bare,
        "title": f"{kind.__name__} of {shape.address}",
        "properties": {**bare["properties"], "ch": {"type": "string", **ch}, "data": content},
    }


def _draft_7(node: Any) -> Any:
    """The same schema without prefixItems, which draft 7 does not know."""
    match node:
        case dict():
            plain = {key: _draft_7(value) for key, value in node.items()}
            if "prefixItems" in plain:
                plain["items"] = plain.pop("prefixItems")
                plain["additionalItems"] = False
            return plain
        case list():
            return [_draft_7(value) for value in node]
        case _:
            return node


def _schema_name(channel: str, kind: type[msgspec.Struct]) -> str:
    return f"{channel.capitalize()}{kind.__name__}"


def message_name(op: str, encoding: str) -> str:
    return op if encoding == "stream" else f"{op}Msgpack"
