"""The life of /v1/stream's connections: who is let in, what they are told, and how it ends."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from gateway.stream.close_codes import CloseCode
from gateway.stream.routes import LIMITS
from ops.config import Config, Ports
from ops.serving import SEND_BUFFER_BYTES, USER_TIMEOUT_MS, bind, serve
from schemas.views import FIRST_GENERATION, HOME_DB, MINING, feed_key, stored_key
from schemas.wire import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, ServerMessages, Snapshot
from tests.fixtures._gateway_line import (
    DEADLINE_SECONDS,
    TIMES,
    Line,
    receive,
    running_line,
    send,
)

pytestmark = pytest.mark.services
Story = Callable[[Line], Awaitable[None]]

_decode_msgpack = msgspec.msgpack.Decoder(ServerMessages).decode


def run(view_redis: str, directory: Path, story: Story, **settings: Any) -> None:
    async def told() -> None:
        async with running_line(view_redis, directory, ("stream",), **settings) as line:
            await story(line)

    asyncio.run(told())


async def first(ws: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        told: dict[str, Any] = msgspec.json.decode(await ws.recv())
    return told


async def refusal(url: str, **headers: str) -> tuple[int, str]:
    """Status and problem code of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers=headers):
            pass
    answer = refused.value.response
    return answer.status_code, msgspec.json.decode(answer.body or b"")["code"]


async def figures(line: Line) -> dict[str, float]:
    base = line.urls["stream"].replace("ws://", "http://").removesuffix("/v1/stream")
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{base}/metrics")).text
    rows = (row.rpartition(" ") for row in text.splitlines() if row.startswith("durian_stream"))
    return {name: float(number) for name, _, number in rows}


