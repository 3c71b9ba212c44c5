"""Command connection between gateways and the engine: frames of a 4-byte big-endian length and
JSON.

One connection carries many requests; answers come in the order of the log, matched by id.
"""

import struct
from typing import Annotated

import msgspec

from schemas.commands import Command, LedgerCommand
from schemas.events import LedgerEvent
from schemas.rejections import Rejection

FRAME_BYTES_MAX = 4 << 20
KEY_CHARS_MAX = 128
TRACE_CHARS_MAX = 64
# Begins the keys that a gateway makes for its own re-sends: nobody asks again after a minute.
OWN_KEY_MARK = "~"
LENGTH = struct.Struct(">I")

Key = Annotated[str, msgspec.Meta(max_length=KEY_CHARS_MAX)]
Trace = Annotated[str, msgspec.Meta(max_length=TRACE_CHARS_MAX)]


class AdvanceClock(Command, frozen=True, kw_only=True, tag="advance_clock"):
    """Moves a virtual clock (warp, simulation); refused by an engine on the wall clock."""

    to_ns: int


class DigestState(Command, frozen=True, kw_only=True, tag="digest_state"):
    """Asks for a digest of the whole state: to compare with a fold of the log, or a standby.

    The engine stands still while it dumps the state (about 1 s at 100,000 users): for operators.
    """


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """id: chosen by the caller, unique among its outstanding requests of the connection.

    key: idempotency key, "" for none. It is looked for under (user of the command or "", command
    type, key): the first answer is given again for at least 24 h, and nothing happens twice.
    trace: correlation id, for the logs alone.
    """

    id: int
    command: LedgerCommand | AdvanceClock | DigestState
    key: Key = ""
    trace: Trace = ""


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag="accepted"):
    """The events are on disk; last_position is that of the last one.

    events: their stored payloads. is_repeat: this is the first answer to the same key, once more.
    """

    id: int
    last_position: int
    events: tuple[LedgerEvent, ...]
    is_repeat: bool = False


class AcceptedStored(msgspec.Struct, frozen=True, kw_only=True, tag="accepted"):
    """Accepted as the engine writes it: the payloads are encoded already."""

    id: int
    last_position: int
    events: tuple[msgspec.Raw, ...]
    is_repeat: bool = False


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Nothing was appended. is_repeat: as in Accepted."""

    id: int
    rejection: Rejection
    is_repeat: bool = False


class StateDigest(msgspec.Struct, frozen=True, kw_only=True, tag="state_digest"):
    """sha256: hex, of the canonical snapshot of the state that the log up to `position` makes."""

    id: int
    position: int
    sha256: str


class Malformed(msgspec.Struct, frozen=True, kw_only=True, tag="malformed"):
    """The frame could not be read as a request; message says where. id is None if it had none."""

    id: int | None
    message: str


Reply = Accepted | Refused | Malformed | StateDigest


def pack_frame(body: bytes) -> bytes:
    """The bytes of one frame. Raises ValueError above FRAME_BYTES_MAX."""
    if len(body) > FRAME_BYTES_MAX:
        raise ValueError(f"frame of {len(body)} bytes; at most {FRAME_BYTES_MAX}")
    return LENGTH.pack(len(body)) + body
