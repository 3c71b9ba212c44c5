"""The stream's AsyncAPI document: complete, valid, true of what a gateway sends, and served."""

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway.stream import (
    document_examples as stream_examples,
)
from gateway.stream import (
    routes as routes_stream,
)
from gateway.stream import (
    routes_documents,
)
from gateway.stream.channels import PRIVATE_KINDS, TRAITS, Kind, Offsets
from gateway.stream.close_codes import CloseCode
from gateway.stream.document import CLOSING, document, encoded_document
from gateway.stream.document_channels import CHANNELS
from schemas.commands import PlaceOrder
from schemas.wire import ServerMessages, StreamRequest
from tests.fixtures._gateway_line import DEADLINE_SECONDS, Line, running_line, send

MARKET = "DUR-CNY"
CLIENTS = Path(__file__).parents[1] / "clients"


def test_every_kind_of_channel_is_described_as_the_gateway_treats_it() -> None:
    assert set(CHANNELS) == set(Kind)
    for kind, shape in CHANNELS.items():
        traits = TRAITS[Kind(kind)]
        assert shape.sends_changes == traits.sends_changes, kind
        assert shape.is_private == (kind in PRIVATE_KINDS), kind
        assert ("1, 2, 3" in shape.offsets) == (traits.offsets is Offsets.COUNTED), kind
        linked = "previous" in shape.publication.__struct_fields__
        assert linked == (traits.offsets is Offsets.LINKED), kind


def test_every_message_and_close_code_is_described() -> None:
    told = document()
    ops = {
        kind.__struct_config__.tag for kind in (*StreamRequest.__args__, *ServerMessages.__args__)
    }
    for channel in ("stream", "streamMsgpack"):
        assert set(told["channels"][channel]["messages"]) == ops
    assert set(CLOSING) == set(CloseCode)
    sent = {
        message["$ref"].rpartition("/")[2]
        for operation in told["operations"].values()
        for message in operation["messages"] + operation.get("reply", {}).get("messages", [])
        if operation["channel"]["$ref"] == "#/channels/stream"
    }
    assert sent == ops


def test_examples_are_real_shapes() -> None:
    assert stream_examples.LIMITS == routes_stream.LIMITS
    for request in stream_examples.REQUESTS.values():
        decoded = msgspec.convert(request, StreamRequest)
        assert {*request} - {"op"} <= {*decoded.__struct_fields__}
    for kind, (_, snapshot, _, publication) in stream_examples.SHOWN.items():
        shape = CHANNELS[kind]
        msgspec.convert(msgspec.to_builtins(snapshot), shape.snapshot)
        assert shape.sends_changes == isinstance(publication, dict)
        if isinstance(publication, dict):
            assert {*publication} < {*shape.publication.__struct_fields__}
        else:
            assert isinstance(publication, shape.publication)


