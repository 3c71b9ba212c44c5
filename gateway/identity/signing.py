"""Signs access tokens with the newest key of a directory; only the auth part may read it.

jwks.json there lists the public keys, the one to sign with last; its private half is
token-<kid>.pem. The files are made by `durian up` and `durian keys` (ops.tokens).
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.access import Role
from gateway.auth import ALGORITHM, ISSUER, TOKEN_TYPE, scope_claim
from schemas.wire_identity import Jwks

JWKS_FILE: Final = "jwks.json"
SECRET_FILE: Final = "identity.secret"
ACCESS_SECONDS: Final = 600
_ID_BYTES: Final = 16
_READINGS_MAX: Final = 3


def private_file(directory: Path, kid: str) -> Path:
    return directory / f"token-{kid}.pem"


class Signer:
    """Follows a rotation by itself: it looks whether the key set's file has changed."""

    def __init__(self, directory: Path, now_second: Callable[[], int]) -> None:
        """Raises OSError, ValueError if there is nothing to sign with."""
        self._directory = directory
        self._now_second = now_second
        self._changed = -1
        self._jwks = Jwks(keys=())
        self._kid, self._key = self._newest()

    def jwks(self) -> Jwks:
        """The public keys. Raises OSError, ValueError."""
        self._newest()
        return self._jwks

    def sign(
        self,
        *,
        user_id: str,
        role: Role,
        scope: str | None = None,
        session_id: str = "",
        lifetime_seconds: int = ACCESS_SECONDS,
    ) -> str:
        """An access token. Raises OSError, ValueError.

        scope: separated by spaces, None for all that the role is granted.
        session_id: "" for a token that no session stands behind.
        """
        kid, key = self._newest()
        now = self._now_second()
        claims: dict[str, str | int] = {
            "iss": ISSUER,
            "sub": user_id,
            "role": role,
            "scope": scope_claim(role) if scope is None else scope,
            "jti": secrets.token_urlsafe(_ID_BYTES),
            "iat": now,
            "exp": now + lifetime_seconds,
        }
        if session_id:
            claims["sid"] = session_id
        headers = {"kid": kid, "typ": TOKEN_TYPE}
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers=headers)

    def _newest(self) -> tuple[str, Ed25519PrivateKey]:
        listed = self._directory / JWKS_FILE
        for _ in range(_READINGS_MAX):
            changed = listed.stat().st_mtime_ns
            if changed == self._changed:
                break
            jwks = msgspec.json.decode(listed.read_bytes(), type=Jwks)
            if not jwks.keys:
                raise ValueError(f"{listed} lists no key")
            try:
                self._load(jwks)
            except FileNotFoundError:
                # A rotation removes the old private key after listing the new one: look again.
                continue
            self._changed = changed
        else:
            raise ValueError(f"the private key of the newest in {listed} is missing")
        return self._kid, self._key

    def _load(self, jwks: Jwks) -> None:
        kid = jwks.keys[-1].kid
        key = load_pem_private_key(private_file(self._directory, kid).read_bytes(), None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"token key {kid} is not an Ed25519 key")
        self._jwks, self._kid, self._key = jwks, kid, key
