"""gateway.stream.protocol under real uvicorn and uvloop: the websockets client and bare sockets."""

import asyncio
import gc
import logging

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from gateway.stream import frames
from gateway.stream import protocol as stream_protocol
from gateway.stream.asgi_socket import AsgiSocket
from gateway.stream.protocol import StreamProtocol
from tests.fixtures._bare_client import bare, masked
from tests.fixtures._served_protocol import MESSAGE_BYTES_MAX, Served, close_of, run, until

# -- open connections -----------------------------------------------------------------------------


def test_accepts_with_subprotocol_and_headers_and_passes_messages_both_ways() -> None:
    async def story(served: Served) -> None:
        async with connect(served.url(), subprotocols=[Subprotocol("a"), Subprotocol("b")]) as ws:
            assert ws.subprotocol == "a"
            assert ws.response is not None
            assert ws.response.headers["x-mark"] == "here"
            assert "date" in ws.response.headers
            recorder = await served.recorder()
            await ws.send("é")
            await ws.send([b"in ", b"three ", b"parts"])
            await until(lambda: len(recorder.messages) == 2)
            assert recorder.messages == ["é", b"in three parts"]
            text, binary = frames.frame(frames.TEXT, b"1"), frames.frame(frames.BINARY, b"2")
            recorder.protocol.write(text + binary)
            assert [await ws.recv(), await ws.recv()] == ["1", b"2"]

    run(story)


def test_pings_are_answered_and_pongs_noticed() -> None:
    async def story(served: Served) -> None:
        async with connect(served.url(), ping_interval=None) as ws:
            recorder = await served.recorder()
            await (await ws.ping(b"there?"))
            assert recorder.controls == 1
            recorder.protocol.heard = False
            recorder.protocol.ping()
            await until(lambda: recorder.controls == 2)
            assert recorder.protocol.heard

    run(story)


def test_messages_that_come_before_detaching_are_not_lost() -> None:
    async def story(served: Served) -> None:
        async with bare(served.port, "/detached?late=1") as client:
            await until(lambda: served.waiting == 1)
            early = b"".join(masked(frames.TEXT, b"%d" % number) for number in range(200))
            await client.write(early + masked(frames.PING))
            assert await client.read(2) == frames.frame(frames.PONG, b"")
            served.gate.set()
            recorder = await served.recorder()
            assert recorder.messages == [str(number) for number in range(200)]
            await client.write(masked(frames.TEXT, b"later"))
            await until(lambda: recorder.messages[200:] == ["later"])

    run(story)


def alive(kind: type) -> int:
    return sum(type(each) is kind for each in gc.get_objects())


def test_detached_connection_keeps_little_and_is_freed_without_the_collector() -> None:
    async def story(served: Served) -> None:
        gc.collect()
        gc.disable()
        try:
            async with connect(served.url()), bare(served.port, "/detached") as other:
                recorder = await served.recorder(1)
                await until(lambda: not served.server.server_state.tasks)
                assert (alive(AsgiSocket), alive(StreamProtocol)) == (0, 2)
                assert not hasattr(recorder.protocol, "__dict__")
                other.reset()
            await until(lambda: not served.server.server_state.connections)
            del recorder
            served.recorders.clear()
            await until(lambda: alive(StreamProtocol) == 0)
        finally:
            gc.enable()

    run(story)


def test_slow_reader_is_buffered_for_and_writable_again() -> None:
    async def story(served: Served) -> None:
        async with bare(served.port, "/detached", receive_bytes=4_096) as client:
            recorder = await served.recorder()
            protocol, block = recorder.protocol, frames.frame(frames.BINARY, bytes(60_000))
            count = 0
            while protocol.buffered() <= stream_protocol.WRITE_HIGH_BYTES:
                protocol.write(block)
                count += 1
            # Bounded by what the kernel holds for a slow reader, not by the reader.
            assert count < 10
            assert recorder.writables == 0
            await client.read(count * len(block))
            await until(lambda: recorder.writables == 1)
            await until(lambda: protocol.buffered() == 0)

    run(story)


def test_pings_of_a_client_that_does_not_read_are_not_answered_for_ever() -> None:
    async def story(served: Served) -> None:
        async with bare(served.port, "/detached", receive_bytes=4_096) as client:
            recorder = await served.recorder()
            recorder.protocol.write(frames.frame(frames.BINARY, bytes(500_000)))
            buffered = recorder.protocol.buffered()
            assert buffered > stream_protocol.WRITE_HIGH_BYTES
            await client.write(masked(frames.PING, bytes(125)) * 2_000)
            await until(lambda: recorder.controls == 2_000)
            assert recorder.protocol.buffered() <= buffered

    run(story)


