"""A service's OpenAPI document as one plain HTML page: no script, nothing fetched from anywhere."""

import json
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, Final
from urllib.parse import quote, urlencode

from gateway.document_html import Node, head, inline, link, name_of, prose, shape, type_words

_GOOD: Final = "2"


def page(document: Node) -> str:
    """document: of gateway.openapi.document."""
    return "".join(_parts(document))


def _parts(document: Node) -> Iterator[str]:
    info = document["info"]
    found = list(_operations(document))
    yield from head(f"{info['title']} {info['version']}")
    yield from prose(info["description"])
    yield '<p>For programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).'
    yield "<h2>Endpoints</h2><table>"
    for method, path, operation in found:
        target = escape(operation["operationId"])
        yield f'<tr><td>{method}<td><a href="#{target}"><code>{escape(path)}</code></a>'
        yield f"<td>{inline(operation['summary'])}<td>{_who(operation)}"
    yield "</table>"
    for method, path, operation in found:
        yield from _operation(method, path, operation)
    yield "<h2>Tokens</h2>"
    yield from prose(document["components"]["securitySchemes"]["bearer"]["description"])
    yield "<h2>Shapes</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield from shape(name, schema)
    yield "</html>\n"


def _operations(document: Node) -> Iterator[tuple[str, str, Node]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _who(operation: Node) -> str:
    return ", ".join(operation["x-roles"]["own"]) if "x-roles" in operation else "everybody"


def _operation(method: str, path: str, operation: Node) -> Iterator[str]:
    yield f'<h3 id="{escape(operation["operationId"])}">{method} <code>{escape(path)}</code></h3>'
    yield f"<p>{inline(operation['summary'])}."
    yield from prose(operation.get("description", ""))
    yield from _access(operation)
    if parameters := operation.get("parameters"):
        yield "<table><tr><th>parameter<th>in<th>type<th>"
        for parameter in parameters:
            yield from _parameter(parameter)
        yield "</table>"
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: {escape(media_type)}, {type_words(content['schema'])}"
    yield f"<pre><code>{escape(curl(method, path, operation))}</code></pre>"
    yield "<table><tr><th>status<th>answer"
    for status, response in operation["responses"].items():
        yield f"<tr><td>{status}<td>{_answer(status, response)}"
    yield "</table>"


def _access(operation: Node) -> Iterator[str]:
    if "x-roles" not in operation:
        return
    roles, [requirement] = operation["x-roles"], operation["security"]
    words = f"Scope <code>{escape(requirement['bearer'][0])}</code>: {', '.join(roles['own'])}."
    if others := roles.get("others"):
        words += f" For others: {', '.join(others)}."
    yield f"<p>{words}"


def _parameter(parameter: Node) -> Iterator[str]:
    schema = parameter["schema"]
    words = inline(parameter.get("description", ""))
    notes = ["required" if parameter["required"] else "", words, *_bounds(schema)]
    yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}"
    yield f"<td>{type_words(schema)}<td>{'; '.join(filter(None, notes))}"


def _bounds(schema: Node) -> Iterator[str]:
    for keyword, words in (("minimum", "at least"), ("maximum", "at most"), ("default", "if not")):
        if keyword in schema:
            yield f"{words} <code>{escape(json.dumps(schema[keyword]))}</code>"


def _answer(status: str, response: Node) -> str:
    if "$ref" in response:
        return f"<code>{escape(_snake(name_of(response)))}</code>"
    content = next(iter(response.get("content", {}).values()), None)
    if not status.startswith(_GOOD) or content is None:
        return inline(response["description"])
    return link(content["schema"]) if "$ref" in content["schema"] else inline("text")


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


def curl(method: str, path: str, operation: Node) -> str:
    """A command line that asks for it, with examples for what is required."""
    parameters: Sequence[Node] = operation.get("parameters", ())
    values = {
        parameter["name"]: parameter["example"] for parameter in parameters if parameter["required"]
    }
    for parameter in parameters:
        if parameter["in"] == "path":
            value = quote(_text(values.pop(parameter["name"])), safe="")
            path = path.replace(f"{{{parameter['name']}}}", value)
    query = (
        f"?{urlencode({name: _text(value) for name, value in values.items()})}" if values else ""
    )
    words = ["curl"] if method == "GET" else [f"curl -X {method}"]
    words.append(f'"$URL{path}{query}"')
    if operation["security"]:
        words.append('-H "authorization: Bearer $TOKEN"')
    if any(parameter["name"] == "Idempotency-Key" for parameter in parameters):
        words.append('-H "idempotency-key: my-first"')
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        words.append(f'-H "content-type: {media_type}"')
        if "example" in content:
            words.append(f"-d '{json.dumps(content['example'], ensure_ascii=False)}'")
        else:
            words.append("--data-binary @file")
    return " \\\n  ".join(words)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
