"""Signing bearer tokens: the key pair of a data directory and the claims a token carries.

Only this side knows the private key. Services verify with the public key alone
(gateway.auth); a token cannot be taken back before it expires.
"""

import re
import time
from typing import Literal, get_args

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ops.datadir import DataDir, write_atomic
from ops.errors import UsageError

Role = Literal["user", "auditor", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
ALGORITHM = "EdDSA"
LIFETIME_MAX_S = 366 * 24 * 3600

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def public_key_file(data_dir: DataDir) -> str:
    return str(data_dir.keys / "token.pub.pem")


def ensure_keys(data_dir: DataDir) -> None:
    """Make the key pair where it is missing. The public half is written last: it is the mark."""
    private_file, public_file = data_dir.keys / "token.pem", data_dir.keys / "token.pub.pem"
    if public_file.exists():
        return
    private_key = Ed25519PrivateKey.generate()
    private_pem = private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public_pem = private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_atomic(private_file, private_pem, mode=0o600)
    write_atomic(public_file, public_pem)


def sign_token(data_dir: DataDir, *, user: str, role: str, lifetime_s: int) -> str:
    """A bearer token with the claims sub, role, iat, exp (Unix seconds), signed with Ed25519.

    Raises UsageError for a role that does not exist, an empty user or a lifetime out of bounds.
    """
    if role not in ROLES:
        raise UsageError(f"role {role!r} is none of {', '.join(ROLES)}")
    if not user:
        raise UsageError("a token needs a user")
    if not 0 < lifetime_s <= LIFETIME_MAX_S:
        raise UsageError(f"a token lives between 1 and {LIFETIME_MAX_S} seconds")
    ensure_keys(data_dir)
    issued_at = int(time.time())
    claims = {"sub": user, "role": role, "iat": issued_at, "exp": issued_at + lifetime_s}
    private_pem = (data_dir.keys / "token.pem").read_bytes()
    return jwt.encode(claims, private_pem, algorithm=ALGORITHM)


def parse_lifetime(text: str) -> int:
    """Seconds of "90s", "15m", "12h" or "7d"; UsageError for anything else."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None:
        raise UsageError(f"lifetime {text!r} is not a number with s, m, h or d, such as 12h")
    return int(found.group(1)) * _UNIT_SECONDS[found.group(2)]
