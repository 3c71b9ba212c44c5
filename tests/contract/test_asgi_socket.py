"""gateway.stream.asgi_socket under real uvicorn: handshakes, and connections nobody detaches."""

import asyncio
import logging
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from gateway.stream import asgi_socket, frames
from gateway.stream.asgi_socket import EXTENSION
from gateway.stream.protocol import StreamProtocol
from tests.fixtures._bare_client import bare, masked
from tests.fixtures._served_protocol import App, Served, close_of, run, until


async def refused(websocket: WebSocket) -> None:
    await websocket.close()


async def denied(websocket: WebSocket) -> None:
    response = PlainTextResponse("not you", status_code=401, headers={"x-why": "because"})
    await websocket.send_denial_response(response)


async def failing(websocket: WebSocket) -> None:
    raise LookupError


async def speaking_first(websocket: WebSocket) -> None:
    await websocket._send({"type": "websocket.send", "text": "hello"})


async def silent(websocket: WebSocket) -> None:
    pass


@pytest.mark.parametrize(
    ("app", "status", "body"),
    [
        (refused, 403, b""),
        (denied, 401, b"not you"),
        (failing, 500, b""),
        (speaking_first, 500, b""),
        (silent, 500, b""),
    ],
)
def test_application_that_does_not_accept(app: App, status: int, body: bytes) -> None:
    async def story(served: Served) -> None:
        with pytest.raises(InvalidStatus) as refusal:
            async with connect(served.url("/app")):
                pass
        response = refusal.value.response
        assert (response.status_code, response.body) == (status, body)
        assert response.headers.get("x-why") == ("because" if app is denied else None)
        await until(lambda: not served.server.server_state.tasks)
        await until(lambda: not served.server.server_state.connections)

    run(story, app)


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"sec-websocket-version": "8"}, 426), ({"sec-websocket-key": "short"}, 400)],
)
def test_what_is_no_handshake_does_not_reach_the_application(
    changes: dict[str, str], status: int
) -> None:
    headers = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
        **changes,
    }

    async def story(served: Served) -> None:
        url = served.url("/detached").replace("ws:", "http:")
        async with httpx.AsyncClient() as client:
            answer = await client.get(url, headers=headers)
            assert answer.status_code == status
        assert served.recorders == []

    run(story)


def test_scope_is_that_of_uvicorn() -> None:
    scopes: list[dict[str, Any]] = []

    async def noting(websocket: WebSocket) -> None:
        scopes.append(dict(websocket.scope))
        await websocket.close()

    async def story(served: Served) -> None:
        offered = [Subprotocol("a"), Subprotocol("b")]
        url = served.url("/app?q=%C3%A9")
        with pytest.raises(InvalidStatus):
            async with connect(url, subprotocols=offered, additional_headers={"X-Mark": "é"}):
                pass
        (scope,) = scopes
        assert scope["path"] == "/app"
        assert (scope["raw_path"], scope["query_string"]) == (b"/app", b"q=%C3%A9")
        assert (scope["scheme"], scope["http_version"]) == ("ws", "1.1")
        assert scope["server"] == ("127.0.0.1", served.port)
        assert scope["client"][0] == "127.0.0.1"
        assert scope["subprotocols"] == ["a", "b"]
        assert (b"x-mark", b"\xe9") in scope["headers"]
        assert isinstance(scope["extensions"][EXTENSION], StreamProtocol)

    run(story, noting)


def test_application_that_does_not_detach_is_served_by_asgi() -> None:
    ends: list[Any] = []

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        while (message := await websocket.receive())["type"] == "websocket.receive":
            await websocket.send({**message, "type": "websocket.send"})
        ends.extend((message, await websocket._receive()))

    async def story(served: Served) -> None:
        async with connect(served.url("/app")) as ws:
            for message in ("é", b"\xff"):
                await ws.send(message)
                assert await ws.recv() == message
            await ws.ping()
            await ws.close(4321)
        await until(lambda: len(ends) == 2)
        assert ends[0] == ends[1] == {"type": "websocket.disconnect", "code": 4321, "reason": ""}

    run(story, echo)


