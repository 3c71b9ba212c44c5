"""The stream's document as one plain HTML page: no script, nothing fetched from anywhere."""

import json
from collections.abc import Iterator
from html import escape

from gateway.document_html import Node, head, inline, link, name_of, prose, shape


def page(document: Node) -> str:
    """document: of gateway.stream.document."""
    return "".join(_parts(document))


def _parts(document: Node) -> Iterator[str]:
    info, messages = document["info"], document["components"]["messages"]
    connection = document["channels"]["stream"]
    own = [messages[name_of(ref)] for ref in connection["messages"].values()]
    subscriptions = [
        channel for channel in document["channels"].values() if channel["address"][0] != "/"
    ]
    yield from head(f"{info['title']} {info['version']}")
    yield from prose(info["description"])
    yield '<p>For programs: <a href="asyncapi.json">asyncapi.json</a> (AsyncAPI 3.0).'
    yield f"<h2>Messages on <code>{escape(connection['address'])}</code></h2>"
    for message in own:
        yield from _message(message)
    yield "<h2>Channels to subscribe to</h2>"
    for channel in subscriptions:
        yield f"<h3><code>{escape(channel['address'])}</code></h3>"
        yield f"<p>{inline(channel['description'])}"
        for ref in channel["messages"].values():
            yield from _example(messages[name_of(ref)])
    yield "<h2>Shapes</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield from shape(name, schema)
    yield "</html>\n"


def _message(message: Node) -> Iterator[str]:
    yield f"<h3><code>{escape(message['name'])}</code></h3>"
    if "description" in message:
        yield f"<p>{inline(message['description'])}"
    yield f"<p>Shape: {link(message['payload'])}"
    yield from _example(message)


def _example(message: Node) -> Iterator[str]:
    for example in message.get("examples", ()):
        text = json.dumps(example["payload"], ensure_ascii=False)
        yield f"<pre><code>{escape(text)}</code></pre>"
