"""gateway.stream.connection over the real protocol and hub; only the kernel's socket is made up."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

from gateway.access import Principal
from gateway.stream.asgi_socket import EXTENSION
from gateway.stream.channels import FeedId, parse_key
from gateway.stream.connection import (
    LAGGING_BYTES,
    PING_SECONDS,
    PONG_SECONDS,
    STALLED_SECONDS_MAX,
    UNREAD_BYTES_MAX,
    WAITING_BYTES_MAX,
    Connection,
    Surroundings,
)
from gateway.stream.encodings import Encoding
from gateway.stream.figures import StreamFigures
from gateway.stream.hub import Hub, SnapshotRead
from gateway.stream.protocol import StreamProtocol
from gateway.stream.publication import Publication
from gateway.stream.pump import Pump
from gateway.stream.routes import close_slowest
from gateway.stream.session import MESSAGES_PER_SECOND_MAX, Session
from schemas.views import MARKET, MINING

ALICE = Principal(user_id="alice", role="user", expires_second=1_000)
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FEEDS = {"pulse": FeedId(MINING, 0), "trades.M": FeedId(MARKET, 0), "kline.M.1m": FeedId(MARKET, 0)}
Story = Callable[["Line"], Awaitable[None]]


class Socket(asyncio.Transport):
    """A kernel that takes everything at once, or, while it is_full, nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.held = 0
        self.is_full = False
        self.is_gone = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))
        if self.is_full:
            self.held += len(data)

    def get_write_buffer_size(self) -> int:
        return self.held

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.is_gone

    def close(self) -> None:
        self.is_gone = True

    abort = close


