"""Parts of the documents' pages, of the stream's and of the services' alike: plain HTML, no script,
nothing fetched from anywhere.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from typing import Any, Final

Node = dict[str, Any]

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


def style_source() -> str:
    """What a Content-Security-Policy's style-src must allow: STYLE and nothing else."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def head(title: str) -> Iterator[str]:
    """title: plain text."""
    yield '<!doctype html><html lang="en"><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>"


def shape(name: str, schema: Node) -> Iterator[str]:
    """A named schema, as a section that others link to."""
    yield f'<h3 id="{escape(name)}">{escape(name)}</h3>'
    if "description" in schema:
        yield f"<p>{inline(schema['description'])}"
    if "properties" not in schema:
        yield f"<p>{type_words(schema)}"
        return
    required = schema.get("required", ())
    yield "<table><tr><th>field<th>type<th>"
    for field, content in schema["properties"].items():
        presence = "" if field in required else "optional"
        words = inline(content.get("description", ""))
        presence = ". ".join(filter(None, (presence, words)))
        yield f"<tr><td><code>{escape(field)}</code><td>{type_words(content)}<td>{presence}"
    yield "</table>"


def type_words(schema: Node) -> str:
    match schema:
        case {"$ref": _}:
            return link(schema)
        case {"anyOf": parts}:
            return " or ".join(type_words(part) for part in parts)
        case {"const": value}:
            return f"<code>{escape(json.dumps(value))}</code>"
        case {"enum": values}:
            return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
        case {"type": "array", "items": list() as parts}:
            return f"[{', '.join(type_words(part) for part in parts)}]"
        case {"type": "array", "items": dict() as part}:
            return f"array of {type_words(part)}"
        case {"additionalProperties": dict() as part}:
            return f"object of {type_words(part)}"
        case {"type": str() as name}:
            return escape(name)
        case _:
            return "anything"


def link(reference: Node) -> str:
    name = escape(name_of(reference))
    return f'<a href="#{name}">{name}</a>'


def name_of(reference: Node) -> str:
    target: str = reference["$ref"]
    return target.rpartition("/")[2]


def prose(markdown: str) -> Iterator[str]:
    """The little Markdown that descriptions have: paragraphs, `code`, lists, one kind of table."""
    for block in markdown.split("\n\n"):
        if block.startswith("- "):
            items = (line.removeprefix("- ") for line in block.splitlines())
            yield "<ul>" + "".join(f"<li>{inline(item)}" for item in items) + "</ul>"
            continue
        if not block.startswith("|"):
            yield f"<p>{inline(block)}"
            continue
        first, _, *rows = (line.strip("|").split("|") for line in block.splitlines())
        yield "<table><tr>" + "".join(f"<th>{inline(cell.strip())}" for cell in first)
        yield from ("<tr>" + "".join(f"<td>{inline(cell.strip())}" for cell in row) for row in rows)
        yield "</table>"


def inline(text: str) -> str:
    parts = escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))
