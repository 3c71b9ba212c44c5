"""What accounts are called: opaque ids, and user names, phones and e-mails in one spelling each.

Two spellings of one name would be two accounts, or one that can't be found: NFKC, then casefold.
"""

import base64
import re
import secrets
import unicodedata
from typing import Final, Literal

import msgspec

from gateway.errors import Refusal
from schemas.wire import WireCode
from schemas.wire_identity import (
    EMAIL_PATTERN,
    NAME_PATTERN,
    PHONE_PATTERN,
    SESSION_ID_PATTERN,
    USER_ID_PATTERN,
)

NameKind = Literal["user_name", "phone", "email"]

_ID_BYTES: Final = 16
_PATTERNS: Final[dict[NameKind, re.Pattern[str]]] = {
    "user_name": re.compile(NAME_PATTERN.rstrip("$")),
    "phone": re.compile(PHONE_PATTERN.rstrip("$")),
    "email": re.compile(EMAIL_PATTERN.rstrip("$")),
}
_USER_ID: Final = re.compile(USER_ID_PATTERN.rstrip("$"))
_SESSION_ID: Final = re.compile(SESSION_ID_PATTERN.rstrip("$"))


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What an account is found by, normalised; at least one of them."""

    user_name: str | None = None
    phone: str | None = None
    email: str | None = None

    def all(self) -> tuple[str, ...]:
        return tuple(name for name in (self.user_name, self.phone, self.email) if name)


def new_user_id() -> str:
    """Says nothing about anybody: what the ledger and all records outside rwa_auth know."""
    return f"u_{_random_id()}"


def new_session_id() -> str:
    return f"s_{_random_id()}"


def is_user_id(text: str) -> bool:
    return _USER_ID.fullmatch(text) is not None


def is_session_id(text: str) -> bool:
    return _SESSION_ID.fullmatch(text) is not None


def normalised(*, user_name: str | None, phone: str | None, email: str | None) -> Names:
    """Raises Refusal(invalid_request) for one that is none of its kind, or if all are missing."""
    names = Names(
        user_name=_checked("user_name", user_name),
        phone=_checked("phone", phone),
        email=_checked("email", email),
    )
    if not names.all():
        raise Refusal(
            WireCode.INVALID_REQUEST, "Give a user_name, a phone or an email.", {"field": "email"}
        )
    return names


def looked_for(login: str) -> tuple[NameKind, str] | None:
    """What somebody who typed this means; None if nobody can be called so."""
    text = fold(login.strip())
    kind: NameKind = "user_name"
    if "@" in text:
        kind = "email"
    elif text.startswith("+"):
        kind = "phone"
    return (kind, text) if _PATTERNS[kind].fullmatch(text) else None


def fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _checked(kind: NameKind, text: str | None) -> str | None:
    if text is None:
        return None
    folded = fold(text)
    if not _PATTERNS[kind].fullmatch(folded):
        raise Refusal(WireCode.INVALID_REQUEST, f"This is no {kind}.", {"field": kind})
    return folded


def _random_id() -> str:
    return base64.b32encode(secrets.token_bytes(_ID_BYTES)).rstrip(b"=").decode().lower()
