"""The WebSocket handshake of the server's side, without I/O: a request's bytes in, answers out.

The request comes from uvicorn's HTTP parser, which writes it anew: its lines are well-formed.
Source: RFC 6455 section 4.2.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from http import HTTPStatus

import msgspec

VERSION = b"13"
KEY_BYTES = 16

_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = b"sec-websocket-key"
_SUBPROTOCOLS = b"sec-websocket-protocol"
_HANDSHAKE = {b"connection", b"upgrade", b"sec-websocket-version", _KEY, _SUBPROTOCOLS}
_UPGRADE = (b"upgrade", b"websocket")

# Lower-case names, in the order they came.
RawHeaders = list[tuple[bytes, bytes]]
# The values of each of a handshake's own headers that came.
Asked = dict[bytes, list[bytes]]


class Request(msgspec.Struct, frozen=True, gc=False):
    """target: path and query as sent. accept: what proves that the key was read."""

    target: bytes
    headers: RawHeaders
    accept: bytes
    subprotocols: list[str]


class Refused(msgspec.Struct, frozen=True):
    """The answer to a request that is no handshake of ours."""

    status: HTTPStatus
    text: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


def read_request(head: bytes) -> Request | Refused:
    """head: everything before the empty line."""
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.split(b" ", 2)
    headers: RawHeaders = []
    asked: Asked = {}
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        headers.append((name, value))
        if name in _HANDSHAKE:
            asked.setdefault(name, []).append(value)
    refused = _refusal(method, asked)
    if refused is not None:
        return refused
    (key,) = asked[_KEY]
    return Request(
        target=target,
        headers=headers,
        accept=base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID).digest()),
        subprotocols=[name.decode("latin-1") for name in _tokens(asked, _SUBPROTOCOLS)],
    )


def accepting(request: Request, subprotocol: str | None, headers: RawHeaders) -> bytes:
    """The answer that makes a WebSocket of the connection."""
    fields = [_UPGRADE, (b"connection", b"Upgrade"), (b"sec-websocket-accept", request.accept)]
    if subprotocol is not None:
        fields.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
    return _answer(HTTPStatus.SWITCHING_PROTOCOLS, [*fields, *headers], b"")


def denying(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """A whole answer after which the connection is closed."""
    said = [(name.lower(), value) for name, value in headers]
    known = {name for name, _ in said}
    if b"content-length" not in known:
        said.append((b"content-length", b"%d" % len(body)))
    if b"connection" not in known:
        said.append((b"connection", b"close"))
    return _answer(status, said, body)


def refusing(refused: Refused, headers: RawHeaders) -> bytes:
    plain = (b"content-type", b"text/plain; charset=utf-8")
    return denying(refused.status, [plain, *refused.headers, *headers], refused.text.encode())


def _refusal(method: bytes, asked: Asked) -> Refused | None:
    if method != b"GET":
        text = "A handshake is a GET."
        return Refused(HTTPStatus.METHOD_NOT_ALLOWED, text, ((b"allow", b"GET"),))
    connection, upgrade = _tokens(asked, b"connection"), _tokens(asked, b"upgrade")
    if not (_has(connection, b"upgrade") and _has(upgrade, b"websocket")):
        return Refused(HTTPStatus.UPGRADE_REQUIRED, "This is a WebSocket.", (_UPGRADE,))
    if asked.get(b"sec-websocket-version") != [VERSION]:
        spoken = (b"sec-websocket-version", VERSION)
        return Refused(HTTPStatus.UPGRADE_REQUIRED, "Version 13 only.", (_UPGRADE, spoken))
    keys = asked.get(_KEY, [])
    if len(keys) != 1 or not _is_key(keys[0]):
        return Refused(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in Base64.")
    return None


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == KEY_BYTES
    except binascii.Error:
        return False


def _has(tokens: list[bytes], wanted: bytes) -> bool:
    return any(token.lower() == wanted for token in tokens)


def _tokens(asked: Asked, wanted: bytes) -> list[bytes]:
    listed = b",".join(asked.get(wanted, ())).split(b",")
    return [token for each in listed if (token := each.strip())]


def _answer(status: int, headers: RawHeaders, body: bytes) -> bytes:
    # Any number is a status to ASGI, known ones have a phrase.
    phrase = HTTPStatus(status).phrase if status in _STATUSES else ""
    lines = [f"HTTP/1.1 {int(status)} {phrase}\r\n".encode()]
    lines += [b"%b: %b\r\n" % header for header in headers]
    return b"".join([*lines, b"\r\n", body])


_STATUSES = set(map(int, HTTPStatus))
