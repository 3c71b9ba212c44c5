"""/v1/stream over real uvicorn, Redis and folds, with the websockets client."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.stream.close_codes import CloseCode
from schemas.commands import OpenMarket
from schemas.views import HOME_DB
from schemas.wire import SUBPROTOCOL_JSON
from tests.fixtures._gateway_line import DEADLINE_SECONDS, Line, receive, running_line, send
from tests.fixtures._live_views import rebuilt
from tests.fixtures._traded_line import MARKET, place

pytestmark = pytest.mark.services
Story = Callable[[Line], Awaitable[None]]


def run(view_redis: str, directory: Path, story: Story) -> None:
    async def told() -> None:
        async with running_line(view_redis, directory, ("stream",)) as line:
            await story(line)

    asyncio.run(told())


def trade(line: Line, number: int) -> None:
    """One trade between two funded users, and the second in which it happens."""
    place(line, "maker", "sell", number)
    place(line, "taker", "buy", number)
    line.engine.pass_seconds(1)


async def subscribe(
    ws: ClientConnection, *names: str, since: dict[str, dict[str, object]] | None = None
) -> None:
    asked = [
        {"ch": name, **({"since": (since or {})[name]} if name in (since or {}) else {})}
        for name in names
    ]
    await send(ws, {"op": "subscribe", "id": 1, "channels": asked})
    assert (await receive(ws, "ack"))["id"] == 1


async def close_code(ws: ClientConnection) -> int:
    """Read until the gateway closes."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        try:
            while True:
                await ws.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code