# -- ends -----------------------------------------------------------------------------------------


def test_client_closes() -> None:
    async def story(served: Served) -> None:
        async with connect(served.url()) as ws:
            await ws.close(4321, "enough")
            assert ws.close_code == 4321
        recorder = await served.recorder()
        await until(lambda: recorder.codes == [4321])
        assert recorder.protocol.is_closing
        assert not served.server.server_state.connections

    run(story)


def test_close_without_a_code_is_1005() -> None:
    async def story(served: Served) -> None:
        async with bare(served.port, "/detached") as client:
            await client.write(masked(frames.CLOSE))
            assert await client.read_to_end() == b"\x88\x00"
        recorder = await served.recorder()
        await until(lambda: recorder.codes == [1005])

    run(story)


def test_owner_closes() -> None:
    async def story(served: Served) -> None:
        async with connect(served.url()) as ws:
            recorder = await served.recorder()
            recorder.protocol.close(4001, "slow_consumer")
            recorder.protocol.close(4002, "another")
            recorder.protocol.write(frames.frame(frames.TEXT, b"late"))
            recorder.protocol.ping()
            assert await close_of(ws) == (4001, "slow_consumer")
        await until(lambda: recorder.codes == [4001])
        recorder.protocol.write(b"gone")
        recorder.protocol.close(4003)
        recorder.protocol.abort()
        assert recorder.protocol.buffered() == 0

    run(story)


@pytest.mark.parametrize("reads", [True, False])
def test_close_that_is_not_answered_ends_all_the_same(
    reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_protocol, "CLOSE_SECONDS_MAX", 0.2)

    async def story(served: Served) -> None:
        async with bare(served.port, "/detached", receive_bytes=4_096) as client:
            recorder = await served.recorder()
            if not reads:
                recorder.protocol.write(frames.frame(frames.BINARY, bytes(500_000)))
                assert recorder.protocol.buffered() > 0
            recorder.protocol.close(4000)
            assert recorder.codes == []
            await until(lambda: recorder.codes == [4000])
            if reads:
                assert await client.read_to_end() == b"\x88\x02\x0f\xa0"

    run(story)


def test_client_that_closes_without_reading_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_protocol, "CLOSE_SECONDS_MAX", 0.2)

    async def story(served: Served) -> None:
        async with bare(served.port, "/detached", receive_bytes=4_096) as client:
            recorder = await served.recorder()
            recorder.protocol.write(frames.frame(frames.BINARY, bytes(500_000)))
            await client.write(masked(frames.CLOSE, (1000).to_bytes(2, "big")))
            await until(lambda: recorder.codes == [1000])

    run(story)


@pytest.mark.parametrize("how", ["end", "reset", "abort", "half-end"])
def test_end_without_a_close_is_1006(how: str) -> None:
    async def story(served: Served) -> None:
        async with bare(served.port, "/detached") as client:
            recorder = await served.recorder()
            if how == "reset":
                client.reset()
            elif how == "end":
                client.end()
            elif how == "half-end":
                client.end_writing()
            else:
                recorder.protocol.abort()
                recorder.protocol.abort()
            await until(lambda: recorder.codes == [1006])
            assert recorder.protocol.is_closing
            recorder.protocol.write(b"gone")
            assert recorder.protocol.buffered() == 0

    run(story)


def test_writing_to_a_peer_that_was_reset_just_now_is_no_error() -> None:
    async def story(served: Served) -> None:
        async with bare(served.port, "/detached") as client:
            recorder = await served.recorder()
            client.reset()
            # Nothing has been awaited: the transport finds out while it writes.
            for _ in range(3):
                recorder.protocol.write(frames.frame(frames.BINARY, bytes(1_000)))
                assert recorder.protocol.buffered() >= 0
            recorder.protocol.close(4001)
            recorder.protocol.abort()
            await until(lambda: len(recorder.codes) == 1)

    run(story)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (masked(frames.TEXT, b"\xff"), 1007),
        (b"\x81\x01a", 1002),
        (masked(frames.BINARY, bytes(MESSAGE_BYTES_MAX + 1)), 1009),
        (masked(frames.BINARY, bytes(4_000_000)), 1009),
    ],
)
def test_broken_protocol_is_closed_with_its_code(sent: bytes, code: int) -> None:
    """Even if much is still under way: the Close is not lost to a reset."""

    async def story(served: Served) -> None:
        async with bare(served.port, "/detached") as client:
            recorder = await served.recorder()
            await client.write(masked(frames.TEXT, b"fine") + sent + masked(frames.TEXT, b"late"))
            (close,) = frames_of(await client.read_to_end())
            assert not client.was_reset
            assert int.from_bytes(close[:2], "big") == code
            client.end()
            await until(lambda: recorder.codes == [code])
            assert recorder.messages == ["fine"]

    run(story)


