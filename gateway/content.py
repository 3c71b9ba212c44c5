"""What a request may hold besides what its structs say: its media type, and text without NUL."""

import re
from typing import Final

from starlette.datastructures import Headers

from gateway.errors import Refusal
from schemas.wire import WireCode

NUL: Final = "\0"
# In JSON; of backslashes before it, an odd one would make it six plain characters.
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def require_media_type(headers: Headers, expected: str) -> None:
    """Of a request with a body. Parameters such as charset are not looked at: JSON has none.

    Raises Refusal(unsupported_media_type).
    """
    sent = headers.get("content-type", "")
    if sent.partition(";")[0].strip().lower() != expected:
        raise Refusal(
            WireCode.UNSUPPORTED_MEDIA_TYPE,
            f"Send the body as Content-Type: {expected}.",
            {"expected": expected},
        )
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refusal(
            WireCode.UNSUPPORTED_MEDIA_TYPE, "Send the body as it is, without Content-Encoding."
        )


def has_nul(body: bytes | bytearray) -> bool:
    """Whether a JSON text has U+0000 in a string: no database of ours can keep it."""
    return b"\\u0000" in body and _ESCAPED_NUL.search(body) is not None
