"""Clients that mean harm, or are gone without a word, on the real gateway: what becomes of them.

The others get every publication meanwhile.
"""

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import uvloop
from websockets.asyncio.client import connect

from gateway.stream import connection, frames
from gateway.stream import protocol as stream_protocol
from gateway.stream.close_codes import CloseCode
from gateway.stream.protocol import StreamProtocol
from schemas.events import Side
from tests.fixtures._bare_client import BareClient, bare, masked
from tests.fixtures._gateway_line import DEADLINE_SECONDS, Line, receive, running_line, send
from tests.fixtures._link_proxy import link
from tests.fixtures._served_protocol import until
from tests.fixtures._traded_line import MARKET, place

pytestmark = pytest.mark.services
TRADES = f"trades.{MARKET}"
PATH = "/v1/stream"
Story = Callable[[Line], Awaitable[None]]


def run(view_redis: str, directory: Path, story: Story) -> None:
    async def told() -> None:
        async with running_line(view_redis, directory, ("stream",)) as line:
            line.fund("maker", "taker")
            await line.views.project()
            async with asyncio.timeout(4 * DEADLINE_SECONDS):
                await story(line)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(told())


def port_of(line: Line) -> int:
    return int(line.urls["stream"].removesuffix(PATH).rpartition(":")[2])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def trade(line: Line, count: int) -> None:
    """So many trades, a second for each, and one poll's worth of publications for all of them."""
    sides: tuple[tuple[str, Side], ...] = (("maker", "sell"), ("taker", "buy"))
    for _ in range(count):
        number = len(line.engine.log)
        for user_id, side in sides:
            place(line, user_id, side, number)
        line.engine.pass_seconds(1)
    await line.views.project()


async def figures(line: Line) -> dict[str, float]:
    url = f"http://127.0.0.1:{port_of(line)}/metrics"
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(url)
        assert answer.status_code == 200
        text = answer.text
    rows = (row.rpartition(" ") for row in text.splitlines() if row.startswith("durian_stream"))
    return {name: float(number) for name, _, number in rows}


async def until_figure(line: Line, name: str, wanted: float) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if (await figures(line)).get(name, 0) == wanted:
                return
            await asyncio.sleep(0.05)


def closed(code: int) -> str:
    return f'durian_stream_closed_total{{code="{code}"}}'


def asking(*names: str) -> bytes:
    """A client's frame that subscribes."""
    asked = {"op": "subscribe", "id": 1, "channels": [{"ch": name} for name in names]}
    return masked(frames.TEXT, msgspec.json.encode(asked))


async def messages_of(
    client: BareClient, *, pause: float = 0.0, chunk: int = 1 << 16
) -> AsyncIterator[tuple[int, bytes]]:
    """Everything until the end, as (opcode, payload)."""
    data = b""
    while True:
        whole = _first_frame(data)
        if whole is not None:
            opcode, payload, data = whole
            yield opcode, payload
            continue
        some = await client.read_some(chunk)
        if not some:
            return
        data += some
        if pause:
            await asyncio.sleep(pause)


