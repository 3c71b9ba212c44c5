"""The public keys that bearer tokens are verified with: a file of a JWKS, or one key's PEM.

The file is read again when a token names a key that is not known, and now and then, so that
services follow a rotation by themselves. Source: RFC 7517, RFC 7638, RFC 8037.
"""

import base64
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from schemas.wire_identity import Jwk, Jwks

# The key of a time when tokens named none; a key set that still has it accepts them.
LEGACY_KID = "legacy"
UNKNOWN_REREAD_SECONDS = 1.0
REREAD_SECONDS = 10.0

Keys = Mapping[str, Ed25519PublicKey]


def thumbprint(key: Ed25519PublicKey) -> str:
    """The key's own name. Source: RFC 7638, RFC 8037 appendix A.3."""
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{_coordinate(key)}"}}'
    return _base64(hashlib.sha256(canonical.encode()).digest())


def jwk(key: Ed25519PublicKey, kid: str) -> Jwk:
    return Jwk(kid=kid, x=_coordinate(key))


def parse_keys(content: bytes) -> Keys:
    """Keys by kid. Raises ValueError unless it is a JWKS of Ed25519 keys, or the PEM of one."""
    if content.lstrip().startswith(b"{"):
        try:
            listed = msgspec.json.decode(content, type=Jwks).keys
        except msgspec.DecodeError as exc:
            raise ValueError(f"the token keys are not a JWKS of Ed25519 keys: {exc}") from exc
        if len({one.kid for one in listed}) < len(listed):
            raise ValueError("two token keys have the same kid")
        return {one.kid: _public_key(one.x) for one in listed}
    try:
        key = load_pem_public_key(content)
    except UnsupportedAlgorithm as exc:
        raise ValueError("the token key is of an unknown kind") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the token key is not an Ed25519 public key")
    return {LEGACY_KID: key, thumbprint(key): key}


class KeyFile:
    """Keys of a file that may change; a file that can't be read leaves what was known."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, ValueError."""
        self._path = path
        self._read_at = time.monotonic()
        self._missed_at = float("-inf")
        self._changed = path.stat().st_mtime_ns
        self._keys = parse_keys(path.read_bytes())

    def current(self) -> Keys:
        """What is known, at most REREAD_SECONDS old."""
        if time.monotonic() - self._read_at > REREAD_SECONDS:
            self._read_again()
        return self._keys

    def find(self, kid: str) -> Ed25519PublicKey | None:
        """The key of this name, looked for in the file at most once a second if it is unknown."""
        found = self.current().get(kid)
        if found is None and time.monotonic() - self._missed_at > UNKNOWN_REREAD_SECONDS:
            self._missed_at = time.monotonic()
            self._read_again()
            found = self._keys.get(kid)
        return found

    def _read_again(self) -> None:
        self._read_at = time.monotonic()
        try:
            changed = self._path.stat().st_mtime_ns
            if changed != self._changed:
                self._keys = parse_keys(self._path.read_bytes())
                self._changed = changed
        except (OSError, ValueError):
            # Somebody is working on it: tokens of the keys that are known go on.
            return


def _public_key(x: str) -> Ed25519PublicKey:
    raw = base64.urlsafe_b64decode(x + "=" * (-len(x) % 4))
    return Ed25519PublicKey.from_public_bytes(raw)


def _coordinate(key: Ed25519PublicKey) -> str:
    return _base64(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
