"""The keys that bearer tokens are signed with, in a data directory: made, rotated, retired.

jwks.json lists the public keys, the one to sign with last; its private half is token-<kid>.pem.
A key that was rotated away verifies until it is retired. identity.secret is what the auth service
derives refresh tokens and the like with; it is never rotated and never leaves the directory.
"""

import re
import secrets
import time
from pathlib import Path
from typing import get_args

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.access import Role
from gateway.auth import ALGORITHM as ALGORITHM
from gateway.identity.signing import JWKS_FILE, SECRET_FILE, Signer, private_file
from gateway.keys import LEGACY_KID, jwk, thumbprint
from ops.datadir import DataDir, write_atomic
from ops.errors import UsageError
from schemas.wire_identity import Jwk, Jwks

ROLES: tuple[Role, ...] = get_args(Role)
LIFETIME_MAX_S = 366 * 24 * 3600
SECRET_BYTES = 32

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LEGACY_PRIVATE, _LEGACY_PUBLIC = "token.pem", "token.pub.pem"


class KeyListed(msgspec.Struct, frozen=True, kw_only=True):
    """signs: new tokens are signed with it; there is exactly one."""

    kid: str
    signs: bool


def public_key_file(data_dir: DataDir) -> str:
    """What services verify with: the key set."""
    return str(data_dir.keys / JWKS_FILE)


def token_keys(data_dir: DataDir) -> str:
    """The directory of the private keys, for the auth service only."""
    return str(data_dir.keys)


def has_keys(data_dir: DataDir) -> bool:
    return (data_dir.keys / JWKS_FILE).exists() or (data_dir.keys / _LEGACY_PRIVATE).exists()


def ensure_keys(data_dir: DataDir) -> None:
    """Make what is missing. The key set is written last: it is the mark.

    A key from before there were several stays as `legacy`: its tokens work until they expire.
    """
    secret_file = data_dir.keys / SECRET_FILE
    if not secret_file.exists():
        write_atomic(secret_file, secrets.token_bytes(SECRET_BYTES), mode=0o600)
    if (data_dir.keys / JWKS_FILE).exists():
        return
    _write_listed(data_dir, (*_legacy(data_dir), _made(data_dir)))
    for name in (_LEGACY_PRIVATE, _LEGACY_PUBLIC):
        (data_dir.keys / name).unlink(missing_ok=True)


def list_keys(data_dir: DataDir) -> list[KeyListed]:
    """Oldest first."""
    listed = _listed(data_dir)
    return [KeyListed(kid=one.kid, signs=one is listed[-1]) for one in listed]


def rotate_keys(data_dir: DataDir) -> KeyListed:
    """Sign with a new key from now on; those before it still verify. Nobody is signed out."""
    before = _listed(data_dir)
    made = _made(data_dir)
    _write_listed(data_dir, (*before, made))
    # What was signed is signed; a private key that is not there can't be stolen.
    for one in before:
        private_file(data_dir.keys, one.kid).unlink(missing_ok=True)
    return KeyListed(kid=made.kid, signs=True)


def retire_key(data_dir: DataDir, kid: str) -> None:
    """Take a key out: its tokens stop within seconds, expired or not.

    Raises UsageError for one that is not there, and for the one that signs.
    """
    listed = _listed(data_dir)
    if kid not in {one.kid for one in listed}:
        raise UsageError(f"there is no key {kid}; see `durian keys list`")
    if kid == listed[-1].kid:
        raise UsageError("new tokens are signed with this key; `durian keys rotate` first")
    _write_listed(data_dir, tuple(one for one in listed if one.kid != kid))
    private_file(data_dir.keys, kid).unlink(missing_ok=True)


def sign_token(data_dir: DataDir, *, user: str, role: str, lifetime_s: int) -> str:
    """An access token without a session, with all scopes of the role.

    Raises UsageError for a role that does not exist, an empty user or a lifetime out of bounds.
    """
    known = next((one for one in ROLES if one == role), None)
    if known is None:
        raise UsageError(f"role {role!r} is none of {', '.join(ROLES)}")
    if not 0 < len(user) <= 128:
        raise UsageError("a token needs a user of 1 to 128 characters")
    if not 0 < lifetime_s <= LIFETIME_MAX_S:
        raise UsageError(f"a token lives between 1 and {LIFETIME_MAX_S} seconds")
    ensure_keys(data_dir)
    signer = Signer(data_dir.keys, lambda: int(time.time()))
    return signer.sign(user_id=user, role=known, lifetime_seconds=lifetime_s)


def parse_lifetime(text: str) -> int:
    """Seconds of "90s", "15m", "12h" or "7d"; UsageError for anything else."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None:
        raise UsageError(f"lifetime {text!r} is not a number with s, m, h or d, such as 12h")
    return int(found.group(1)) * _UNIT_SECONDS[found.group(2)]


def _listed(data_dir: DataDir) -> tuple[Jwk, ...]:
    ensure_keys(data_dir)
    content = (data_dir.keys / JWKS_FILE).read_bytes()
    return msgspec.json.decode(content, type=Jwks).keys


def _write_listed(data_dir: DataDir, listed: tuple[Jwk, ...]) -> None:
    content = msgspec.json.format(msgspec.json.encode(Jwks(keys=listed)))
    write_atomic(data_dir.keys / JWKS_FILE, content)


def _made(data_dir: DataDir) -> Jwk:
    key = Ed25519PrivateKey.generate()
    kid = thumbprint(key.public_key())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_atomic(private_file(data_dir.keys, kid), pem, mode=0o600)
    return jwk(key.public_key(), kid)


def _legacy(data_dir: DataDir) -> tuple[Jwk, ...]:
    path: Path = data_dir.keys / _LEGACY_PRIVATE
    if not path.exists():
        return ()
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is not an Ed25519 key")
    return (jwk(key.public_key(), LEGACY_KID),)
