"""The header with which a client makes a command happen once, however often it is sent."""

import re
from typing import Final

from starlette.datastructures import Headers

from gateway.errors import Refusal
from schemas.frames import KEY_CHARS_MAX, OWN_KEY_MARK
from schemas.wire import WireCode

HEADER: Final = "idempotency-key"
_KEY: Final = re.compile(rf"(?!{OWN_KEY_MARK})[!-~]{{1,{KEY_CHARS_MAX}}}")


def key_in(headers: Headers) -> str:
    """ "" without one. Raises Refusal(invalid_idempotency_key)."""
    keys = headers.getlist(HEADER)
    if not keys:
        return ""
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise Refusal(
            WireCode.INVALID_IDEMPOTENCY_KEY,
            f"An Idempotency-Key is 1 to {KEY_CHARS_MAX} visible ASCII characters, given once, and"
            f" does not begin with {OWN_KEY_MARK}.",
        )
    return keys[0]