def frames_of(data: bytes) -> list[bytes]:
    """The payloads of short frames."""
    found = []
    while data:
        found.append(data[2 : 2 + data[1]])
        data = data[2 + data[1] :]
    return found


def test_owner_that_closes_receives_no_more() -> None:
    async def story(served: Served) -> None:
        async with bare(served.port, "/detached") as client:
            recorder = await served.recorder()

            def close_at_third(message: str | bytes) -> None:
                recorder.messages.append(message)
                if len(recorder.messages) == 3:
                    recorder.protocol.close(4500)

            recorder.on_message = close_at_third
            flood = (masked(frames.TEXT, b"x") + masked(frames.PING)) * 1_000
            answer = (1000).to_bytes(2, "big")
            await client.write(flood + masked(frames.CLOSE, answer))
            await client.read_to_end()
            await until(lambda: recorder.codes == [4500])
            assert (len(recorder.messages), recorder.controls) == (3, 2)

    run(story)


def test_flood_after_a_close_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_protocol, "CLOSE_SECONDS_MAX", 0.5)

    async def story(served: Served) -> None:
        async with bare(served.port, "/detached") as client:
            recorder = await served.recorder()
            recorder.protocol.close(4500)
            loop = asyncio.get_running_loop()
            began = loop.time()
            enough = stream_protocol.LATE_BYTES_MAX // 6 + 1
            # The Close at its end is not found any more: the connection ends by the deadline.
            await client.write(masked(frames.PING) * enough)
            await client.write(masked(frames.CLOSE))
            await until(lambda: recorder.codes == [4500])
            assert loop.time() - began >= 0.5

    run(story)


def test_client_that_leaves_before_detaching_is_told_as_ended() -> None:
    async def story(served: Served) -> None:
        async with bare(served.port, "/detached?late=1") as client:
            await until(lambda: served.waiting == 1)
            client.reset()
        await until(lambda: not served.server.server_state.connections)
        served.gate.set()
        recorder = await served.recorder()
        assert recorder.codes == [1006]

    run(story)


def test_client_that_leaves_before_acceptance_leaves_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(served: Served) -> None:
        async with bare(served.port, "/detached?before=1", awaits_acceptance=False) as client:
            await until(lambda: served.waiting == 1)
            client.reset()
        await until(lambda: not served.server.server_state.connections)
        served.gate.set()
        await until(lambda: not served.server.server_state.tasks)
        assert served.recorders == []

    with caplog.at_level(logging.WARNING):
        run(story)
    assert caplog.records == []


def test_application_that_fails_after_detaching_closes_with_1011(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(served: Served) -> None:
        async with connect(served.url("/detached?broken=1")) as ws:
            assert (await close_of(ws))[0] == 1011
        recorder = await served.recorder()
        await until(lambda: recorder.codes == [1011])

    run(story)
    assert "Exception in ASGI application" in caplog.text


def test_server_that_stops_closes_with_1012(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_protocol, "CLOSE_SECONDS_MAX", 600.0)

    async def story(served: Served) -> None:
        async with connect(served.url()) as ws, bare(served.port, "/detached") as silent:
            recorders = [await served.recorder(0), await served.recorder(1)]
            served.server.should_exit = True
            assert (await close_of(ws))[0] == 1012
            assert frames_of(await silent.read_to_end()) == [(1012).to_bytes(2, "big")]
            silent.end()
            await until(lambda: [each.codes for each in recorders] == [[1012], [1012]])

    run(story)


def test_server_that_stops_refuses_whom_it_has_not_accepted() -> None:
    async def story(served: Served) -> None:
        path = "/detached?before=1"
        async with bare(served.port, path, awaits_acceptance=False) as client:
            await until(lambda: served.waiting == 1)
            served.server.should_exit = True
            assert (await client.read_to_end()).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")

    run(story)
