"""gateway.http_protocol under real uvicorn: heads that are too long or take too long."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import msgspec
import pytest
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from gateway import http_protocol
from gateway.errors import exception_handlers
from gateway.http_protocol import HEAD_BYTES_MAX, HEAD_SECONDS_MAX, HttpProtocol
from gateway.stream import frames
from gateway.stream.protocol import StreamProtocol
from tests.fixtures._served_protocol import DEADLINE_SECONDS, until

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
START = b"GET / HTTP/1.1\r\nHost: here\r\n"
WHOLE = START + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


async def echo(request: Request) -> Response:
    body = await request.body()
    return Response(body, headers={"x-trailed": str("x-1" in request.headers)})


async def greet(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())


def run(story: Callable[[int], Awaitable[None]]) -> None:
    async def told() -> None:
        app = Starlette(
            routes=[Route("/", echo, methods=["GET", "POST"]), WebSocketRoute("/ws", greet)],
            exception_handlers=exception_handlers(),
        )
        config = uvicorn.Config(
            app, http=HttpProtocol, ws=StreamProtocol, lifespan="off", log_config=None
        )
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await until(lambda: server.started)
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await story(listener.getsockname()[1])
                    await until(lambda: not server.server_state.connections)
            finally:
                server.should_exit = True
                await serving

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(told())


async def answers(port: int, *requests: bytes) -> bytes:
    """What comes back until the server closes; each request waits for the empty line before it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        *first, last = requests
        found = b""
        for request in first:
            writer.write(request)
            found += await reader.readuntil(b"\r\n\r\n")
        writer.write(last)
        return found + await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        START + b"".join(b"X-%04d: %030d\r\n" % (number, 0) for number in range(2_000)),
        START + b"X: " + b"y" * (HEAD_BYTES_MAX + 1),
        b"GET /" + b"y" * (HEAD_BYTES_MAX + 1),
    ],
    ids=["many", "one", "target"],
)
def test_long_head_is_refused_before_it_ends(head: bytes) -> None:
    async def story(port: int) -> None:
        assert (await answers(port, head)).startswith(b"HTTP/1.1 431 ")

    run(story)


@pytest.mark.parametrize("sent", [b"", b"GET", START])
def test_head_that_takes_too_long_is_refused(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS_MAX", 0.2)

    async def story(port: int) -> None:
        assert (await answers(port, sent)).startswith(b"HTTP/1.1 408 ")

    run(story)


@pytest.mark.parametrize("chunks", [b"", b"2\r\nhi\r\n"])
def test_body_that_takes_too_long_is_refused(
    chunks: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "BODY_SECONDS_MAX", 0.2)
    chunked = START.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n"

    async def story(port: int) -> None:
        found = await answers(port, chunked + chunks)
        assert found.startswith(b"HTTP/1.1 408 ")
        assert found.count(b"HTTP/1.1 ") == 1
        # Of what comes in time, the deadline is gone.
        whole = chunked + b"0\r\n\r\n"
        assert (await answers(port, whole, START + b"Connection: close\r\n\r\n")).count(OK) == 2

    run(story)


def test_body_that_is_large_has_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "BODY_SECONDS_MAX", 0.1)
    monkeypatch.setattr(http_protocol, "BODY_BYTES_PER_SECOND", 1_000)
    head = START.replace(b"GET", b"POST") + b"Content-Length: 2000\r\nConnection: close\r\n\r\n"

    async def sent(port: int, pieces: int, until_s: float) -> bytes:
        """A body in pieces of 500 bytes, one each 0.2 s; what comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        answer = asyncio.create_task(reader.read())
        for _ in range(pieces):
            writer.write(b"x" * 500)
            await asyncio.wait([answer], timeout=until_s)
        found = await answer
        writer.close()
        return found

    async def story(port: int) -> None:
        assert (await sent(port, 4, 0.2)).startswith(OK)
        assert (await sent(port, 1, 0.2)).startswith(b"HTTP/1.1 408 ")

    run(story)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"BREW / HTTP/1.1\r\nHost: here\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: here\r\n\r\n", 400),
        (START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (START + b"X y: z\r\n\r\n", 400),
        (START + b"X: " + b"y" * (HEAD_BYTES_MAX + 1), 431),
    ],
    ids=["method", "tls", "bytes", "lengths", "smuggled", "header", "long"],
)
def test_what_is_no_request_is_answered_with_a_problem(sent: bytes, status: int) -> None:
    async def story(port: int) -> None:
        head, _, body = (await answers(port, sent)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"content-type: application/problem+json" in head
        problem = msgspec.json.decode(body)
        assert (problem["status"], problem["code"]) == (status, "invalid_request")

    run(story)


def test_second_head_has_the_same_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS_MAX", 0.2)

    async def story(port: int) -> None:
        slow = await answers(port, WHOLE, START)
        assert slow.startswith(OK)
        assert b"HTTP/1.1 408 " in slow
        long = await answers(port, WHOLE, START + b"X: " + b"y" * HEAD_BYTES_MAX)
        assert long.startswith(OK)
        assert b"HTTP/1.1 431 " in long

    run(story)


def test_bodies_and_many_requests_on_a_connection_are_not_counted() -> None:
    async def story(port: int) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            for size in (0, 10, 3 * HEAD_BYTES_MAX):
                answer = await client.post(f"http://127.0.0.1:{port}/", content=bytes(size))
                assert answer.content == bytes(size)
            trailing = b"".join(b"X-%d: %0900d\r\n" % (number, 0) for number in range(100))
            chunked = START.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n"
            ended = chunked + b"2\r\nhi\r\n0\r\n" + trailing + b"\r\n"
            found = await answers(port, ended, START + b"Connection: close\r\n\r\n")
            assert found.count(OK) == 2
            assert found.count(b"x-trailed: False\r\n") == 2
            headers = {"x-long": "y" * 5_000}
            for _ in range(20):
                answer = await client.get(f"http://127.0.0.1:{port}/", headers=headers)
                assert answer.status_code == 200

    run(story)


def test_websocket_outlives_the_deadline_of_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS_MAX", 0.1)

    async def story(port: int) -> None:
        async with connect(f"ws://127.0.0.1:{port}/ws") as ws:
            done, _ = await asyncio.wait([asyncio.create_task(ws.wait_closed())], timeout=0.3)
            assert not done
            await ws.send("still here")
            assert await ws.recv() == "still here"

    run(story)


def test_documented_limits_are_the_real_ones() -> None:
    told = PROTOCOL.read_text(encoding="utf-8")
    head = f"longer than {HEAD_BYTES_MAX >> 10} KiB is answered 431, not complete after"
    assert f"{head} {HEAD_SECONDS_MAX:.0f} s 408" in told
    assert f"of one message | {frames.FRAGMENTS_MAX:,} | closed with {frames.TOO_BIG} |" in told