async def close_code(ws: ClientConnection) -> int:
    """Read until the gateway closes."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await ws.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_hello_is_first_and_tells_the_limits(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        async with connect(line.urls["stream"]) as ws:
            hello = await first(ws)
            limits = msgspec.to_builtins(LIMITS)
            assert hello == {"op": "hello", "version": 1, "limits": limits}
        async with connect(line.urls["stream"], additional_headers=line.bearer("maker")) as ws:
            assert (await first(ws))["expires_at"] > 0

    run(view_redis, tmp_path, story)


def test_messagepack_and_json_say_the_same(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        url, names = line.urls["stream"], [Subprotocol(SUBPROTOCOL_MSGPACK)]
        both = [*names, Subprotocol(SUBPROTOCOL_JSON)]
        async with connect(url, subprotocols=both) as packed, connect(url) as plain:
            assert packed.subprotocol == SUBPROTOCOL_MSGPACK
            told: list[Any] = [_decode_msgpack(await packed.recv(decode=False))]
            ask = {"op": "subscribe", "id": 1, "channels": [{"ch": "pulse"}]}
            await packed.send(msgspec.msgpack.encode(ask))
            told += [_decode_msgpack(await packed.recv(decode=False)) for _ in range(2)]
            await send(plain, ask)
            said = [await first(plain) for _ in range(3)]
            line.engine.pass_seconds(1)
            await line.views.project()
            told.append(_decode_msgpack(await packed.recv(decode=False)))
            said.append(await first(plain))
        assert isinstance(told[2], Snapshot)
        assert [_unpacked(message) for message in told] == said

    run(view_redis, tmp_path, story)


def _unpacked(message: Any) -> dict[str, Any]:
    packed: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(message))
    return packed


def test_pages_of_other_hosts_are_kept_out_unless_listed(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        url = line.urls["stream"]
        assert await refusal(url, origin="https://evil.example") == (403, "origin_not_allowed")
        for origin in ("http://127.0.0.1:3100", "https://good.example"):
            async with connect(url, origin=Origin(origin)) as ws:
                assert (await first(ws))["op"] == "hello"
        assert (await figures(line))['durian_stream_refused_total{code="origin_not_allowed"}'] == 1

    run(view_redis, tmp_path, story, origins="https://good.example, https://fine.example")


def test_a_full_gateway_says_so(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        url = line.urls["stream"]
        async with connect(url), connect(url) as second:
            assert await refusal(url) == (503, "too_many_connections")
            await second.close()
            async with connect(url) as third:
                assert (await first(third))["op"] == "hello"

    run(view_redis, tmp_path, story, stream_connections_max=2)


def test_a_token_is_refreshed_on_the_open_connection(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        line.fund("maker")
        await line.views.project()
        url = line.urls["stream"]
        short = {"authorization": f"Bearer {line.token('maker', lifetime_s=2)}"}
        async with (
            connect(url, additional_headers=short) as ws,
            connect(url, additional_headers=short) as careless,
        ):
            expires_at = (await first(ws))["expires_at"]
            await send(ws, {"op": "subscribe", "channels": [{"ch": "account"}]})
            await receive(ws, "snapshot", "account")
            await send(ws, {"op": "auth", "id": 9, "token": line.token("maker")})
            assert (await receive(ws, "ack"))["expires_at"] > expires_at + 60
            assert await close_code(careless) == CloseCode.TOKEN_EXPIRED
            await send(ws, {"op": "ping", "id": 1})
            assert (await receive(ws, "pong"))["id"] == 1

    run(view_redis, tmp_path, story)


def test_a_drain_is_announced_and_new_clients_go_elsewhere(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        url = line.urls["stream"]
        async with connect(url) as ws, connect(url) as stubborn:
            await receive(ws, "hello")
            stubborn.transport.pause_reading()
            line.stop.set()
            draining = await receive(ws, "draining")
            assert draining["reconnect_within_ms"] >= 1_000
            assert await close_code(ws) == CloseCode.GOING_AWAY
            with pytest.raises((OSError, InvalidStatus)):
                await connect(url)
            stubborn.transport.abort()

    run(view_redis, tmp_path, story)


def test_the_kernel_holds_little_for_a_client_and_gives_up_in_time() -> None:
    config = Config(ports=Ports(stream=0))
    (listener,) = bind(config, ["stream"])
    with listener.socket as listening:
        listening.listen()
        with socket.create_connection(("127.0.0.1", listener.port)):
            accepted, _ = listening.accept()
            with accepted:
                given = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                held = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert given == USER_TIMEOUT_MS
    assert held <= 2 * SEND_BUFFER_BYTES


def test_processes_share_a_port_and_clients_resume_at_any(view_redis: str, tmp_path: Path) -> None:
    """Connections are dealt out by the kernel; who is sent away goes on elsewhere."""

    async def story(line: Line) -> None:
        port = int(line.urls["stream"].rpartition("/v1")[0].rpartition(":")[2])
        ports = msgspec.structs.replace(line.config.ports, stream=port)
        config, leave = msgspec.structs.replace(line.config, ports=ports), asyncio.Event()
        other = asyncio.create_task(serve(config, bind(config, ["stream"]), leave, TIMES))
        async with contextlib.AsyncExitStack() as stack:
            sent_away: list[ClientConnection] = []
            clients = [
                await stack.enter_async_context(connect(line.urls["stream"])) for _ in range(40)
            ]
            for ws in clients:
                await send(ws, {"op": "subscribe", "channels": [{"ch": "pulse"}]})
            shots = [await receive(ws, "snapshot") for ws in clients]
            since = {"epoch": shots[0]["epoch"], "offset": shots[0]["offset"]}
            leave.set()
            await other
            line.engine.pass_seconds(1)
            await line.views.project()
            for ws in clients:
                try:
                    assert (await receive(ws, "pub"))["offset"] == since["offset"] + 1
                except ConnectionClosed as closed:
                    assert closed.rcvd is not None
                    assert closed.rcvd.code == CloseCode.GOING_AWAY
                    sent_away.append(ws)
            assert 0 < len(sent_away) < len(clients)
            again = await stack.enter_async_context(connect(line.urls["stream"]))
            await send(again, {"op": "subscribe", "channels": [{"ch": "pulse", "since": since}]})
            assert (await receive(again, "pub"))["offset"] == since["offset"] + 1
            assert (await receive(again, "recovered"))["offset"] == since["offset"] + 1

    run(view_redis, tmp_path, story, stream_processes=2)


def test_clients_are_told_when_the_views_are_away_and_back(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        with redis.Redis.from_url(view_redis) as client:
            process = client.info("server")["process_id"]
        async with connect(line.urls["stream"]) as ws:
            await send(ws, {"op": "subscribe", "channels": [{"ch": "pulse"}]})
            await receive(ws, "snapshot")
            os.kill(process, signal.SIGSTOP)
            try:
                await receive(ws, "stale")
                async with connect(line.urls["stream"]) as late:
                    assert (await first(late))["op"] == "hello"
                    assert (await first(late))["op"] == "stale"
                assert (await figures(line))["durian_stream_stale"] == 1
            finally:
                os.kill(process, signal.SIGCONT)
            await receive(ws, "fresh")
            line.engine.pass_seconds(1)
            await line.views.project()
            assert (await receive(ws, "pub", "pulse"))["offset"] == line.engine.second
            assert (await figures(line))["durian_stream_stale"] == 0

    run(view_redis, tmp_path, story)


def test_what_nobody_foresaw_ends_the_process_and_clients_go_elsewhere(
    view_redis: str, tmp_path: Path
) -> None:
    """A gateway that reads no feed any more must not look well."""

    async def story(line: Line) -> None:
        async with connect(line.urls["stream"]) as ws:
            await receive(ws, "hello")
            feed = stored_key(MINING, FIRST_GENERATION, feed_key(MINING, 0))
            with redis.Redis.from_url(view_redis, db=HOME_DB[MINING]) as client:
                client.xadd(feed, {"what": "no gateway can read"})
            assert await close_code(ws) == CloseCode.GOING_AWAY

    with pytest.raises(KeyError):
        run(view_redis, tmp_path, story)


def test_figures_count_what_happens(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        async with connect(line.urls["stream"]) as ws:
            await send(ws, {"op": "subscribe", "channels": [{"ch": "pulse"}]})
            shot = await receive(ws, "snapshot")
            since = {"epoch": shot["epoch"], "offset": shot["offset"]}
            await send(ws, {"op": "subscribe", "channels": [{"ch": "pulse", "since": since}]})
            await receive(ws, "recovered")
            found = await figures(line)
            assert found["durian_stream_connections"] == 1
            assert found['durian_stream_subscriptions{kind="pulse"}'] == 1
            assert found["durian_stream_accepted_total"] == 1
            assert found["durian_stream_messages_in_total"] == 2
            assert found["durian_stream_snapshots_total"] == 1
            assert found["durian_stream_recovered_total"] == 1
            assert found["durian_stream_bytes_out_total"] > 200
        while True:
            found = await figures(line)
            if not found["durian_stream_connections"]:
                break
            await asyncio.sleep(0.02)
        assert found['durian_stream_closed_total{code="1000"}'] == 1

    run(view_redis, tmp_path, story)


def test_a_plain_request_of_the_stream_is_told_to_upgrade(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        async with httpx.AsyncClient() as http:
            answer = await http.get(line.urls["stream"].replace("ws://", "http://"))
        assert answer.status_code == 426
        assert answer.json()["code"] == "upgrade_required"
        assert answer.headers["upgrade"] == "websocket"

    run(view_redis, tmp_path, story)
