"""ops.bench.http and its parts: that they measure what they say; never how fast we are."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench import http
from ops.bench.http import Sizes, run_http
from ops.bench.http_links import CommandLink, HttpLink, fetch
from ops.bench.http_load import Target
from ops.bench.http_orders import Form, OrderSource, Sent, get_request, users
from ops.bench.mixed_log import LogShape
from ops.bench.order_load import UnexpectedAnswer
from ops.demo.progress import LineTasks
from schemas.amounts import parse_amount
from schemas.commands import CancelOrder, PlaceOrder, ReplaceOrder
from schemas.frames import LENGTH, Request
from schemas.wire import PlaceOrderBody
from schemas.wire_trading import ReplaceOrderBody

SHAPE = LogShape(events=50, users=5, resting=40)
SMALL = Sizes(
    depths=(1, 4), rates=(200,), reads_depth=4, log=LogShape(events=500, users=20, resting=100)
)
SCALE = 8


@pytest.fixture(scope="module")
def drawn() -> list[Sent]:
    return OrderSource(SHAPE, {user: f"token-of-{user}" for user in users(SHAPE)}).draw(400)


def test_both_forms_are_the_same_command(drawn: list[Sent]) -> None:
    kinds = set()
    for index, sent in enumerate(drawn):
        request = msgspec.json.decode(sent.framed.numbered(sent.names), type=Request)
        start, _, rest = sent.http.numbered(sent.names).partition(b" HTTP/1.1\r\n")
        head, _, body = rest.partition(b"\r\n\r\n")
        assert request.id == index
        assert f"idempotency-key: {request.key}\r\n".encode() in head + b"\r\n"
        command = request.command
        assert isinstance(command, PlaceOrder | ReplaceOrder | CancelOrder)
        assert f"authorization: Bearer token-of-{command.user_id}".encode() in head
        kinds.add(_same(command, start.decode(), body))
    assert kinds == {PlaceOrder, ReplaceOrder, CancelOrder}


def _same(command: PlaceOrder | ReplaceOrder | CancelOrder, start: str, body: bytes) -> type:
    match command:
        case PlaceOrder():
            place = msgspec.json.decode(body, type=PlaceOrderBody)
            assert start == "POST /v1/orders"
            assert _minor(place.price) == command.price_minor
            assert _minor(place.quantity) == command.quantity_minor
            assert _minor(place.quote_budget) == command.quote_budget_minor
            assert place.client_order_id == command.client_order_id
            assert (place.side, place.type) == (command.side, command.order_type)
            assert (place.time_in_force, place.post_only) == (
                command.time_in_force,
                command.post_only,
            )
        case ReplaceOrder():
            replace = msgspec.json.decode(body, type=ReplaceOrderBody)
            assert start == f"PATCH /v1/orders/{command.order_id}"
            assert _minor(replace.price) == command.price_minor
            assert _minor(replace.quantity) == command.quantity_minor
        case CancelOrder():
            assert (start, body) == (f"DELETE /v1/orders/{command.order_id}", b"")
    return type(command)


def _minor(text: str | None) -> int | None:
    return None if text is None else parse_amount(text, SCALE)


def test_a_target_names_orders_by_the_numbers_that_its_engine_gave() -> None:
    placing = Sent(http=Form(b"p"), framed=Form(b"p"), names=None, places=7)
    ending = Sent(http=Form(b"c/", b";"), framed=Form(b'{"n":', b"}"), names=7, places=None)
    commands = [placing, ending, ending]
    target = Target(commands, is_http=True)
    assert target.request() == b"p"
    assert target.request() == b"c/7;"
    target.placed(0, 31)
    assert target.request() == b"c/31;"
    assert target.unsent == 0
    framed = Target(commands, is_http=False)
    framed.next = 1
    assert framed.request() == LENGTH.pack(len(b'{"n":7}')) + b'{"n":7}'


@contextmanager
def _answering(*pieces: bytes) -> Iterator[int]:
    """A server that answers one request with these pieces and hangs up; its port."""

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4_096)
            for piece in pieces:
                connection.sendall(piece)

    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=answer)
        answering.start()
        yield server.getsockname()[1]
        answering.join()


def _http(status: str, body: dict[str, object]) -> bytes:
    content = json.dumps(body, separators=(",", ":")).encode()
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content


@given(st.data())
def test_an_answer_may_come_in_any_pieces(data: st.DataObject) -> None:
    whole = _http("201 Created", {"order_id": 17, "filler": "x" * 50})
    cut = data.draw(st.integers(1, len(whole) - 1))
    with _answering(whole[:cut], whole[cut:]) as port:
        link = HttpLink(port)
        link.send(3, get_request("/"))
        found = link.receive() or link.receive()
        link.socket.close()
    assert [(one.command, one.order_id, one.refused) for one in found] == [(3, 17, "")]


@pytest.mark.parametrize(
    ("status", "code", "is_expected"),
    [
        ("422 Unprocessable Content", "would_not_fill", True),
        ("404 Not Found", "unknown_order", True),
        ("401 Unauthorized", "unauthorized", False),
        ("429 Too Many Requests", "too_many_requests", False),
        ("500 Internal Server Error", "internal_error", False),
    ],
)
def test_refusals_of_the_rules_are_answers_and_nothing_else_is(
    status: str, code: str, is_expected: bool
) -> None:
    with _answering(_http(status, {"status": 0, "code": code, "detail": ""})) as port:
        link = HttpLink(port)
        link.send(0, get_request("/"))
        if is_expected:
            assert [one.refused for one in link.receive()] == [code]
        else:
            with pytest.raises(UnexpectedAnswer, match=code):
                link.receive()
        link.socket.close()


def test_answers_of_the_command_connection_come_in_any_order() -> None:
    placed = b'{"type":"accepted","id":4,"last_position":9,"events":[%s]}' % (
        b'{"type":"order_placed","at_ns":1,"order_id":88,"x":0}'
    )
    cancelled = b'{"type":"accepted","id":2,"last_position":8,"events":[]}'
    frames = b"".join(LENGTH.pack(len(body)) + body for body in (placed, cancelled))
    with _answering(frames) as port:
        link = CommandLink(port)
        link.send(4, b"x")
        found = link.receive()
        link.socket.close()
    assert [(one.command, one.order_id) for one in found] == [(4, 88), (2, None)]


def test_what_is_fetched_must_be_good() -> None:
    with _answering(_http("200 OK", {"a": 1})) as port:
        assert fetch(port, get_request("/")) == b'{"a":1}'
    refusing = _answering(_http("404 Not Found", {"code": "not_found"}))
    with refusing as port, pytest.raises(UnexpectedAnswer):
        fetch(port, get_request("/"))


@pytest.mark.services
def test_orders_and_reads_are_measured_beside_references() -> None:
    report = run_http(1, LineTasks(), SMALL)
    named = {row.metric: row for row in report.rows}
    assert len(named) == len(report.rows)
    assert all(row.ours > 0 and row.reference for row in report.rows)
    assert named["orders/s, in flight: 4"].target == ">= 1,500"
    assert named["ms to the answer, p99, offered: 200/s"].target == "<= 50"
    for read in http.READS:
        assert named[f"reads/s, {read.name}"].reference_name == http.BARE
