"""Connections of the load generator: HTTP with one request in flight on each, or the command
connection with many on one. Requests are bytes before the clock runs; answers are not decoded.
"""

import socket
from typing import NamedTuple

import msgspec

from ops.bench.http_orders import HOST, Form, framed
from ops.bench.order_load import EXPECTED_REFUSALS, UnexpectedAnswer
from schemas.frames import LENGTH, Refused, Reply

RECEIVE_BYTES = 1 << 18
ANSWER_SECONDS_MAX = 30.0
_HEAD_END = b"\r\n\r\n"
_LENGTH_FIELD = b"\r\ncontent-length: "
_GOOD = (b"HTTP/1.1 200", b"HTTP/1.1 201")
_CODE_FIELD = b'"code":"'
_ORDER_ID = b'"order_id":'
_PLACED = b'"type":"order_placed"'
_ACCEPTED = b'{"type":"accepted","id":'
_decode_reply = msgspec.json.Decoder(Reply).decode


class Answered(NamedTuple):
    """What became of a command, by its index.

    order_id: of the order that it placed, None if it placed none. refused: the code, or "".
    """

    command: int
    order_id: int | None
    refused: str


class HttpLink:
    """One keep-alive connection with at most one request on its way."""

    def __init__(self, port: int) -> None:
        self.socket = _connected(port)
        self._received = b""
        self._index = -1

    def send(self, index: int, request: bytes) -> None:
        self._index = index
        self.socket.sendall(request)

    def receive(self) -> list[Answered]:
        """What has come: nothing, while an answer is not whole. Raises UnexpectedAnswer."""
        received = self.socket.recv(RECEIVE_BYTES)
        if not received:
            raise UnexpectedAnswer("the gateway hung up")
        answer = self._received + received if self._received else received
        head = answer.find(_HEAD_END)
        if head < 0 or len(answer) < head + len(_HEAD_END) + _body_bytes(answer, head):
            self._received = answer
            return []
        self._received = b""
        if answer.startswith(_GOOD):
            return [Answered(self._index, _number(answer, _ORDER_ID, head), "")]
        return [Answered(self._index, None, _refusal(_code(answer, head), answer))]


class CommandLink:
    """One connection to an engine, any number of commands on their way."""

    def __init__(self, port: int) -> None:
        self.socket = _connected(port)
        self._received = b""

    def send(self, index: int, request: bytes) -> None:
        """The index is in the request already."""
        self.socket.sendall(request)

    def receive(self) -> list[Answered]:
        """Raises UnexpectedAnswer."""
        received = self.socket.recv(RECEIVE_BYTES)
        if not received:
            raise UnexpectedAnswer("the engine hung up")
        data, start, found = self._received + received, 0, list[Answered]()
        while len(data) - start >= LENGTH.size:
            end = start + LENGTH.size + int.from_bytes(data[start : start + LENGTH.size])
            if end > len(data):
                break
            found.append(_answered(data[start + LENGTH.size : end]))
            start = end
        self._received = data[start:]
        return found


Link = HttpLink | CommandLink


def fetch(port: int, request: bytes) -> bytes:
    """The body of one good answer. Raises UnexpectedAnswer for any other."""
    with _connected(port) as connection:
        connection.sendall(request)
        answer = b""
        while _HEAD_END not in answer or len(answer) < _whole(answer):
            received = connection.recv(RECEIVE_BYTES)
            if not received:
                raise UnexpectedAnswer(answer.decode(errors="replace"))
            answer += received
    if not answer.startswith(_GOOD):
        raise UnexpectedAnswer(answer.decode(errors="replace"))
    return answer.partition(_HEAD_END)[2]


def framed_request(form: Form, number: int | None) -> bytes:
    return framed(form.numbered(number))


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection((HOST.decode(), port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(ANSWER_SECONDS_MAX)
    return connection


def _whole(answer: bytes) -> int:
    head = answer.index(_HEAD_END)
    return head + len(_HEAD_END) + _body_bytes(answer, head)


def _body_bytes(answer: bytes, head: int) -> int:
    at = answer.find(_LENGTH_FIELD, 0, head)
    if at < 0:
        raise UnexpectedAnswer(answer[:1_000].decode(errors="replace"))
    at += len(_LENGTH_FIELD)
    end = answer.find(b"\r\n", at)
    return int(answer[at:end])


def _code(answer: bytes, head: int) -> str:
    at = answer.find(_CODE_FIELD, head)
    if at < 0:
        return ""
    at += len(_CODE_FIELD)
    return answer[at : answer.index(b'"', at)].decode()


def _refusal(code: str, answer: bytes) -> str:
    if code not in EXPECTED_REFUSALS:
        raise UnexpectedAnswer(answer[:1_000].decode(errors="replace"))
    return code


def _answered(body: bytes) -> Answered:
    if body.startswith(_ACCEPTED):
        index = int(body[len(_ACCEPTED) : body.index(b",", len(_ACCEPTED))])
        placed = body.find(_PLACED)
        return Answered(index, None if placed < 0 else _number(body, _ORDER_ID, placed), "")
    reply = _decode_reply(body)
    if not isinstance(reply, Refused):
        raise UnexpectedAnswer(body[:1_000].decode())
    return Answered(reply.id, None, _refusal(reply.rejection.code, body))


def _number(body: bytes, field: bytes, start: int) -> int | None:
    at = body.find(field, start)
    if at < 0:
        return None
    at += len(field)
    return int(body[at : body.index(b",", at)])
