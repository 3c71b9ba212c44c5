"""ops.bench.gateway and its parts: that they measure what they say; never how fast we are."""

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from gateway.stream.frames import BINARY, CLOSE, PING, TEXT, frame
from ops.bench import gateway_feed, gateway_frames, gateway_meters
from ops.bench.gateway import run_gateway
from ops.bench.gateway_crowd import Crowd
from ops.bench.gateway_feed import CHANGE, TRADE, Pace
from ops.bench.gateway_frames import ENGINE_JOINED, ENGINE_OPENED, Seen, read_messages
from ops.bench.gateway_runs import Sizes
from ops.bench.gateway_servers import install_socketio
from ops.bench.gateway_stamps import Stamps
from ops.bench.gateway_tally import (
    ACCOUNT,
    PULSE,
    Enter,
    Figures,
    Group,
    Open,
    Resume,
    Stall,
    Tally,
    Watch,
)
from ops.bench.order_mix import GENESIS_SECOND
from ops.cli import run
from ops.demo.progress import LineTasks
from ops.errors import Exit
from schemas.wire import SUBPROTOCOL_JSON

SMALL = Sizes(
    connections=16,
    rounds=1,
    window_seconds=1,
    stalled=16,
    stalled_seconds=1,
    processes=2,
    references=("websockets",),
)
FIRST = GENESIS_SECOND + 5
PHONES = Group(name="phones", count=2, subprotocol=SUBPROTOCOL_JSON, channels=(PULSE, ACCOUNT))
DEADLINE_S = 20.0


def _json(**fields: object) -> bytes:
    return msgspec.json.encode(fields)


def test_messages_are_read_in_both_encodings() -> None:
    published = {"op": "pub", "ch": "pulse", "offset": 7, "data": {"index": "1"}}
    received = b"".join(
        (
            frame(TEXT, msgspec.json.encode(published)),
            frame(BINARY, msgspec.msgpack.encode(published)),
            frame(PING, b"abc"),
            frame(CLOSE, (4001).to_bytes(2) + b"slow_consumer"),
        )
    )
    seen, rest = read_messages(received)
    pulse = Seen(op="pub", ch="pulse", offset=7)
    ping, close = Seen(op="ping", payload=b"abc"), Seen(op="close", offset=4001)
    assert (seen, rest) == ((pulse, pulse, ping, close), b"")


def test_what_socketio_sends_is_read() -> None:
    told = b'42["pulse",{"op":"pub","ch":"pulse","offset":3,"at":"12"}]'
    packets = (b'0{"sid":"x"}', b'40{"sid":"y"}', b"2", told)
    seen, _ = read_messages(b"".join(frame(TEXT, packet) for packet in packets))
    assert [message.op for message in seen[:2]] == [ENGINE_OPENED, ENGINE_JOINED]
    assert seen[2].op == gateway_frames.ENGINE_PINGED
    assert seen[3] == Seen(op="pub", ch="pulse", offset=3, at="12")


@given(
    offsets=st.lists(st.integers(0, 1 << 60), max_size=4),
    padding=st.sampled_from([0, 90, 200, 70_000]),
    data=st.data(),
)
def test_messages_may_come_in_any_pieces(
    offsets: list[int], padding: int, data: st.DataObject
) -> None:
    payloads = [_json(op="pub", ch="c", offset=offset, data="x" * padding) for offset in offsets]
    whole = b"".join(frame(TEXT, payload) for payload in payloads)
    cut = data.draw(st.integers(0, len(whole)))
    first, rest = read_messages(whole[:cut])
    second, left = read_messages(rest + whole[cut:])
    assert [message.offset for message in first + second] == offsets
    assert left == b""


@pytest.mark.parametrize("size", [0, 125, 126, 60_000])
def test_the_phones_frames_are_masked_and_whole(size: int) -> None:
    sent = gateway_frames.client_frame(TEXT, b"x" * size)
    assert sent[0] == 0x80 | TEXT
    assert sent[1] & 0x80
    assert sent.endswith(bytes(4) + b"x" * size)


@pytest.mark.parametrize(
    ("ch", "last", "offset", "lost", "disordered"),
    [
        (PULSE, 5, 6, 0, 0),
        (PULSE, 5, 9, 3, 0),
        (PULSE, 5, 5, 0, 1),
        ("trades.M", 5, 4, 0, 1),
        (ACCOUNT, 5, 9, 0, 0),
        (ACCOUNT, 5, 5, 0, 1),
    ],
)
def test_offsets_tell_what_is_missing(
    ch: str, last: int, offset: int, lost: int, disordered: int
) -> None:
    tally = Tally()
    tally.check(ch, last, offset)
    assert (tally.lost, tally.disordered) == (lost, disordered)