def test_document_and_page_are_served_and_need_nothing_else() -> None:
    with TestClient(Starlette(routes=routes_documents.ROUTES)) as client:
        answer = client.get("/asyncapi.json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.content == encoded_document()
        page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert re.fullmatch(
        r"default-src 'none'; connect-src ws: wss:; style-src 'sha256-[\w+/=]+'", policy
    )
    assert "<script" not in page.text
    assert not re.search(r'(?:src|href)="(?!#|asyncapi\.json")', page.text)
    for op in document()["channels"]["stream"]["messages"]:
        assert f"<h3><code>{op}</code></h3>" in page.text
    anchors = set(re.findall(r'href="#([^"]+)"', page.text))
    assert anchors <= set(re.findall(r'id="([^"]+)"', page.text))


def test_links_inside_the_document_lead_somewhere() -> None:
    told = document()
    for target in set(re.findall(r'"\$ref": ?"#/([^"]+)"', encoded_document().decode())):
        found = told
        for part in target.split("/"):
            found = found[part]


def validated(
    node_packages: Path, directory: Path, lines: str
) -> "subprocess.CompletedProcess[str]":
    """What validate.mjs says of our document, its examples and these messages."""
    (directory / "node_modules").symlink_to(node_packages / "node_modules")
    (directory / "validate.mjs").write_bytes((CLIENTS / "validate.mjs").read_bytes())
    (directory / "asyncapi.json").write_bytes(encoded_document())
    (directory / "lines").write_text(lines, encoding="utf-8")
    return subprocess.run(
        ["node", "validate.mjs", "asyncapi.json", "lines"],
        cwd=directory,
        capture_output=True,
        text=True,
    )


@pytest.mark.services
def test_document_is_asyncapi_and_its_examples_fit_its_schemas(
    node_packages: Path, tmp_path: Path
) -> None:
    done = validated(node_packages, tmp_path, "")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["examples"] >= 2 * len(CHANNELS)


@pytest.mark.services
def test_what_a_gateway_really_sends_fits_the_document(
    view_redis: str, node_packages: Path, tmp_path: Path
) -> None:
    """Every channel, from its snapshot on: trades, a burn, a minute and its candle that close."""
    recorded: list[dict[str, Any]] = []
    subscribed = [shape.address.format(market=MARKET, interval="1m") for shape in CHANNELS.values()]

    async def story() -> None:
        async with running_line(view_redis, tmp_path / "line", ("stream",)) as line:
            line.fund("maker", "taker")
            await line.views.project()
            async with connect(line.urls["stream"], additional_headers=line.bearer("taker")) as ws:
                channels = [{"ch": name} for name in subscribed]
                await send(ws, {"op": "subscribe", "id": 1, "channels": channels})
                await send(ws, {"op": "ping", "id": 2})
                await send(ws, {"op": "dance"})
                while {"snapshot"} != {told(recorded, name) for name in subscribed}:
                    recorded.append(msgspec.json.decode(await ws.recv()))
                # Two minutes: a channel's first publication is whole, the next has changes.
                for number in (1, 2):
                    trade(line, number)
                    line.engine.pass_seconds(60)
                    await line.views.project()
                while {2} != {published(recorded, name, at_most=2) for name in subscribed}:
                    recorded.append(msgspec.json.decode(await ws.recv()))
                line.stop.set()
                with pytest.raises(ConnectionClosed):
                    while True:
                        recorded.append(msgspec.json.decode(await ws.recv()))

    (tmp_path / "line").mkdir()
    (tmp_path / "node").mkdir()
    asyncio.run(asyncio.wait_for(story(), 4 * DEADLINE_SECONDS))
    assert {message["op"] for message in recorded} >= {"hello", "pong", "error", "draining"}
    lines = [json.dumps({"message": name_of(message), "payload": message}) for message in recorded]
    done = validated(node_packages, tmp_path / "node", "\n".join(lines))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lines"] == len(recorded)


def told(recorded: list[dict[str, Any]], name: str) -> str | None:
    """What was the first about a channel."""
    return next((message["op"] for message in recorded if message.get("ch") == name), None)


def published(recorded: list[dict[str, Any]], name: str, *, at_most: int) -> int:
    of_channel = [m for m in recorded if m["op"] == "pub" and m["ch"] == name]
    return min(len(of_channel), at_most)


def name_of(message: dict[str, Any]) -> str:
    """The document's name of a message: with its channel, if it is of one."""
    op: str = message["op"]
    if op not in ("snapshot", "pub"):
        return op
    return f"{message['ch'].partition('.')[0]}{op.capitalize()}"


def trade(line: Line, number: int) -> None:
    for user_id, side in (("maker", "sell"), ("taker", "buy")):
        line.engine.accept(
            PlaceOrder(
                user_id=user_id,
                client_order_id=f"{user_id}-{number}",
                market_id=MARKET,
                side=side,  # type: ignore[arg-type]  # literals above
                order_type="limit",
                price_minor=10**8 + number * 10**4,
                # What is left over rests in the book.
                quantity_minor=10**8 if user_id == "taker" else 2 * 10**8,
            )
        )


@pytest.mark.services
@pytest.mark.parametrize(
    "wrong",
    [
        {"op": "pub", "ch": "pulse", "offset": "7", "data": {}},
        {"op": "pub", "ch": "ticker.DUR-CNY", "offset": 7, "data": {}},
        {"op": "pub", "ch": "pulse", "offset": 7, "data": {"index": 7}},
    ],
)
def test_validation_notices_what_does_not_fit(
    node_packages: Path, tmp_path: Path, wrong: dict[str, object]
) -> None:
    line = json.dumps({"message": "pulsePub", "payload": wrong})
    done = validated(node_packages, tmp_path, line)
    assert (done.returncode, "pulsePub is not like" in done.stderr) == (1, True)
