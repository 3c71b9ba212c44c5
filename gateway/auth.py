"""Who is asking: verifies bearer tokens (EdDSA JWT). Never signs: it knows public keys only.

A token is read strictly before its signature is looked at: one spelling of base64, no member
twice, no header but those we write. What was verified is remembered until it expires, because a
signature costs a hundred microseconds. Source: RFC 7515, 7519, 8725, 9068.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import jwt
import msgspec

from gateway.access import GRANTS, Principal, Role, Scope
from gateway.errors import Refusal
from gateway.keys import LEGACY_KID, KeyFile
from schemas.wire import WireCode

ALGORITHM: Final = "EdDSA"
TOKEN_TYPE: Final = "at+jwt"
ISSUER: Final = "durian"
TOKEN_CHARS_MAX: Final = 4_096
REMEMBERED_MAX: Final = 20_000
# Clocks of two machines may differ by so much, for what is not yet valid.
LEEWAY_SECONDS: Final = 5
_SCHEME: Final = "bearer "
_SECOND_MAX: Final = (1 << 53) - 1

_Second = Annotated[int, msgspec.Meta(ge=0, le=_SECOND_MAX)]
_Text = Annotated[str, msgspec.Meta(max_length=128)]
_Subject = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: Literal["EdDSA"]
    typ: Literal["at+jwt"]
    kid: str


class _LegacyHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: Literal["EdDSA"]
    typ: Literal["JWT"]


class _Claims(msgspec.Struct, frozen=True):
    iss: Literal["durian"]
    sub: _Subject
    role: Role
    scope: str
    jti: _Text
    iat: _Second
    exp: _Second
    nbf: _Second = 0
    sid: _Text = ""


class _LegacyClaims(msgspec.Struct, frozen=True):
    sub: _Subject
    role: Role
    exp: _Second
    iat: _Second = 0
    nbf: _Second = 0


class _Remembered(msgspec.Struct, frozen=True):
    kid: str
    key: object
    principal: Principal


class TokenVerifier:
    """Checks form, signature, times and claims against the keys of a file."""

    def __init__(self, keys: KeyFile, now_second: Callable[[], int]) -> None:
        self._keys = keys
        self._now_second = now_second
        self._remembered: dict[bytes, _Remembered] = {}

    @classmethod
    def from_file(cls, path: Path, now_second: Callable[[], int]) -> "TokenVerifier":
        """path: a JWKS, or the PEM of one key. Raises OSError, ValueError."""
        return cls(KeyFile(path), now_second)

    def verify(self, token: str) -> Principal:
        """The token's principal. Raises Refusal(unauthorized) saying what is wrong with it."""
        if len(token) > TOKEN_CHARS_MAX:
            raise _refused("too long")
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._remembered.get(digest)
        if known is None or self._keys.current().get(known.kid) is not known.key:
            known = self._verified(token)
            self._remember(digest, known)
        if self._now_second() >= known.principal.expires_second:
            self._remembered.pop(digest, None)
            raise Refusal(WireCode.UNAUTHORIZED, "The token has expired.")
        return known.principal

    def verify_header(self, authorization: str | None) -> Principal:
        """The principal of an Authorization header. Raises Refusal(unauthorized)."""
        if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise Refusal(WireCode.UNAUTHORIZED, "Send Authorization: Bearer <token>.")
        return self.verify(authorization[len(_SCHEME) :].strip(" "))

    def _verified(self, token: str) -> _Remembered:
        header, payload = _segments(token)
        try:
            kid = msgspec.convert(header, _Header).kid if "kid" in header else _legacy_kid(header)
        except msgspec.ValidationError as exc:
            raise _refused(f"header: {exc}") from exc
        key = self._keys.find(kid)
        if key is None:
            raise _refused("it was signed with a key that is not in use")
        try:
            # Pinned: a token must not choose its own algorithm (RFC 8725 section 3.1).
            jwt.api_jws.decode(token, key, algorithms=[ALGORITHM])
        except jwt.InvalidTokenError as exc:
            raise _refused(str(exc)) from exc
        principal = self._principal(payload, is_legacy="kid" not in header)
        return _Remembered(kid=kid, key=key, principal=principal)

    def _principal(self, payload: dict[str, Any], *, is_legacy: bool) -> Principal:
        try:
            if is_legacy:
                return self._legacy(msgspec.convert(payload, _LegacyClaims))
            claims = msgspec.convert(payload, _Claims)
        except msgspec.ValidationError as exc:
            raise _refused(f"claims: {exc}") from exc
        self._check_begun(claims.iat, claims.nbf)
        granted = frozenset(claims.scope.split(" "))
        return Principal(
            user_id=claims.sub,
            role=claims.role,
            expires_second=claims.exp,
            scopes=frozenset(scope for scope in GRANTS[claims.role] if scope in granted),
            session_id=claims.sid,
        )

    def _legacy(self, claims: _LegacyClaims) -> Principal:
        self._check_begun(claims.iat, claims.nbf)
        return Principal(
            user_id=claims.sub,
            role=claims.role,
            expires_second=claims.exp,
            scopes=GRANTS[claims.role],
        )

    def _check_begun(self, *seconds: int) -> None:
        if max(seconds) > self._now_second() + LEEWAY_SECONDS:
            raise _refused("it is not valid yet")

    def _remember(self, digest: bytes, verified: _Remembered) -> None:
        if len(self._remembered) >= REMEMBERED_MAX:
            # The oldest: dicts keep the order of insertion.
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = verified


def scope_claim(role: Role) -> str:
    """All that a role is granted, as the claim `scope`, in the order that scopes are listed."""
    return " ".join(scope for scope in Scope if scope in GRANTS[role])


def _refused(reason: str) -> Refusal:
    return Refusal(WireCode.UNAUTHORIZED, f"The token is not valid: {reason}.")


def _legacy_kid(header: dict[str, Any]) -> str:
    msgspec.convert(header, _LegacyHeader)
    return LEGACY_KID


def _segments(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = token.split(".")
    if len(parts) != 3:
        raise _refused("it has not three parts")
    header, payload, _ = (_decoded(part) for part in parts)
    return _object(header), _object(payload)


def _decoded(segment: str) -> bytes:
    try:
        raw = base64.b64decode(
            segment.encode("ascii") + b"=" * (-len(segment) % 4), b"-_", validate=True
        )
    except (UnicodeEncodeError, binascii.Error) as exc:
        raise _refused("a part is not base64url") from exc
    # Bits that no byte needs could be anything: the same token would have several spellings.
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != segment.encode("ascii"):
        raise _refused("a part is not the shortest base64url")
    return raw


def _object(encoded: bytes) -> dict[str, Any]:
    try:
        found = json.loads(
            encoded.decode("utf-8"), object_pairs_hook=_once_each, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as exc:
        raise _refused("a part is not JSON") from exc
    if not isinstance(found, dict):
        raise _refused("a part is not an object")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _refused("a member is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)
