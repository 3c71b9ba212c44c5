"""StreamClient against a scripted gateway that refuses, misbehaves or is not there."""

import asyncio
import random
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from ops.backoff import Backoff
from ops.stream.client import StreamClient
from ops.stream.errors import StreamBroken, StreamFault, StreamRefused
from tests.fixtures._stream_gateway import Peer, next_change, tell, until

TRADES = "trades.DUR-CNY"


def test_a_gateway_that_always_leaves_holes_is_not_believed() -> None:
    async def gateway(peer: Peer) -> None:
        while True:
            await peer.grant()
            await peer.snapshot(TRADES, 4)
            await peer.publish(TRADES, 9)

    async def story(client: StreamClient) -> None:
        await client.subscribe(TRADES)
        with pytest.raises(StreamBroken):
            await next_change(client, "publication")
        with pytest.raises(StreamBroken):
            await client.subscribe("pulse")

    tell(story, gateway)


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        *((code, False) for code in (4000, 4001, 4499, 1001, 1011)),
        *((code, True) for code in (4500, 4999, 1007, 1009)),
    ],
)
def test_the_close_code_says_whether_to_come_back(code: int, *, ends: bool) -> None:
    async def first(peer: Peer) -> None:
        await peer.grant()
        await peer.socket.close(code, "because")

    async def second(peer: Peer) -> None:
        await peer.grant()
        await peer.snapshot("pulse", 1)
        await peer.linger()

    async def story(client: StreamClient) -> None:
        await client.subscribe("pulse")
        if not ends:
            assert (await next_change(client, "lost")).data == "because"
            await next_change(client, "snapshot")
            return
        with pytest.raises(StreamRefused) as refused:
            await next_change(client, "snapshot")
        assert (refused.value.code, refused.value.reason) == (str(code), "because")

    tell(story, first, second)


def test_refused_handshakes_are_tried_again_or_end_the_client() -> None:
    async def gateway(peer: Peer) -> None:
        await peer.grant()
        await peer.linger()

    async def story(client: StreamClient) -> None:
        await client.subscribe("pulse")
        assert (await next_change(client, "lost")).data == "HTTP status 503"

    assert tell(story, gateway, refuse=3).counts.connections == 1


def test_a_handshake_refused_for_good_ends_the_client() -> None:
    async def story() -> None:
        def answer(connection: ServerConnection, request: Request) -> Response:
            return connection.respond(403, "not from there")

        async def play(socket: ServerConnection) -> None:
            raise AssertionError("refused before")

        async with serve(play, "127.0.0.1", 0, process_request=answer) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with StreamClient(f"ws://127.0.0.1:{port}") as client:
                with pytest.raises(StreamRefused) as refused:
                    await client.subscribe("pulse")
                assert refused.value.code == "403"

    asyncio.run(story())


