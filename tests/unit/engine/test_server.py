"""The command port over real TCP: frames however they are cut, and answers matched by id."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from domain.matching import STEPS_MAX
from engine.server import serve
from schemas import commands, frames
from schemas.events import OrderCancelled, TradeExecuted
from schemas.rejections import RejectionCode
from tests.unit.domain.scenario import MARKET
from tests.unit.engine.engine_line import DEADLINE_SECONDS, Line, deposit, told

_decoder: msgspec.json.Decoder[frames.Reply] = msgspec.json.Decoder(frames.Reply)


class Gateway:
    """A connection to the engine that speaks bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, request_id: int, command: commands.Command) -> None:
        self.writer.write(_frame(request_id, command))

    async def reply(self) -> frames.Reply:
        async with asyncio.timeout(DEADLINE_SECONDS):
            (length,) = frames.LENGTH.unpack(await self.reader.readexactly(4))
            return _decoder.decode(await self.reader.readexactly(length))


def _frame(request_id: int, command: Any) -> bytes:
    return frames.pack_frame(msgspec.json.encode({"id": request_id, "command": command}))


@contextlib.asynccontextmanager
async def _connected(line: Line | None = None) -> AsyncIterator[Gateway]:
    async with (line or Line()).running() as running:
        server = await serve(running.sequencer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.number)
        try:
            yield Gateway(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()
            await server.close()


def test_pipelined_requests_are_answered_in_the_order_of_the_log() -> None:
    async def story() -> None:
        async with _connected() as gateway:
            sent = b"".join(_frame(number, deposit(f"r{number}")) for number in range(200))
            gateway.writer.write(sent)
            replies = [await gateway.reply() for _ in range(200)]
        assert [reply.id for reply in replies] == list(range(200))
        positions = [r.last_position for r in replies if isinstance(r, frames.Accepted)]
        # The first deposit opens the account too.
        assert positions == list(range(7, 207))

    told(story())


def test_frames_may_arrive_byte_by_byte() -> None:
    async def story() -> None:
        async with _connected() as gateway:
            sent = _frame(1, deposit("r1")) + _frame(2, deposit("r1"))
            for at in range(len(sent)):
                gateway.writer.write(sent[at : at + 1])
                await gateway.writer.drain()
                await asyncio.sleep(0)
            accepted, refused = await gateway.reply(), await gateway.reply()
        assert isinstance(accepted, frames.Accepted)
        assert [str(event.__struct_config__.tag) for event in accepted.events] == [
            "account_opened", "funds_deposited",
        ]  # fmt: skip
        assert isinstance(refused, frames.Refused)
        assert (refused.id, refused.rejection.code) == (2, RejectionCode.DUPLICATE_REFERENCE)

    told(story())


@pytest.mark.parametrize(
    ("body", "request_id", "complaint"),
    [
        (b"", None, "truncated"),
        (b"{", None, "truncated"),
        (b"[]", None, "Expected `object`"),
        (b'{"id":"7"}', None, "Expected `int`"),
        (b'{"id":7}', 7, "missing required field `command`"),
        (b'{"id":7,"command":{"type":"nonsense"}}', 7, "Invalid value 'nonsense'"),
        (b'{"id":7,"command":{"type":"open_account","user_id":"a","x":1}}', 7, "unknown field `x`"),
        (b'{"id":7,"command":{"type":"open_account","user_id":"\xff"}}', 7, "codec can't decode"),
        (b'{"id":"\xff"}', None, "Expected `int`"),
        (b'{"command":' + b"[" * 200_000 + b"]" * 200_000 + b"}", None, "Expected `object`"),
    ],
)  # fmt: skip
def test_an_unreadable_request_is_told_and_the_connection_lives_on(
    body: bytes, request_id: int | None, complaint: str
) -> None:
    async def story() -> None:
        async with _connected() as gateway:
            gateway.writer.write(frames.pack_frame(body))
            malformed = await gateway.reply()
            gateway.send(8, deposit("r"))
            accepted = await gateway.reply()
        assert isinstance(malformed, frames.Malformed)
        assert malformed.id == request_id
        assert complaint in malformed.message
        assert isinstance(accepted, frames.Accepted)

    told(story())


def test_a_giant_frame_is_told_and_closes_the_connection() -> None:
    async def story() -> None:
        async with _connected() as gateway:
            gateway.writer.write(frames.LENGTH.pack(frames.FRAME_BYTES_MAX + 1) + b"{")
            malformed = await gateway.reply()
            assert isinstance(malformed, frames.Malformed)
            assert malformed.message == "frame of 4194305 bytes; at most 4194304"
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert await gateway.reader.read() == b""

    told(story())


def test_a_gateway_that_left_does_not_disturb_the_others() -> None:
    async def story() -> None:
        line = Line()
        async with _connected(line) as gateway:
            port = gateway.writer.get_extra_info("peername")[1]
            _, leaving = await asyncio.open_connection("127.0.0.1", port)
            leaving.write(_frame(1, deposit("r1")))
            leaving.close()
            await leaving.wait_closed()
            gateway.send(2, deposit("r2"))
            assert isinstance(await gateway.reply(), frames.Accepted)

    told(story())


def test_a_slow_gateway_gets_every_answer() -> None:
    """More answers than the sockets' buffers hold: the engine stops reading, then goes on."""

    async def story() -> None:
        async with _connected() as gateway:
            numbers = range(30_000)
            for number in numbers:
                gateway.send(number, deposit(f"{number:064}", f"{number:064}"))
            async with asyncio.timeout(DEADLINE_SECONDS):
                replies = [await gateway.reply() for _ in numbers]
        assert sorted(reply.id for reply in replies if reply.id is not None) == list(numbers)
        codes = {r.rejection.code for r in replies if isinstance(r, frames.Refused)}
        assert codes <= {RejectionCode.OVERLOADED}

    told(story())


def test_the_largest_sweep_is_answered_in_one_frame() -> None:
    """An order meets at most STEPS_MAX others, so its answer always fits."""

    async def story() -> None:
        makers = [f"maker-{number:058}" for number in range(6)]
        async with _connected() as gateway:
            for number, user_id in enumerate((*makers, "taker")):
                for asset_id in ("DUR", "CNY"):
                    command = commands.DepositFunds(
                        user_id=user_id,
                        asset_id=asset_id,
                        amount_minor=10**36,
                        reference=f"{user_id}-{asset_id}"[-64:],
                    )
                    gateway.send(number, command)
            for number in range(STEPS_MAX + 200):
                gateway.send(
                    number, _limit(makers[number % len(makers)], "sell", f"s{number}", 1_000)
                )
            wanted = 1_000 * (STEPS_MAX + 200)
            gateway.send(1, _limit("taker", "buy", "sweep", wanted))
            replies = [await gateway.reply() for _ in range(14 + STEPS_MAX + 201)]
        assert all(isinstance(reply, frames.Accepted) for reply in replies)
        sweep = replies[-1]
        assert isinstance(sweep, frames.Accepted)
        trades = [event for event in sweep.events if isinstance(event, TradeExecuted)]
        assert len(trades) == STEPS_MAX
        left = sweep.events[-1]
        assert isinstance(left, OrderCancelled)
        assert (left.reason, left.leaves_minor) == ("unfilled", 200_000)

    told(story())


def _limit(user_id: str, side: str, client_order_id: str, quantity: int) -> commands.PlaceOrder:
    return commands.PlaceOrder(
        user_id=user_id,
        client_order_id=client_order_id,
        market_id=MARKET,
        side="buy" if side == "buy" else "sell",
        order_type="limit",
        price_minor=100,
        quantity_minor=quantity,
    )


def test_closing_sends_what_is_answered_and_hangs_up() -> None:
    async def story() -> None:
        async with Line().running() as line, asyncio.timeout(DEADLINE_SECONDS):
            server = await serve(line.sequencer, "127.0.0.1", 0)
            port = server.number
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            gateway = Gateway(reader, writer)
            gateway.send(1, deposit("r"))
            assert isinstance(await gateway.reply(), frames.Accepted)
            await server.close()
            assert await reader.read() == b""
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port)
            writer.close()

    told(story())
