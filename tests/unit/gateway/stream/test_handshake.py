"""gateway.stream.handshake: what is a handshake, and what is answered to anything else."""

from collections.abc import Mapping

import pytest

from gateway.stream import handshake
from gateway.stream.handshake import Refused, Request

# The key and its answer are RFC 6455's own example (section 1.3).
FIELDS = {
    "Host": "here",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def read(
    changes: Mapping[str, str | None] | None = None, *, line: str = "GET /v1?a=b HTTP/1.1"
) -> Request | Refused:
    fields = {**FIELDS, **(changes or {})}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return handshake.read_request("\r\n".join([line, *lines]).encode())


def test_handshake_is_read() -> None:
    offered = {"Sec-WebSocket-Protocol": "durian.v1.json, durian.v1.msgpack,"}
    request = read(offered)
    assert isinstance(request, Request)
    assert request.target == b"/v1?a=b"
    assert request.accept == ACCEPT
    assert request.subprotocols == ["durian.v1.json", "durian.v1.msgpack"]
    assert (b"host", b"here") in request.headers


def test_names_and_tokens_have_no_case() -> None:
    shouted = {"Upgrade": "WebSocket", "Connection": "UPGRADE"}
    assert isinstance(read(shouted), Request)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Upgrade": "h2c"}, 426),
        ({"Upgrade": None}, 426),
        ({"Connection": "keep-alive"}, 426),
        ({"Connection": None}, 426),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
        ({"Sec-WebSocket-Key": "not base64!"}, 400),
        ({"Sec-WebSocket-Key": FIELDS["Sec-WebSocket-Key"], "sec-websocket-key": "x"}, 400),
    ],
)
def test_anything_else_is_refused(changes: dict[str, str | None], status: int) -> None:
    refused = read(changes)
    assert isinstance(refused, Refused)
    assert refused.status == status


def test_refusals_say_what_would_do() -> None:
    old = read({"Sec-WebSocket-Version": "8"})
    assert isinstance(old, Refused)
    answer = handshake.refusing(old, [(b"date", b"today")])
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"\r\nsec-websocket-version: 13\r\n" in answer
    assert b"\r\nupgrade: websocket\r\n" in answer
    assert b"\r\ndate: today\r\n" in answer
    assert answer.endswith(b"\r\n\r\nVersion 13 only.")
    posted = read(line="POST / HTTP/1.1")
    assert isinstance(posted, Refused)
    assert posted.status == 405
    assert posted.headers == ((b"allow", b"GET"),)


def test_acceptance_proves_that_the_key_was_read() -> None:
    request = read()
    assert isinstance(request, Request)
    answer = handshake.accepting(request, "durian.v1.json", [(b"x-mark", b"1")])
    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: " + ACCEPT + b"\r\n"
        b"sec-websocket-protocol: durian.v1.json\r\nx-mark: 1\r\n\r\n"
    )
    assert b"protocol" not in handshake.accepting(request, None, [])


def test_denial_is_a_whole_answer_of_any_status() -> None:
    answer = handshake.denying(401, [(b"X-Why", b"because")], b"no")
    assert answer == (
        b"HTTP/1.1 401 Unauthorized\r\nx-why: because\r\ncontent-length: 2\r\n"
        b"connection: close\r\n\r\nno"
    )
    own = handshake.denying(499, [(b"content-length", b"0"), (b"connection", b"close")], b"")
    assert own == b"HTTP/1.1 499 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