async def returning(websocket: WebSocket) -> None:
    await websocket.accept()


async def closing(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close(4007, "done")


async def breaking(websocket: WebSocket) -> None:
    await websocket.accept()
    raise LookupError


async def accepting_twice(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket._send({"type": "websocket.accept"})


@pytest.mark.parametrize(
    ("app", "end"),
    [
        (returning, (1000, "")),
        (closing, (4007, "done")),
        (breaking, (1011, "")),
        (accepting_twice, (1011, "")),
    ],
)
def test_end_of_the_application_is_the_end_of_the_connection(
    app: App, end: tuple[int, str]
) -> None:
    async def story(served: Served) -> None:
        async with connect(served.url("/app")) as ws:
            assert await close_of(ws) == end

    run(story, app)


def test_sending_to_a_client_that_left_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    async def late(websocket: WebSocket) -> None:
        served: Served = websocket.app.state.served
        await websocket.accept()
        await served.pass_gate()
        await websocket._send({"type": "websocket.send", "text": "too late"})

    async def story(served: Served) -> None:
        async with bare(served.port, "/app") as client:
            await until(lambda: served.waiting == 1)
            client.reset()
        await until(lambda: not served.server.server_state.connections)
        served.gate.set()
        await until(lambda: not served.server.server_state.tasks)

    with caplog.at_level(logging.WARNING):
        run(story, late)
    assert caplog.records == []


def test_body_of_a_denial_may_come_in_pieces() -> None:
    async def piecemeal(websocket: WebSocket) -> None:
        start = {"type": "websocket.http.response.start", "status": 429, "headers": []}
        body = {"type": "websocket.http.response.body"}
        await websocket._send(start)
        await websocket._send({**body, "body": b"slow ", "more_body": True})
        await websocket._send({**body, "body": b"down"})

    async def story(served: Served) -> None:
        with pytest.raises(InvalidStatus) as refusal:
            async with connect(served.url("/app")):
                pass
        assert refusal.value.response.status_code == 429
        assert refusal.value.response.body == b"slow down"

    run(story, piecemeal)


def test_application_that_does_not_receive_has_its_client_wait() -> None:
    count: list[int] = []

    async def sluggish(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.app.state.served.pass_gate()
        while (await websocket.receive())["type"] == "websocket.receive":
            count.append(1)

    async def story(served: Served) -> None:
        message = masked(frames.BINARY, bytes(900))
        total = 20_000
        async with bare(served.port, "/app") as client:
            writing = asyncio.create_task(client.write(message * total))
            await until(lambda: served.waiting == 1)
            # 18 MB do not fit into what kernels hold, so this would end if all were read.
            done, _ = await asyncio.wait([writing], timeout=0.3)
            assert not done
            served.gate.set()
            await writing
            await until(lambda: len(count) == total)
            await client.write(masked(frames.CLOSE))

    run(story, sluggish)


def test_application_waits_for_a_client_that_does_not_read() -> None:
    buffered: list[int] = []

    async def pouring(websocket: WebSocket) -> None:
        protocol: StreamProtocol = websocket.scope["extensions"][EXTENSION]
        await websocket.accept()
        for _ in range(200):
            await websocket.send_bytes(bytes(9_996))
            buffered.append(protocol.buffered())

    async def story(served: Served) -> None:
        async with bare(served.port, "/app", receive_bytes=4_096) as client:
            await until(lambda: max(buffered, default=0) > asgi_socket.BUFFERED_BYTES_MAX)
            await client.read(200 * 10_000)
            assert max(buffered) <= asgi_socket.BUFFERED_BYTES_MAX + 10_000

    run(story, pouring)


def test_client_that_leaves_frees_a_waiting_application() -> None:
    async def pouring(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket._send({"type": "websocket.send", "bytes": bytes(9_996)})

    async def story(served: Served) -> None:
        async with bare(served.port, "/app", receive_bytes=4_096) as client:
            await client.read(4)
            client.reset()
        await until(lambda: not served.server.server_state.tasks)

    run(story, pouring)
