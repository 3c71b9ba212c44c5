"""Command connection between gateways and the engine: frames of a 4-byte big-endian length and
JSON.

One connection carries many requests; answers come in the order of the log, matched by id.
"""

import struct

import msgspec

from schemas.commands import Command, LedgerCommand
from schemas.events import LedgerEvent
from schemas.rejections import Rejection

FRAME_BYTES_MAX = 4 << 20
LENGTH = struct.Struct(">I")


class AdvanceClock(Command, frozen=True, kw_only=True, tag="advance_clock"):
    """Moves a virtual clock (warp, simulation); refused by an engine on the wall clock."""

    to_ns: int


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """id: chosen by the caller, unique among its outstanding requests of the connection."""

    id: int
    command: LedgerCommand | AdvanceClock


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag="accepted"):
    """The events are on disk; last_position is that of the last one.

    events: their stored payloads.
    """

    id: int
    last_position: int
    events: tuple[LedgerEvent, ...]


class AcceptedStored(msgspec.Struct, frozen=True, kw_only=True, tag="accepted"):
    """Accepted as the engine writes it: the payloads are encoded already."""

    id: int
    last_position: int
    events: tuple[msgspec.Raw, ...]


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Nothing was appended."""

    id: int
    rejection: Rejection


class Malformed(msgspec.Struct, frozen=True, kw_only=True, tag="malformed"):
    """The frame could not be read as a request; message says where. id is None if it had none."""

    id: int | None
    message: str


Reply = Accepted | Refused | Malformed


def pack_frame(body: bytes) -> bytes:
    """The bytes of one frame. Raises ValueError above FRAME_BYTES_MAX."""
    if len(body) > FRAME_BYTES_MAX:
        raise ValueError(f"frame of {len(body)} bytes; at most {FRAME_BYTES_MAX}")
    return LENGTH.pack(len(body)) + body
