"""What the engine can say to a request, and whom it says it to."""

from collections.abc import Callable
from typing import NamedTuple

from schemas import frames
from schemas.rejections import Rejection


class Stored(NamedTuple):
    """An accepted command: position of its last event, stored payloads."""

    last_position: int
    payloads: tuple[bytes, ...]


class Digest(NamedTuple):
    """Of the state that the log up to position makes; hex."""

    position: int
    sha256: str


Outcome = Stored | Rejection | Digest
Answer = Callable[[int, Outcome, bool], None]
"""Takes request id, outcome, and whether it is a first answer given once more."""


class Pending(NamedTuple):
    request: frames.Request
    answer: Answer


def code_of(outcome: Outcome) -> str:
    """As counted: accepted, or the refusal's code."""
    return str(outcome.code) if isinstance(outcome, Rejection) else "accepted"
