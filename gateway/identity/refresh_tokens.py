"""Refresh tokens: opaque to clients, each with a session, a generation, a secret and a tag.

The tag tells a token that was ours once from an invention, so that only somebody who really had
one can make a family end; of secrets only a digest is stored. A child's secret is derived from its
parent's and the key of the request, so that a retry gets the same child without keeping it.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Final

import msgspec

PREFIX: Final = "dr_"
SECRET_BYTES: Final = 32
_TAG_BYTES: Final = 16
_GENERATION_BYTES: Final = 4
_SESSION_BYTES: Final = 28
_BYTES: Final = _SESSION_BYTES + _GENERATION_BYTES + SECRET_BYTES + _TAG_BYTES


class RefreshToken(msgspec.Struct, frozen=True, kw_only=True):
    """generation: 0 is what a sign-in gives. secret: SECRET_BYTES."""

    session_id: str
    generation: int
    secret: bytes

    def digest(self) -> bytes:
        return hashlib.sha256(self.secret).digest()


def first_secret(server_secret: bytes, session_id: str, randomness: bytes) -> bytes:
    return _derived(server_secret, b"first", session_id.encode(), randomness)


def child_of(server_secret: bytes, parent: RefreshToken, key: bytes) -> RefreshToken:
    """key: what tells one rotation from another: a request's key, or random bytes."""
    secret = _derived(server_secret, b"child", parent.secret, key)
    return RefreshToken(
        session_id=parent.session_id, generation=parent.generation + 1, secret=secret
    )


def written(server_secret: bytes, token: RefreshToken) -> str:
    body = (
        token.session_id.encode().ljust(_SESSION_BYTES)
        + token.generation.to_bytes(_GENERATION_BYTES, "big")
        + token.secret
    )
    return PREFIX + base64.urlsafe_b64encode(body + _tag(server_secret, body)).decode().rstrip("=")


def read(server_secret: bytes, text: str) -> RefreshToken | None:
    """None unless we wrote it, whatever has become of it since."""
    try:
        encoded = text.removeprefix(PREFIX).encode("ascii")
        raw = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    body, tag = raw[:-_TAG_BYTES], raw[-_TAG_BYTES:]
    if len(raw) != _BYTES or not hmac.compare_digest(tag, _tag(server_secret, body)):
        return None
    end = _SESSION_BYTES + _GENERATION_BYTES
    return RefreshToken(
        session_id=body[:_SESSION_BYTES].decode().strip(),
        generation=int.from_bytes(body[_SESSION_BYTES:end], "big"),
        secret=body[end:],
    )


def _tag(server_secret: bytes, body: bytes) -> bytes:
    return _derived(server_secret, b"tag", body)[:_TAG_BYTES]


def _derived(server_secret: bytes, purpose: bytes, *parts: bytes) -> bytes:
    told = b"".join(len(part).to_bytes(4, "big") + part for part in (b"refresh", purpose, *parts))
    return hmac.digest(server_secret, told, "sha256")
