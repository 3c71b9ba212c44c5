"""StreamClient against a scripted gateway: subscribing, resuming, tokens, reading on."""

import random

import pytest

from ops.backoff import Backoff
from ops.stream import client as stream_client
from ops.stream import inbox
from ops.stream.client import StreamClient
from ops.stream.codec import Encoding
from ops.stream.errors import StreamRefused
from schemas.wire import Since
from tests.fixtures._stream_gateway import Peer, next_change, tell, until

TRADES = "trades.DUR-CNY"
NOW = 1_795_345_200


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_snapshot_publications_and_news_in_both_encodings(encoding: Encoding) -> None:
    async def gateway(peer: Peer) -> None:
        limits = dict.fromkeys(
            [
                *("message_bytes", "messages_per_second", "subscriptions"),
                *("channels_per_10_seconds", "unread_bytes"),
            ],
            9,
        )
        await peer.send(
            op="hello", version=1, limits={**limits, "ping_seconds": 25, "pong_seconds": 20}
        )
        assert await peer.grant() == {TRADES: None, "pulse": None}
        await peer.send(op="later", what="a newer gateway says more")
        await peer.snapshot(TRADES, 4, {"items": []})
        await peer.publish(TRADES, 5, {"trade_id": 5, "later": 1.5})
        await peer.send(op="stale")
        await peer.send(op="fresh")
        await peer.linger()

    async def story(client: StreamClient) -> None:
        await client.subscribe(TRADES, "pulse", TRADES)
        changes = [await anext(client) for _ in range(4)]
        assert [change.kind for change in changes] == ["snapshot", "publication", "stale", "fresh"]
        assert changes[1].data == {"trade_id": 5, "later": 1.5}
        assert client.position(TRADES) == Since(epoch="a", offset=5)
        assert client.is_settled(TRADES)
        assert not client.is_settled(TRADES, "pulse")
        assert client.hello is not None
        assert client.hello.limits.ping_seconds == 25
        await client.subscribe(TRADES)  # granted before: nothing is sent

    client = tell(story, gateway, encoding=encoding)
    assert (client.counts.snapshots, client.counts.publications) == (1, 1)


def test_a_cut_client_comes_back_and_resumes() -> None:
    async def first(peer: Peer) -> None:
        await peer.grant()
        await peer.snapshot(TRADES, 4)
        await peer.publish(TRADES, 5, {"trade_id": 5})
        await peer.linger()

    async def second(peer: Peer) -> None:
        assert await peer.grant() == {TRADES: {"epoch": "a", "offset": 5}}
        await peer.publish(TRADES, 6, {"trade_id": 6})
        await peer.send(op="recovered", ch=TRADES, epoch="a", offset=6)
        await peer.linger()

    async def story(client: StreamClient) -> None:
        assert not client.cut()
        await client.subscribe(TRADES)
        await next_change(client, "publication")
        assert client.cut()
        assert (await next_change(client, "lost")).data == "connection lost"
        assert (await next_change(client, "publication")).offset == 6
        assert (await next_change(client, "recovered")).offset == 6

    client = tell(story, first, second)
    assert (client.counts.connections, client.counts.recoveries) == (2, 1)


def test_a_hole_is_asked_for_again_on_the_same_connection() -> None:
    async def gateway(peer: Peer) -> None:
        await peer.grant()
        await peer.snapshot(TRADES, 4)
        await peer.publish(TRADES, 6, {"trade_id": 6})
        await peer.publish(TRADES, 7, {"trade_id": 7})  # of the old subscription still
        assert await peer.grant() == {TRADES: {"epoch": "a", "offset": 4}}
        for offset in (5, 6, 7):
            await peer.publish(TRADES, offset, {"trade_id": offset})
        await peer.send(op="recovered", ch=TRADES, epoch="a", offset=7)
        await peer.linger()

    async def story(client: StreamClient) -> None:
        await client.subscribe(TRADES)
        seen = [await anext(client) for _ in range(5)]
        kinds = ["snapshot", "publication", "publication", "publication", "recovered"]
        assert [change.kind for change in seen] == kinds
        assert [change.offset for change in seen[1:4]] == [5, 6, 7]

    assert tell(story, gateway).counts.holes == 1