def test_quantiles_are_of_all_latencies_in_milliseconds() -> None:
    tally = Tally()
    assert tally.quantiles() == (0, 0, 0)
    tally.latencies.extend(number * 1_000_000 for number in range(100, 0, -1))
    assert tally.quantiles() == (50, 99, 100)


def test_stamps_are_shared_between_processes(tmp_path: Path) -> None:
    with (
        contextlib.closing(Stamps.create(tmp_path / "stamps")) as one,
        contextlib.closing(Stamps(tmp_path / "stamps")) as other,
    ):
        one[FIRST], other.delivered = 123, 7
        assert (other[FIRST], one.delivered) == (123, 7)


def test_traffic_is_counted_with_its_headers() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as near,
    ):
        far, _ = server.accept()
        with far:
            before = gateway_meters.traffic_of([near])
            far.sendall(b"x" * 100)
            assert near.recv(200) == b"x" * 100
            near.sendall(b"y" * 10)
            assert far.recv(20) == b"y" * 10
            found = gateway_meters.traffic_of([near]).since(before)
    # What comes is acknowledged together with what goes, or by a segment of its own.
    assert (found.down_payload, found.up_payload) == (100, 10)
    assert found.down_segments in (1, 2)
    assert found.up_segments in (1, 2)
    assert found.down_bytes == 100 + found.down_segments * found.header_bytes
    assert found.header_bytes in (40, 52)


def test_a_process_is_metered() -> None:
    before = gateway_meters.cpu_seconds([os.getpid()])
    while gateway_meters.cpu_seconds([os.getpid()]) == before:
        sum(range(10_000))
    assert gateway_meters.resident_bytes([os.getpid()]) > 1_000_000
    assert gateway_meters.core_busy_seconds(gateway_meters.cores()[0]) > 0
    assert gateway_meters.core_busy_seconds(None) == 0