def _first_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    if len(data) < 4:
        return None
    size, start = data[1], 2
    if size == 126:
        size, start = int.from_bytes(data[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(data[2:10], "big"), 10
    end = start + size
    return (data[0] & 15, data[start:end], data[end:]) if end <= len(data) else None


async def code_of(client: BareClient) -> int:
    """The gateway's close code; 0 if it ended without one."""
    async for opcode, payload in messages_of(client):
        if opcode == frames.CLOSE:
            return int.from_bytes(payload[:2], "big")
    return 0


@contextlib.asynccontextmanager
async def witness(line: Line) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """A client that must get every trade; ask it for the next so many, in order."""
    async with connect(line.urls["stream"]) as ws:
        await send(ws, {"op": "subscribe", "id": 1, "channels": [{"ch": TRADES}]})
        last: int = (await receive(ws, "snapshot"))["offset"]

        async def sees(count: int) -> None:
            nonlocal last
            for _ in range(count):
                offset = (await receive(ws, "pub", TRADES))["offset"]
                assert offset == last + 1
                last = offset

        yield sees


def alive() -> list[StreamProtocol]:
    """Every connection of this process' gateway, those that something keeps after their end too."""
    gc.unfreeze()  # a first connection may be older than the gateway's own gc.freeze()
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is StreamProtocol]


def buffered() -> list[int]:
    """Of every open connection."""
    return [each.buffered() for each in alive() if not each.is_closing]


EMPTY_PART = masked(frames.CONTINUATION, is_final=False)
PING_REQUEST = masked(frames.TEXT, b'{"op":"ping"}')
ATTACKS: dict[str, tuple[bytes, int]] = {
    "giant": (masked(frames.TEXT, bytes(3_000_000)), 1009),
    "giant header": (b"\x81\xff" + (1 << 62).to_bytes(8, "big"), 1009),
    "giant in parts": (
        masked(frames.TEXT, b" " * 9_000, is_final=False)
        + masked(frames.CONTINUATION, b" " * 9_000, is_final=False),
        1009,
    ),
    "endless parts": (masked(frames.TEXT, is_final=False) + EMPTY_PART * 100_000, 1009),
    "not UTF-8": (masked(frames.TEXT, b'{"op":"\xff"}'), 1007),
    "not masked": (b"\x81\x02{}", 1002),
    "reserved bits": (b"\xf1\x80abcd", 1002),
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", 1002),
    "flood of pings": (masked(frames.PING, b"x" * 125) * 50_000, CloseCode.TOO_MANY_MESSAGES),
    "flood of pongs": (masked(frames.PONG) * 50_000, CloseCode.TOO_MANY_MESSAGES),
    "flood of messages": (PING_REQUEST * 50_000, CloseCode.TOO_MANY_MESSAGES),
    "flood of junk": (masked(frames.TEXT, b"{") * 50_000, CloseCode.TOO_MANY_MESSAGES),
    "flood of everything": (
        (PING_REQUEST + masked(frames.PING) + masked(frames.PONG)) * 20_000,
        CloseCode.TOO_MANY_MESSAGES,
    ),
}


async def attack(line: Line, sent: bytes) -> int:
    async with bare(port_of(line), PATH) as client:
        writing = asyncio.create_task(client.write(sent))
        try:
            return await code_of(client)
        finally:
            writing.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writing


def test_each_attack_ends_with_its_code_and_harms_nobody(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        async with witness(line) as sees:
            attacks = [asyncio.create_task(attack(line, sent)) for sent, _ in ATTACKS.values()]
            for _ in range(5):
                await trade(line, 2)
                await sees(2)
            codes = dict(zip(ATTACKS, await asyncio.gather(*attacks), strict=True))
            assert codes == {name: code for name, (_, code) in ATTACKS.items()}
            await until_figure(line, "durian_stream_connections", 1)

    run(view_redis, tmp_path, story)


def test_endless_head_is_refused(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        async with witness(line) as sees:
            endless = "".join(f"X-{number}: y\r\n" for number in range(200_000))
            attacked = bare(port_of(line), PATH, awaits_acceptance=False, fields=endless)
            with contextlib.suppress(ConnectionError):  # it is refused while it still writes
                async with attacked as client:
                    assert (await client.read_to_end())[:13] in (b"", b"HTTP/1.1 431 ")
            await trade(line, 2)
            await sees(2)

    run(view_redis, tmp_path, story)


def test_client_that_stops_reading_is_closed_and_little_is_held_for_it(
    view_redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STALLED_SECONDS_MAX", 2)
    monkeypatch.setattr(stream_protocol, "CLOSE_SECONDS_MAX", 0.5)

    async def story(line: Line) -> None:
        port, most = port_of(line), 0
        async with witness(line) as sees, contextlib.AsyncExitStack() as stack:
            for names in ((TRADES,), ("pulse", f"ticker.{MARKET}"), (TRADES, "pulse")):
                client = await stack.enter_async_context(bare(port, PATH, receive_bytes=4_096))
                await client.write(asking(*names))
            await until_figure(line, "durian_stream_connections", 4)
            while (await figures(line)).get(closed(CloseCode.SLOW_CONSUMER), 0) < 2:
                await trade(line, 50)
                await sees(50)
                most = max([most, *buffered()])
            # Both with trades; who follows the newest values alone may not have had its 64 KiB yet.
            assert connection.LAGGING_BYTES < most <= connection.UNREAD_BYTES_MAX

    run(view_redis, tmp_path, story)


def test_newest_values_are_all_that_waits_for_a_client_that_stops_reading(
    view_redis: str, tmp_path: Path
) -> None:
    """However long it takes, and when it reads on, it is up to date with one more publication."""

    async def story(line: Line) -> None:
        async with bare(port_of(line), PATH, receive_bytes=4_096) as client, witness(line) as sees:
            await client.write(asking("pulse", f"ticker.{MARKET}"))
            await until_figure(line, 'durian_stream_subscriptions{kind="pulse"}', 1)
            while (await figures(line))["durian_stream_skipped_total"] < 20:
                await trade(line, 50)
                await sees(50)
            # At most one poll more than what makes a client a lagging one.
            assert max(buffered()) < 2 * connection.LAGGING_BYTES
            pulse: dict[str, Any] = {}
            async for _, payload in messages_of(client):
                message = msgspec.json.decode(payload)
                if message.get("ch") == "pulse":
                    assert message["offset"] > pulse.get("offset", 0)
                    pulse = message
                    if pulse["offset"] == line.engine.second:
                        break
            # It missed some, so it was told everything and not what changed.
            assert set(pulse["data"]) >= {"second", "index", "prices"}

    run(view_redis, tmp_path, story)


def test_slow_reader_gets_everything_it_is_owed(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        async with bare(port_of(line), PATH, receive_bytes=4_096) as client, witness(line) as sees:
            await client.write(asking(TRADES))
            await until_figure(line, 'durian_stream_subscriptions{kind="trades"}', 2)
            while max(buffered()) < 4 * connection.LAGGING_BYTES:
                await trade(line, 50)
                await sees(50)
            offset: int | None = None
            async for _, payload in messages_of(client, pause=0.001, chunk=2_048):
                message = msgspec.json.decode(payload)
                if message["op"] in ("snapshot", "pub"):
                    assert offset is None or message["offset"] == offset + 1
                    offset = message["offset"]
                    if offset == line.engine.state.trade_id_last:
                        break

    run(view_redis, tmp_path, story)


@pytest.mark.parametrize("how", ["silent", "vanished"])
def test_client_that_gives_no_sign_of_life_is_ended(
    view_redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(connection, "PING_SECONDS", 1)
    monkeypatch.setattr(connection, "PONG_SECONDS", 1)
    monkeypatch.setattr(stream_protocol, "CLOSE_SECONDS_MAX", 0.2)

    async def story(line: Line) -> None:
        with link(port_of(line), free_port()) as cable:
            async with witness(line) as sees, bare(cable.port, PATH) as client:
                await client.write(asking("pulse"))
                await until_figure(line, "durian_stream_connections", 2)
                if how == "vanished":
                    cable.freeze()
                await until_figure(line, closed(CloseCode.NO_PONG), 1)
                if how == "silent":
                    assert await code_of(client) == CloseCode.NO_PONG
                # The witness has said nothing either, but answers pings.
                await trade(line, 3)
                await sees(3)
                assert (await figures(line))["durian_stream_connections"] == 1

    run(view_redis, tmp_path, story)


def test_clients_that_come_and_go_at_random_leave_nothing(view_redis: str, tmp_path: Path) -> None:
    async def come_and_go(line: Line, number: int) -> None:
        port, patience = port_of(line), number % 5
        async with bare(port, PATH, awaits_acceptance=patience > 0) as client:
            if patience > 1:
                await client.write(asking(TRADES, "pulse", "mining", f"depth.{MARKET}"))
            if patience > 2:
                await client.read_some()
            if patience > 3:
                await client.write(masked(frames.CLOSE))
            (client.end if number % 2 else client.reset)()

    async def story(line: Line) -> None:
        async with witness(line) as sees:
            await until_figure(line, "durian_stream_connections", 1)
            tasks = len(asyncio.all_tasks())
            for first in range(0, 400, 50):
                visits = (come_and_go(line, number) for number in range(first, first + 50))
                await asyncio.gather(*visits, trade(line, 5))
                await sees(5)
            await until_figure(line, "durian_stream_connections", 1)
            subscribed = {
                name: count
                for name, count in (await figures(line)).items()
                if name.startswith("durian_stream_subscriptions") and count
            }
            assert subscribed == {'durian_stream_subscriptions{kind="trades"}': 1}
            await until(lambda: len(asyncio.all_tasks()) <= tasks)
            await trade(line, 1)  # until its next round, the pump still knows those of its last
            await until(lambda: len(alive()) == 1)

    run(view_redis, tmp_path, story)