def test_a_refused_channel_is_an_error_and_the_others_go_on() -> None:
    async def gateway(peer: Peer) -> None:
        await peer.grant()
        asked = await peer.expect("subscribe")
        assert asked["channels"][0]["ch"] == "nothing"
        await peer.send(
            op="error", id=asked["id"], code="unknown_channel", message="No.", ch="nothing"
        )
        await peer.snapshot("pulse", 1)
        await peer.socket.close(4000, "")

    async def story(client: StreamClient) -> None:
        await client.subscribe("pulse")
        with pytest.raises(StreamRefused) as refused:
            await client.subscribe("nothing", "kline.DUR-CNY.1m")
        assert (refused.value.code, refused.value.channel) == ("unknown_channel", "nothing")
        await next_change(client, "lost")
        await client.ping()

    async def second_with_ping(peer: Peer) -> None:
        assert await peer.grant() == {"pulse": {"epoch": "a", "offset": 1}}
        asked = await peer.expect("ping")
        await peer.send(op="pong", id=asked["id"])
        await peer.linger()

    tell(story, gateway, second_with_ping)


def test_subscribing_survives_a_connection_that_is_lost_before_the_answer() -> None:
    async def first(peer: Peer) -> None:
        await peer.expect("subscribe")
        peer.socket.transport.abort()

    async def second(peer: Peer) -> None:
        assert await peer.grant() == {"pulse": None}
        await peer.linger()

    async def story(client: StreamClient) -> None:
        await client.subscribe("pulse")

    tell(story, first, second)


def test_unsubscribing_ends_a_channel_and_the_next_connection_leaves_it_out() -> None:
    async def first(peer: Peer) -> None:
        await peer.grant()
        await peer.snapshot(TRADES, 1)
        asked = await peer.expect("unsubscribe")
        assert asked["channels"] == [TRADES]
        await peer.publish(TRADES, 2)
        await peer.send(op="ack", id=asked["id"])
        peer.socket.transport.abort()

    async def second(peer: Peer) -> None:
        assert await peer.grant() == {"pulse": None}
        await peer.snapshot("pulse", 7)
        await peer.linger()

    async def story(client: StreamClient) -> None:
        await client.subscribe(TRADES, "pulse")
        await next_change(client, "snapshot")
        await client.unsubscribe(TRADES, "nothing")
        assert (await anext(client)).kind == "lost"
        assert (await anext(client)).channel == "pulse"

    tell(story, first, second)


def test_tokens_are_sent_first_and_renewed_before_they_expire() -> None:
    issued = iter("abcdefgh")

    async def gateway(peer: Peer) -> None:
        asked = await peer.expect("auth")
        assert asked["token"] == "a"
        await peer.send(op="ack", id=asked["id"], expires_at=NOW + 1)
        await peer.grant()
        asked = await peer.expect("auth")
        assert asked["token"] == "b"
        await peer.send(op="ack", id=asked["id"], expires_at=NOW + 3_600)
        await peer.snapshot("account", 1)
        await peer.linger()

    async def token() -> str:
        return next(issued)

    async def story(client: StreamClient) -> None:
        await client.subscribe("account")
        await next_change(client, "snapshot")

    client = tell(story, gateway, token=token, now_s=lambda: NOW)
    assert client.counts.tokens == 2


def test_a_draining_gateway_says_within_what_time_to_come_back() -> None:
    """The back-off would wait for minutes."""

    async def first(peer: Peer) -> None:
        await peer.grant()
        await peer.send(op="draining", closes_within_ms=100, reconnect_within_ms=1)
        await peer.socket.close(4000, "going_away")

    async def second(peer: Peer) -> None:
        await peer.grant()
        await peer.snapshot("pulse", 1)
        await peer.linger()

    async def story(client: StreamClient) -> None:
        await client.subscribe("pulse")
        await next_change(client, "snapshot")

    slow = Backoff(random.Random(1), first_s=600.0, longest_s=600.0)
    tell(story, first, second, backoff=slow)


def test_a_full_inbox_stops_the_reading_but_not_the_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inbox, "CHANGES_MAX", 5)
    sent = 400

    async def gateway(peer: Peer) -> None:
        await peer.grant()
        await peer.snapshot(TRADES, 0)
        for offset in range(1, sent + 1):
            await peer.publish(TRADES, offset, {"trade_id": offset})
        await peer.grant()
        await peer.linger()

    async def story(client: StreamClient) -> None:
        await client.subscribe(TRADES)
        await until(lambda: client.counts.publications >= 4)
        assert client.counts.publications < sent
        await client.subscribe("pulse")
        assert client.counts.publications == sent
        assert (await anext(client)).kind == "snapshot"
        offsets = [(await anext(client)).offset for _ in range(sent)]
        assert offsets == list(range(1, sent + 1))

    tell(story, gateway)


def test_back_off_is_fully_jittered_by_default() -> None:
    client = StreamClient("ws://127.0.0.1:9", rng=random.Random(5))
    waits = [client._backoff.next_s() for _ in range(200)]
    assert max(waits) <= stream_client.BACKOFF_LONGEST_S
    assert min(waits[5:]) < stream_client.BACKOFF_LONGEST_S / 10
