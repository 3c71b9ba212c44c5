"""Who is asking: verifies bearer tokens (EdDSA JWT) and says who may act or look for whom.

Never signs: the gateway has the public key only.
"""

from pathlib import Path
from typing import Literal, get_args

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.errors import Refusal
from schemas.wire import WireCode

Role = Literal["user", "auditor", "operator", "admin"]

ROLES: frozenset[str] = frozenset(get_args(Role))
TRADES: frozenset[str] = frozenset({"user", "operator", "admin"})
ACTS_FOR_OTHERS: frozenset[str] = frozenset({"operator", "admin"})
READS_OTHERS: frozenset[str] = frozenset({"auditor", "operator", "admin"})

_ALGORITHMS = ["EdDSA"]
_SCHEME = "bearer "
_TOKEN_CHARS_MAX = 4096


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who a valid token stands for. expires_second: Unix, the first second without it."""

    user_id: str
    role: Role
    expires_second: int


class _Claims(msgspec.Struct, frozen=True):
    sub: str
    role: Role
    exp: int


class TokenVerifier:
    """Checks signature, expiry and claims against one Ed25519 public key."""

    def __init__(self, public_key_pem: bytes) -> None:
        """Raises ValueError unless the PEM holds an Ed25519 public key."""
        try:
            key = load_pem_public_key(public_key_pem)
        except UnsupportedAlgorithm as exc:
            raise ValueError("the token key is of an unknown kind") from exc
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("the token key is not an Ed25519 public key")
        self._key = key

    @classmethod
    def from_file(cls, path: Path) -> "TokenVerifier":
        return cls(path.read_bytes())

    def verify(self, token: str) -> Principal:
        """The token's principal. Raises Refusal(unauthorized) saying what is wrong with it."""
        if len(token) > _TOKEN_CHARS_MAX:
            raise Refusal(WireCode.UNAUTHORIZED, "The token is too long.")
        try:
            # Pinned: a token must not choose its own algorithm (RFC 8725 section 3.1).
            payload = jwt.decode(
                token,
                self._key,
                algorithms=_ALGORITHMS,
                options={"require": ["exp", "sub", "role"]},
            )
            claims = msgspec.convert(payload, _Claims)
        except jwt.ExpiredSignatureError as exc:
            raise Refusal(WireCode.UNAUTHORIZED, "The token has expired.") from exc
        except (jwt.InvalidTokenError, msgspec.ValidationError) as exc:
            raise Refusal(WireCode.UNAUTHORIZED, f"The token is not valid: {exc}") from exc
        return Principal(user_id=claims.sub, role=claims.role, expires_second=claims.exp)

    def verify_header(self, authorization: str | None) -> Principal:
        """The principal of an Authorization header. Raises Refusal(unauthorized)."""
        if authorization is None or not authorization.lower().startswith(_SCHEME):
            raise Refusal(WireCode.UNAUTHORIZED, "Send Authorization: Bearer <token>.")
        return self.verify(authorization[len(_SCHEME) :].strip())


def require_role(principal: Principal, allowed: frozenset[str]) -> None:
    """Raises Refusal(forbidden) unless the principal has one of these roles."""
    if principal.role not in allowed:
        raise Refusal(
            WireCode.FORBIDDEN,
            f"Role {principal.role} may not do this.",
            {"allowed": " ".join(sorted(allowed))},
        )


def subject(principal: Principal, user_id: str | None, others: frozenset[str]) -> str:
    """The user that a request is about: oneself unless another is named.

    others: roles that may name another. Raises Refusal(forbidden) for all other roles.
    """
    if user_id is None or user_id == principal.user_id:
        return principal.user_id
    require_role(principal, others)
    return user_id