def test_a_gateway_without_our_subprotocol_is_refused() -> None:
    async def story() -> None:
        async def play(socket: ServerConnection) -> None:
            await socket.wait_closed()

        async with serve(play, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with StreamClient(f"ws://127.0.0.1:{port}") as client:
                with pytest.raises(StreamRefused):
                    await client.subscribe("pulse")

    asyncio.run(story())


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense"])
def test_an_address_that_is_none_ends_the_client(url: str) -> None:
    async def story() -> None:
        async with StreamClient(url) as client:
            with pytest.raises(StreamRefused):
                await client.subscribe("pulse")

    asyncio.run(story())


def test_a_channel_that_a_restarted_gateway_does_not_know_yet_is_asked_for_again() -> None:
    async def first(peer: Peer) -> None:
        await peer.grant()
        await peer.socket.close(4000, "going_away")

    async def ignorant(peer: Peer) -> None:
        asked = await peer.expect("subscribe")
        await peer.send(op="error", id=asked["id"], code="unknown_channel", message="No such.")
        await peer.linger()

    async def third(peer: Peer) -> None:
        await peer.grant()
        await peer.snapshot(TRADES, 1)
        await peer.linger()

    async def story(client: StreamClient) -> None:
        await client.subscribe(TRADES)
        assert (await next_change(client, "lost")).data == "going_away"
        assert (await next_change(client, "lost")).data == "No such."
        await next_change(client, "snapshot")

    tell(story, first, ignorant, third)


def test_a_gateway_that_does_not_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.stream.link.ANSWER_SECONDS_MAX", 0.05)

    async def mute(peer: Peer) -> None:
        await peer.expect("subscribe")
        await peer.linger()

    async def second(peer: Peer) -> None:
        await peer.grant()
        await peer.linger()

    async def story(client: StreamClient) -> None:
        await client.subscribe("pulse")

    assert tell(story, mute, second).counts.connections == 2


def test_a_refused_token_ends_the_client() -> None:
    async def gateway(peer: Peer) -> None:
        asked = await peer.expect("auth")
        await peer.send(op="error", id=asked["id"], code="unauthorized", message="Expired.")
        await peer.linger()

    async def story(client: StreamClient) -> None:
        with pytest.raises(StreamRefused) as refused:
            await client.subscribe("account")
        assert refused.value.code == "unauthorized"

    tell(story, gateway, token=lambda: "x")


def test_a_token_that_cannot_be_had_now_is_asked_for_again() -> None:
    answers: list[Any] = [OSError("away"), "good"]

    async def gateway(peer: Peer) -> None:
        asked = await peer.expect("auth")
        assert asked["token"] == "good"
        await peer.send(op="ack", id=asked["id"])
        await peer.grant()
        await peer.linger()

    def token() -> str:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return str(answer)

    async def story(client: StreamClient) -> None:
        await client.subscribe("account")

    tell(story, gateway, token=token)


def test_what_a_broken_token_source_raises_ends_the_client() -> None:
    async def story(client: StreamClient) -> None:
        with pytest.raises(KeyError):
            await client.subscribe("account")

    def token() -> str:
        raise KeyError("no such user")

    tell(story, token=token)


@pytest.mark.parametrize(
    "sent",
    [
        *("{", "[]", '{"op":"pub","ch":"pulse"}'),
        '{"op":"error","code":"invalid_message","message":"an error that answers nothing"}',
    ],
)
def test_what_cannot_be_understood_ends_the_client(sent: str) -> None:
    async def gateway(peer: Peer) -> None:
        await peer.grant()
        await peer.socket.send(sent)
        await peer.linger()

    async def story(client: StreamClient) -> None:
        await client.subscribe("pulse")
        with pytest.raises(StreamBroken):
            await next_change(client, "snapshot")

    tell(story, gateway)


def test_a_closed_client_says_so_and_wakes_who_waits() -> None:
    async def gateway(peer: Peer) -> None:
        await peer.expect("subscribe")
        await peer.linger()

    async def story(client: StreamClient) -> None:
        waiting = asyncio.create_task(client.subscribe("pulse"))
        await until(lambda: client.counts.connections > 0)
        await client.__aexit__()
        with pytest.raises(StreamFault):
            await waiting
        with pytest.raises(StopAsyncIteration):
            await anext(client)

    tell(story, gateway)


def test_losses_in_a_row_are_one_piece_of_news() -> None:
    class Counting(Backoff):
        waits = 0

        def next_s(self) -> float:
            self.waits += 1
            return 0.0

    async def story() -> None:
        backoff = Counting(random.Random(1))
        async with StreamClient("ws://127.0.0.1:9", backoff=backoff) as client:
            await until(lambda: backoff.waits >= 5)
            first = await anext(client)
            assert (first.kind, first.data) == ("lost", "no connection")
            backoff.waits = 0
            await until(lambda: backoff.waits >= 2)
            assert (await anext(client)).kind == "lost"

    asyncio.run(story())