def test_snapshot_then_publications_on_every_channel(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        line.fund("maker", "taker")
        trade(line, 1)
        await line.views.project()
        names = ["pulse", "mining", f"ticker.{MARKET}", f"trades.{MARKET}", f"burns.{MARKET}"]
        names += [f"kline.{MARKET}.{interval}" for interval in ("1m", "1h", "1d", "1w")]
        async with connect(line.urls["stream"], subprotocols=[Subprotocol(SUBPROTOCOL_JSON)]) as ws:
            assert ws.subprotocol == SUBPROTOCOL_JSON
            await subscribe(ws, *names)
            snapshots: dict[str, dict[str, Any]] = {}
            while len(snapshots) < len(names):
                snapshot = await receive(ws, "snapshot")
                snapshots[snapshot["ch"]] = snapshot
            assert {snapshot["epoch"] for snapshot in snapshots.values()} == {"first"}
            assert snapshots["pulse"]["offset"] == line.engine.second
            assert len(snapshots[f"trades.{MARKET}"]["data"]["items"]) == 1
            assert snapshots[f"burns.{MARKET}"]["data"]["cumulative"] == "0.00100000"
            assert snapshots[f"kline.{MARKET}.1m"]["data"]["trade_count"] == 1
            trade(line, 2)
            line.engine.pass_seconds(60)
            await line.views.project()
            offsets: dict[str, int] = {name: shot["offset"] for name, shot in snapshots.items()}
            told: set[str] = set()
            while told != set(names) - {f"kline.{MARKET}.{i}" for i in ("1h", "1d", "1w")}:
                pub = await receive(ws, "pub")
                name = pub["ch"]
                told.add(name)
                expected = line.engine.second if name == "pulse" else offsets[name] + 1
                assert pub["offset"] == expected, name
                offsets[name] = pub["offset"]
                told -= {f"kline.{MARKET}.{interval}" for interval in ("1h", "1d", "1w")}

    run(view_redis, tmp_path, story)


def test_account_needs_a_token_and_shows_every_change(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        line.fund("maker", "taker")
        await line.views.project()
        async with connect(line.urls["stream"]) as ws:
            await send(ws, {"op": "subscribe", "id": 7, "channels": [{"ch": "account"}]})
            error = await receive(ws, "error")
            assert (error["id"], error["code"], error["ch"]) == (7, "unauthorized", "account")
            await send(ws, {"op": "auth", "id": 8, "token": "nonsense"})
            assert (await receive(ws, "error"))["code"] == "unauthorized"
            await send(ws, {"op": "auth", "id": 9, "token": line.token("taker")})
            ack = await receive(ws, "ack")
            assert ack["id"] == 9
            assert ack["expires_at"] > 0
            await subscribe(ws, "account")
            snapshot = await receive(ws, "snapshot", "account")
            assert snapshot["data"]["user_id"] == "taker"
            trade(line, 1)
            await line.views.project()
            pub = await receive(ws, "pub", "account")
            held = {held["asset"]: held for held in pub["data"]["balances"]}
            assert held["DUR"]["available"] == "1000000.99900000"
            assert pub["offset"] > snapshot["offset"]
        header = {"authorization": f"Bearer {line.token('maker')}"}
        async with connect(line.urls["stream"], additional_headers=header) as ws:
            await subscribe(ws, "account")
            assert (await receive(ws, "snapshot"))["data"]["user_id"] == "maker"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(
                line.urls["stream"], additional_headers={"authorization": "Bearer x"}
            ):
                pass
        assert refused.value.response.status_code == 401

    run(view_redis, tmp_path, story)


def test_resume_gives_exactly_what_was_missed(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        line.fund("maker", "taker")
        name = f"trades.{MARKET}"
        async with connect(line.urls["stream"]) as ws, connect(line.urls["stream"]) as watcher:
            await subscribe(ws, name)
            await subscribe(watcher, name)
            await receive(watcher, "snapshot")
            last = await receive(ws, "snapshot")
            epoch = last["epoch"]
            for number in range(1, 4):
                trade(line, number)
            await line.views.project()
            undisturbed = [await receive(watcher, "pub") for _ in range(3)]
            await ws.close()
            async with connect(line.urls["stream"]) as again:
                await subscribe(again, name, since={name: {"epoch": epoch, "offset": 1}})
                assert [await receive(again, "pub") for _ in range(2)] == undisturbed[1:]
                recovered = await receive(again, "recovered")
                assert (recovered["epoch"], recovered["offset"]) == (epoch, 3)
                trade(line, 4)
                await line.views.project()
                assert await receive(again, "pub") == await receive(watcher, "pub")
                other = {"epoch": "gone", "offset": 1}
                await subscribe(again, name, since={name: other})
                snapshot = await receive(again, "snapshot")
                assert (snapshot["offset"], len(snapshot["data"]["items"])) == (4, 4)

    run(view_redis, tmp_path, story)


def test_new_epoch_and_emptied_redis_bring_fresh_snapshots(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        line.fund("maker", "taker")
        trade(line, 1)
        await line.views.project()
        names = ("pulse", f"kline.{MARKET}.1m", "account")
        header = {"authorization": f"Bearer {line.token('maker')}"}
        async with connect(line.urls["stream"], additional_headers=header) as ws:
            await subscribe(ws, *names)
            first = {(await receive(ws, "snapshot"))["ch"] for _ in names}
            assert first == set(names)
            await line.rebuild_views("second")
            again = [await receive(ws, "snapshot") for _ in names]
            assert {shot["ch"] for shot in again} == set(names)
            assert {shot["epoch"] for shot in again} == {"second"}
            line.engine.pass_seconds(1)
            await line.views.project()
            assert (await receive(ws, "pub", "pulse"))["offset"] == line.engine.second

    run(view_redis, tmp_path, story)


def test_switch_of_generations_brings_fresh_snapshots_and_what_follows(
    view_redis: str, tmp_path: Path
) -> None:
    """At once, because the switch wakes the readers of the generation that is left."""

    async def story(line: Line) -> None:
        line.fund("maker", "taker")
        trade(line, 1)
        await line.views.project()
        names = ("pulse", f"trades.{MARKET}", "account")
        header = {"authorization": f"Bearer {line.token('maker')}"}
        async with connect(line.urls["stream"], additional_headers=header) as ws:
            await subscribe(ws, *names)
            before = {shot["ch"]: shot for shot in [await receive(ws, "snapshot") for _ in names]}
            for projection in HOME_DB:
                assert (await rebuilt(projection, view_redis, line.engine.log)).switched
            after = {shot["ch"]: shot for shot in [await receive(ws, "snapshot") for _ in names]}
            for name in names:
                assert after[name]["epoch"] != before[name]["epoch"]
                assert after[name]["offset"] == before[name]["offset"]
                assert after[name]["data"] == before[name]["data"]
            trade(line, 2)
            line.engine.pass_seconds(1)
            await line.views.project()
            following: dict[str, int] = {}
            while {"pulse", f"trades.{MARKET}"} - set(following):
                publication = await receive(ws, "pub")
                following.setdefault(publication["ch"], publication["offset"])
            assert following["pulse"] > after["pulse"]["offset"]
            assert following[f"trades.{MARKET}"] == after[f"trades.{MARKET}"]["offset"] + 1

    run(view_redis, tmp_path, story)


def test_connections_outlive_a_redis_that_drops_everyone(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        async with connect(line.urls["stream"]) as ws:
            await subscribe(ws, "pulse")
            await receive(ws, "snapshot")
            with redis.Redis.from_url(view_redis) as client:
                client.client_kill_filter(_type="normal", skipme=True)
            await line.views.close()
            line.engine.pass_seconds(1)
            await line.views.project()
            assert (await receive(ws, "pub"))["offset"] == line.engine.second

    run(view_redis, tmp_path, story)


def test_joining_in_a_stream_of_publications_misses_and_repeats_nothing(
    view_redis: str, tmp_path: Path
) -> None:
    async def story(line: Line) -> None:
        line.fund("maker", "taker")
        name, total = f"trades.{MARKET}", 60
        due = {number: asyncio.Event() for number in range(1, total + 1)}

        async def follow(start: int) -> list[int]:
            async with connect(line.urls["stream"]) as ws:
                await due[start].wait()
                await subscribe(ws, name)
                snapshot = await receive(ws, "snapshot")
                ids = [item["trade_id"] for item in snapshot["data"]["items"]]
                assert snapshot["offset"] == (ids[-1] if ids else 0)
                while not ids or ids[-1] < total:
                    pub = await receive(ws, "pub")
                    assert pub["offset"] == pub["data"]["trade_id"]
                    ids.append(pub["data"]["trade_id"])
                return ids

        followers = [asyncio.create_task(follow(number)) for number in due]
        for number in range(1, total + 1):
            due[number].set()
            trade(line, number)
            await line.views.project()
        for ids in await asyncio.gather(*followers):
            assert ids == list(range(total - len(ids) + 1, total + 1))

    run(view_redis, tmp_path, story)


def test_a_market_of_this_moment_can_be_subscribed_to(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        async with connect(line.urls["stream"]) as ws:
            for number in range(5):
                opened = OpenMarket(
                    market_id=f"M-{number}",
                    base_asset="DUR",
                    quote_asset="CNY",
                    tick_minor=10**4,
                    lot_minor=10**4,
                )
                line.engine.accept(opened)
                await line.views.project()
                channel = {"ch": f"trades.M-{number}"}
                await send(ws, {"op": "subscribe", "id": number, "channels": [channel]})
                answer = msgspec.json.decode(await ws.recv())
                while answer["op"] in ("hello", "snapshot", "pub"):
                    answer = msgspec.json.decode(await ws.recv())
                assert answer == {"op": "ack", "id": number}

    run(view_redis, tmp_path, story)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", "invalid_message"),
        ("[]", "invalid_message"),
        ('{"op":"subscribe","id":3}', "invalid_message"),
        ('{"op":"dance","id":3}', "unknown_op"),
        ('{"op":"subscribe","id":3,"channels":[{"ch":"nothing"}]}', "unknown_channel"),
        ('{"op":"subscribe","id":3,"channels":[{"ch":"trades.X-Y"}]}', "unknown_channel"),
        ('{"op":"unsubscribe","id":3,"channels":["pulse"]}', "not_subscribed"),
        (b"\xff\xfe", "invalid_message"),
    ],
)
def test_junk_is_answered_and_the_connection_stays(
    view_redis: str, tmp_path: Path, sent: str | bytes, code: str
) -> None:
    async def story(line: Line) -> None:
        async with connect(line.urls["stream"]) as ws:
            await ws.send(sent)
            assert (await receive(ws, "error"))["code"] == code
            await send(ws, {"op": "ping", "id": 5, "later": "fields are ignored"})
            assert (await receive(ws, "pong"))["id"] == 5

    run(view_redis, tmp_path, story)


def test_floods_and_giants_are_closed_with_their_code(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        async with connect(line.urls["stream"]) as ws:
            for number in range(200):
                await send(ws, {"op": "ping", "id": number})
            assert await close_code(ws) == CloseCode.TOO_MANY_MESSAGES
        async with connect(line.urls["stream"]) as ws:
            await ws.send("x" * 100_000)
            assert await close_code(ws) == 1009
        async with connect(line.urls["stream"]) as ws:
            await ws.send(b"\xff", text=True)
            assert await close_code(ws) == 1007

    run(view_redis, tmp_path, story)


def test_a_slow_consumer_is_closed_and_others_are_not(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        line.fund("maker", "taker")
        name = f"trades.{MARKET}"
        host, port = line.urls["stream"].removeprefix("ws://").split("/")[0].split(":")
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        narrow.connect((host, int(port)))
        narrow.setblocking(False)
        async with (
            connect(line.urls["stream"], sock=narrow, max_queue=1) as slow,
            connect(line.urls["stream"]) as quick,
        ):
            await subscribe(slow, name)
            await subscribe(quick, name)
            await receive(slow, "snapshot")
            await receive(quick, "snapshot")
            for number in range(1, 6_001):
                trade(line, number)
                if number % 100 == 0:
                    await line.views.project()
                    for _ in range(100):
                        last = await receive(quick, "pub")
            assert last["offset"] == 6_000
            assert await close_code(slow) == CloseCode.SLOW_CONSUMER

    run(view_redis, tmp_path, story)


def test_an_expired_token_ends_the_connection(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        async with connect(line.urls["stream"]) as ws:
            token = line.token("maker", lifetime_s=1)
            await send(ws, {"op": "auth", "token": token})
            assert await close_code(ws) == CloseCode.TOKEN_EXPIRED

    run(view_redis, tmp_path, story)


def test_a_drain_tells_clients_to_reconnect(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        async with connect(line.urls["stream"]) as ws:
            await subscribe(ws, "pulse")
            line.stop.set()
            assert await close_code(ws) == CloseCode.GOING_AWAY

    run(view_redis, tmp_path, story)


def test_a_publication_is_one_frame_of_plain_json(view_redis: str, tmp_path: Path) -> None:
    """The message as documented: op, ch, offset, data, in this order and without blanks."""

    async def story(line: Line) -> None:
        async with connect(line.urls["stream"]) as ws:
            await subscribe(ws, "pulse")
            await receive(ws, "snapshot")
            line.engine.pass_seconds(1)
            await line.views.project()
            async with asyncio.timeout(DEADLINE_SECONDS):
                text = await ws.recv()
            assert isinstance(text, str)
            assert text.startswith(
                f'{{"op":"pub","ch":"pulse","offset":{line.engine.second},"data":{{"second":'
            )
            assert msgspec.json.decode(text)["data"]["second"] == line.engine.second

    run(view_redis, tmp_path, story)
