"""The stream's document as one plain HTML page: no script, nothing fetched from anywhere."""

import json
from collections.abc import Iterator
from html import escape
from typing import Final

from gateway.stream.document_messages import Node

STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1c1c1c;background:#fff}"
    "h2{margin-top:3rem;border-bottom:1px solid #ccc}h3{margin-top:2rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;"
    "border-bottom:1px solid #e4e4e4;vertical-align:top}"
    "pre{background:#f4f4f2;padding:.8rem;white-space:pre-wrap;overflow-wrap:anywhere}"
    "code{font-family:ui-monospace,monospace;font-size:.9em}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}"
    "pre{background:#262626}td,th{border-color:#383838}a{color:#8ab4f8}}"
)


def page(document: Node) -> str:
    """document: of gateway.stream.document."""
    return "".join(_parts(document))


def _parts(document: Node) -> Iterator[str]:
    info, messages = document["info"], document["components"]["messages"]
    connection = document["channels"]["stream"]
    own = [messages[_name(ref)] for ref in connection["messages"].values()]
    subscriptions = [
        channel for channel in document["channels"].values() if channel["address"][0] != "/"
    ]
    title = escape(f"{info['title']} {info['version']}")
    yield '<!doctype html><html lang="en"><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
    yield from _prose(info["description"])
    yield '<p>For programs: <a href="asyncapi.json">asyncapi.json</a> (AsyncAPI 3.0).'
    yield f"<h2>Messages on <code>{escape(connection['address'])}</code></h2>"
    for message in own:
        yield from _message(message)
    yield "<h2>Channels to subscribe to</h2>"
    for channel in subscriptions:
        yield f"<h3><code>{escape(channel['address'])}</code></h3>"
        yield f"<p>{_inline(channel['description'])}"
        for ref in channel["messages"].values():
            yield from _example(messages[_name(ref)])
    yield "<h2>Shapes</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield from _shape(name, schema)
    yield "</html>\n"


def _message(message: Node) -> Iterator[str]:
    yield f"<h3><code>{escape(message['name'])}</code></h3>"
    if "description" in message:
        yield f"<p>{_inline(message['description'])}"
    yield f"<p>Shape: {_link(message['payload'])}"
    yield from _example(message)


def _example(message: Node) -> Iterator[str]:
    for example in message.get("examples", ()):
        text = json.dumps(example["payload"], ensure_ascii=False)
        yield f"<pre><code>{escape(text)}</code></pre>"


def _shape(name: str, schema: Node) -> Iterator[str]:
    yield f'<h3 id="{escape(name)}">{escape(name)}</h3>'
    if "description" in schema:
        yield f"<p>{_inline(schema['description'])}"
    if "properties" not in schema:
        yield f"<p>{_type(schema)}"
        return
    required = schema.get("required", ())
    yield "<table><tr><th>field<th>type<th>"
    for field, content in schema["properties"].items():
        presence = "" if field in required else "optional"
        yield f"<tr><td><code>{escape(field)}</code><td>{_type(content)}<td>{presence}"
    yield "</table>"


def _type(schema: Node) -> str:
    match schema:
        case {"$ref": _}:
            return _link(schema)
        case {"anyOf": parts}:
            return " or ".join(_type(part) for part in parts)
        case {"const": value}:
            return f"<code>{escape(json.dumps(value))}</code>"
        case {"enum": values}:
            return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
        case {"type": "array", "items": list() as parts}:
            return f"[{', '.join(_type(part) for part in parts)}]"
        case {"type": "array", "items": dict() as part}:
            return f"array of {_type(part)}"
        case {"additionalProperties": dict() as part}:
            return f"object of {_type(part)}"
        case {"type": str() as name}:
            return escape(name)
        case _:
            return "anything"


def _link(reference: Node) -> str:
    name = escape(_name(reference))
    return f'<a href="#{name}">{name}</a>'


def _name(reference: Node) -> str:
    target: str = reference["$ref"]
    return target.rpartition("/")[2]


def _prose(markdown: str) -> Iterator[str]:
    """The little Markdown that descriptions have: paragraphs, `code` and one kind of table."""
    for block in markdown.split("\n\n"):
        if not block.startswith("|"):
            yield f"<p>{_inline(block)}"
            continue
        head, _, *rows = (line.strip("|").split("|") for line in block.splitlines())
        yield "<table><tr>" + "".join(f"<th>{_inline(cell.strip())}" for cell in head)
        yield from (
            "<tr>" + "".join(f"<td>{_inline(cell.strip())}" for cell in row) for row in rows
        )
        yield "</table>"


def _inline(text: str) -> str:
    parts = escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))