class Line:
    """A subscribed client's connection, from the kernel's and the hub's end."""

    def __init__(self) -> None:
        self.socket = Socket()
        self.asked: list[tuple[str, int]] = []
        self.hub = Hub(lambda channel, ticket: self.asked.append((channel.key, ticket)))
        self.pump = Pump()
        self.markets: set[str] = {"M"}
        self.may_look = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self.is_ended = False
        self.connection: Connection
        state = ServerState()
        app = Starlette(routes=[WebSocketRoute("/", self._serve)])
        config = Config(app, ws_max_size=1 << 14, lifespan="off", log_config=None)
        config.load()
        self.protocol = StreamProtocol(config, state, {})
        self.protocol.connection_made(self.socket)
        self.protocol.data_received(HANDSHAKE)
        self.handshakes = state.tasks

    async def _serve(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.connection = Connection(
            protocol=websocket.scope["extensions"][EXTENSION],
            session=Session(
                verify=lambda token: ALICE,
                has_market=self.markets.__contains__,
                principal=ALICE,
            ),
            encoding=Encoding.JSON,
            around=Surroundings(
                hub=self.hub,
                pump=self.pump,
                figures=StreamFigures(CollectorRegistry()),
                look_for_markets=self._look,
                spawn=lambda work: self.tasks.append(asyncio.create_task(work)),
                ended=lambda connection: setattr(self, "is_ended", True),
            ),
        )
        self.protocol.detach(self.connection)

    async def _look(self) -> None:
        await self.may_look.wait()

    def say(self, message: object, opcode: Opcode = Opcode.TEXT) -> None:
        self.protocol.data_received(
            Frame(opcode, msgspec.json.encode(message)).serialize(mask=True)
        )

    async def subscribe(self, *names: str) -> None:
        """And give each a snapshot at offset 0."""
        for name in names:
            self.hub.restart(FEEDS[name], "e")
        self.say({"op": "subscribe", "channels": [{"ch": name} for name in names]})
        for key, ticket in self.asked:
            self.hub.take_snapshot(key, ticket, SnapshotRead(epoch="e", offset=0, content=b"null"))
        self.asked.clear()
        await self.pump.settled()

    async def publish(self, name: str, *contents: object, first: int) -> None:
        channel = parse_key(name)
        assert channel is not None
        self.hub.deliver(
            FEEDS[name],
            [
                Publication(channel, offset, msgspec.json.encode(content))
                for offset, content in enumerate(contents, first)
            ],
        )
        await self.pump.settled()

    def stop_reading(self, size: int = LAGGING_BYTES + 1) -> None:
        self.socket.is_full, self.socket.held = True, size

    def read_on(self) -> None:
        self.socket.is_full, self.socket.held = False, 0
        self.protocol.resume_writing()

    def told(self) -> list[dict[str, Any]]:
        """Messages since the last call, in order."""
        data, found = b"".join(self.socket.writes), []
        self.socket.writes.clear()
        while data:
            size, head = data[1], 2
            if size == 126:
                size, head = int.from_bytes(data[2:4]), 4
            found.append(msgspec.json.decode(data[head : head + size]))
            data = data[head + size :]
        return found

    def close_code(self) -> int:
        """Of the Close frame that was sent last."""
        last = self.socket.writes[-1]
        assert last[0] == 0x88
        return int.from_bytes(last[2:4])


def run(story: Story) -> None:
    async def told() -> None:
        line = Line()
        pumping = asyncio.create_task(line.pump.run())
        await asyncio.gather(*line.handshakes)
        line.socket.writes.clear()
        await story(line)
        line.protocol.connection_lost(None)
        pumping.cancel()
        await asyncio.wait([pumping, *line.tasks])

    asyncio.run(told())


def test_what_comes_together_is_one_write_and_an_answer_goes_behind_it() -> None:
    async def story(line: Line) -> None:
        await line.subscribe("pulse", "trades.M")
        line.told()
        channel = parse_key("trades.M")
        assert channel is not None
        line.hub.deliver(FEEDS["trades.M"], [Publication(channel, 1, b"{}")])
        line.say({"op": "ping", "id": 1})
        assert len(line.socket.writes) == 1
        assert [message["op"] for message in line.told()] == ["pub", "pong"]

    run(story)


def test_a_client_that_lags_is_spared_old_values_and_gets_the_newest_whole() -> None:
    async def story(line: Line) -> None:
        await line.subscribe("pulse")
        await line.publish("pulse", {"a": "1", "b": "1"}, first=1)
        line.stop_reading()
        line.told()
        for offset in range(2, 5):
            await line.publish("pulse", {"a": str(offset), "b": "1"}, first=offset)
        assert line.told() == []
        line.read_on()
        (newest,) = line.told()
        assert (newest["offset"], newest["data"]) == (4, {"a": "4", "b": "1"})
        await line.publish("pulse", {"a": "5", "b": "1"}, first=5)
        (following,) = line.told()
        assert following["data"] == {"a": "5"}

    run(story)


def test_a_client_that_lags_gets_every_trade_and_every_closed_candle() -> None:
    async def story(line: Line) -> None:
        await line.subscribe("trades.M", "kline.M.1m")
        line.stop_reading()
        line.told()
        await line.publish("trades.M", {"id": 1}, {"id": 2}, first=1)
        candles: list[object] = [
            {"open_time": 1, "closed": False},
            {"open_time": 1, "closed": True},
            {"open_time": 2, "closed": False},
        ]
        await line.publish("kline.M.1m", *candles, first=1)
        assert [(told["ch"], told["offset"]) for told in line.told()] == [
            ("trades.M", 1),
            ("trades.M", 2),
            ("kline.M.1m", 2),
        ]
        line.read_on()
        (newest,) = line.told()
        assert newest["data"] == {"open_time": 2, "closed": False}

    run(story)


def test_who_lags_too_far_is_closed_and_leaves_its_channels() -> None:
    async def story(line: Line) -> None:
        await line.subscribe("trades.M")
        line.stop_reading(UNREAD_BYTES_MAX)
        assert line.connection.room() == 0
        await line.publish("trades.M", {"id": 1}, first=1)
        assert line.close_code() == 4001
        assert not line.hub.has_audience("trades.M")
        await line.publish("trades.M", {"id": 2}, first=2)
        assert line.close_code() == 4001

    run(story)


def test_a_client_that_reads_nothing_for_long_is_closed() -> None:
    async def story(line: Line) -> None:
        await line.subscribe("trades.M")
        line.stop_reading(0)
        await line.publish("trades.M", {"id": 1}, first=1)
        for _ in range(STALLED_SECONDS_MAX - 1):
            line.connection.tick(0)
        line.socket.held -= 1  # progress, however little
        for _ in range(STALLED_SECONDS_MAX):
            line.connection.tick(0)
        assert not line.protocol.is_closing
        line.connection.tick(0)
        assert line.close_code() == 4001

    run(story)


def test_a_silent_client_is_pinged_and_then_given_up() -> None:
    async def story(line: Line) -> None:
        for _ in range(PING_SECONDS):
            line.connection.tick(0)
        assert line.socket.writes == []
        line.connection.tick(0)
        assert line.socket.writes == [b"\x89\x00"]
        line.say("", Opcode.PONG)
        for _ in range(PING_SECONDS + PONG_SECONDS):
            line.connection.tick(0)
        assert not line.protocol.is_closing
        line.connection.tick(0)
        assert line.close_code() == 4003
        assert not line.is_ended
        line.protocol.connection_lost(None)
        assert line.is_ended

    run(story)


def test_an_expired_token_ends_the_connection() -> None:
    async def story(line: Line) -> None:
        line.connection.tick(ALICE.expires_second - 1)
        assert not line.protocol.is_closing
        line.connection.tick(ALICE.expires_second)
        assert line.close_code() == 4002

    run(story)


def test_messages_wait_while_the_markets_are_looked_for() -> None:
    async def story(line: Line) -> None:
        line.say({"op": "subscribe", "id": 1, "channels": [{"ch": "trades.N"}]})
        line.say({"op": "ping", "id": 2})
        line.say({"op": "subscribe", "id": 3, "channels": [{"ch": "trades.O"}]})
        line.say({"op": "ping", "id": 4})
        assert line.told() == []
        line.markets.add("N")
        line.may_look.set()
        await line.tasks[0]
        await line.tasks[1]  # the second look begins when the first is over
        told = [(message["op"], message["id"]) for message in line.told()]
        assert told == [("ack", 1), ("pong", 2), ("error", 3), ("pong", 4)]

    run(story)


def test_what_waited_for_the_markets_is_no_flood_afterwards() -> None:
    async def story(line: Line) -> None:
        line.say({"op": "subscribe", "id": 1, "channels": [{"ch": "trades.N"}]})
        for _ in range(MESSAGES_PER_SECOND_MAX - 1):
            line.say({"op": "ping"})
        line.may_look.set()
        await line.tasks[0]
        assert not line.protocol.is_closing
        assert len(line.told()) == MESSAGES_PER_SECOND_MAX

    run(story)


def test_what_waits_for_the_markets_is_bounded() -> None:
    async def story(line: Line) -> None:
        line.say({"op": "subscribe", "id": 1, "channels": [{"ch": "trades.N"}]})
        for _ in range(5):
            line.say({"op": "ping", "x": "x" * (WAITING_BYTES_MAX // 5)})
        assert line.close_code() == 4500
        line.may_look.set()
        await line.tasks[0]

    run(story)


def test_those_with_the_most_unread_go_first_when_all_have_too_much() -> None:
    async def story(line: Line) -> None:
        lines = [line, Line(), Line()]
        for each in lines[1:]:
            await asyncio.gather(*each.handshakes)
        for each, size in zip(lines, (30_000, 50_000, 20_000), strict=True):
            each.stop_reading(size)
        close_slowest([each.connection for each in lines], 60_000)
        assert [each.protocol.is_closing for each in lines] == [True, True, False]
        assert lines[1].close_code() == 4001

    run(story)


def test_a_flood_of_pings_ends_the_connection() -> None:
    async def story(line: Line) -> None:
        for _ in range(51):
            line.say("", Opcode.PING)
        assert line.close_code() == 4500

    run(story)