class _Stream:
    """A server that greets, answers `auth` and `subscribe`, and then says what it is told to."""

    def __init__(self, messages: Sequence[bytes], *, close: int = 0) -> None:
        self._messages = messages
        self._close = close
        self.told = threading.Event()
        self.requests: list[dict[str, object]] = []
        self.port = 0

    def _serve(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            self._talk(connection)

    def _talk(self, connection: ServerConnection) -> None:
        connection.send(_json(op="hello", version=1).decode())
        asked = [msgspec.json.decode(connection.recv()) for _ in range(2)]
        self.requests += asked
        for request in asked:
            connection.send(_json(op="ack", id=request["id"]).decode())
        for channel in asked[1]["channels"]:
            snapshot = _json(op="snapshot", ch=channel["ch"], epoch="a", offset=FIRST, data={})
            connection.send(snapshot.decode())
        assert self.told.wait(DEADLINE_S)
        for message in self._messages:
            connection.send(message.decode())
        if self._close:
            connection.close(self._close)
        else:
            connection.recv()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with serve(self._serve, "127.0.0.1", 0) as server:
            self.port = server.socket.getsockname()[1]
            serving = threading.Thread(target=server.serve_forever)
            serving.start()
            try:
                yield
            finally:
                self.told.set()
                server.shutdown()
                serving.join()


def _pub(ch: str, offset: int) -> bytes:
    return _json(op="pub", ch=ch, offset=offset, data={})


@contextlib.contextmanager
def _entered(stream: _Stream, directory: Path, groups: tuple[Group, ...]) -> Iterator[Crowd]:
    stamps, tokens = Stamps.create(directory / "stamps"), directory / "tokens"
    tokens.write_text("\n".join(f"token-{number}" for number in range(9)))
    for offset in range(20):
        stamps[FIRST + offset] = time.monotonic_ns()
    with stream.running(), contextlib.closing(stamps):
        crowd = Crowd(Open(stream.port, groups, str(directory / "stamps")))
        with contextlib.closing(crowd):
            assert crowd.open().failed == 0
            assert crowd.enter(Enter(str(tokens))).failed == 0
            yield crowd


def _watched(stream: _Stream, crowd: Crowd) -> Figures:
    stream.told.set()
    return crowd.watch(Watch(0.3, (os.getpid(),), is_paced=False, meters=1))


def test_phones_enter_each_with_its_token_and_count_what_they_get(tmp_path: Path) -> None:
    stream = _Stream([_pub(PULSE, FIRST + 1), _pub(ACCOUNT, FIRST + 4), _pub(PULSE, FIRST + 2)])
    other = msgspec.structs.replace(PHONES, name="others", count=1, first=5)
    with _entered(stream, tmp_path, (PHONES, other)) as crowd:
        figures = _watched(stream, crowd)
    tokens = {request["token"] for request in stream.requests if request["op"] == "auth"}
    assert tokens == {"token-0", "token-1", "token-5"}
    assert (figures.deliveries, figures.timed, figures.accounts) == (9, 6, 3)
    assert (figures.lost, figures.disordered, figures.restarted, figures.gone) == (0, 0, 0, 0)
    assert 0 < figures.p50 <= figures.p99 <= figures.p100
    assert figures.faults == ()
    assert {name: count for name, (count, _) in figures.traffic.items()} == {
        "phones": 1,
        "others": 1,
    }


def test_gaps_repetitions_snapshots_and_lost_connections_are_faults(tmp_path: Path) -> None:
    snapshot = _json(op="snapshot", ch=PULSE, epoch="b", offset=FIRST + 9, data={})
    offsets = (FIRST + 1, FIRST + 4, FIRST + 4)
    stream = _Stream([*(_pub(PULSE, offset) for offset in offsets), snapshot], close=4001)
    with _entered(stream, tmp_path, (PHONES,)) as crowd:
        figures = _watched(stream, crowd)
    assert (figures.lost, figures.disordered, figures.restarted) == (4, 2, 2)
    assert figures.gone == 2
    assert "2x a connection ended: 4001" in figures.faults


def test_stalled_phones_read_nothing_until_they_resume(tmp_path: Path) -> None:
    stream = _Stream([_pub(PULSE, FIRST + 1)], close=4001)
    stalled = msgspec.structs.replace(PHONES, name="stalled", receive_bytes=4_096)
    with _entered(stream, tmp_path, (stalled,)) as crowd:
        crowd.stall(Stall("stalled"))
        assert _watched(stream, crowd).deliveries == 0
        assert crowd.resume(Resume("stalled", DEADLINE_S)).ended == {"4001": 2}
        # It was they who did not read.
        assert _watched(stream, crowd).gone == 0


def test_a_refused_handshake_and_a_refused_channel_are_failures(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=_refuse, args=(server, PHONES.count))
        answering.start()
        with contextlib.closing(Crowd(Open(server.getsockname()[1], (PHONES,)))) as crowd:
            done = crowd.open()
        answering.join()
    assert done.failed == 2
    assert "2x HTTP/1.1 503 Service Unavailable" in done.faults


def _refuse(server: socket.socket, count: int) -> None:
    for _ in range(count):
        connection, _ = server.accept()
        with connection:
            connection.recv(4_096)
            connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}")


def test_trades_and_changes_happen_at_their_rate_and_in_order() -> None:
    wanted = Pace(1, phones=3, trades=0.5, changes=2)
    found = list(itertools.islice(gateway_feed.happenings(wanted), 100))
    assert found == sorted(found)
    assert [kind for _, kind in found].count(TRADE) == 20
    assert [kind for _, kind in found].count(CHANGE) == 80
    assert 38 < found[-1][0] < 42


def test_socketio_is_left_out_loudly_where_there_is_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install_socketio(tmp_path / "socketio") == "node and npm are not installed"


def test_only_the_gateway_has_connections() -> None:
    assert run(["bench", "domain", "--connections", "50"]) == Exit.USAGE


@pytest.mark.services
def test_the_gateway_is_measured_beside_a_plain_broadcast() -> None:
    report = run_gateway(1, LineTasks(), SMALL)
    named = {row.metric: row for row in report.rows}
    assert len(named) == len(report.rows)
    paced = named["CPU s per million deliveries, 1 a second"]
    assert paced.ours > 0
    assert paced.reference_name == "websockets broadcast"
    for sound in ("publications lost", "publications out of order", "connections dropped"):
        assert named[sound].ours == 0, report
    assert named["snapshots instead of publications"].ours == 0
    assert named["beside stalled: lost or disordered"].ours == 0
    assert named["deliveries/s, flat out"].ours > 0
    assert named["ms from commit to phone, 2 processes on one core, p99"].ours > 0
    wire = named["kbit/s to the phone: pulse and account, JSON, nobody trades"]
    smaller = named["kbit/s to the phone: pulse and account, msgpack, nobody trades"]
    assert (wire.target, wire.reference) == ("<= 1.2", 5.7)
    assert 0 < smaller.ours < wire.ours
    assert any("LEFT OUT" in note for note in report.notes) is False
