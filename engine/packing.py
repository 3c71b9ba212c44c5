"""What a page of the log is in Kafka: lines, and how lines are packed into records. Pure."""

from collections.abc import Iterator, Sequence

from domain.effects import effects_of
from engine.ports import LoggedEvent
from schemas.codecs import decode_event
from schemas.effects import encode_effect, partition_of
from schemas.records import EVENTS_TOPIC, RECORD_EVENTS_MAX

Line = tuple[int, bytes]
"""A position and what a topic's record says of it."""


def lines_of(topic: str, logged: LoggedEvent) -> list[bytes]:
    if topic == EVENTS_TOPIC:
        return [logged.payload]
    effects = effects_of(logged.position, decode_event(logged.payload))
    return [encode_effect(effect) for effect in effects]


def postings_lines(page: Sequence[LoggedEvent], partitions: int) -> list[list[Line]]:
    """(position, line) of what a page's events mean for users, by partition."""
    lines: list[list[Line]] = [[] for _ in range(partitions)]
    for logged in page:
        for effect in effects_of(logged.position, decode_event(logged.payload)):
            owner = partition_of(effect.user_id, partitions)
            lines[owner].append((logged.position, encode_effect(effect)))
    return lines


def pack(lines: Sequence[Line], page_last: int) -> Iterator[tuple[int, list[bytes]]]:
    """Chunks of lines with the position each covers; effects of one event are never split.

    The last chunk covers page_last, even if it is empty.
    """
    chunk: list[bytes] = []
    for number, (position, line) in enumerate(lines):
        chunk.append(line)
        ends_event = number + 1 == len(lines) or lines[number + 1][0] != position
        if len(chunk) >= RECORD_EVENTS_MAX and ends_event and number + 1 < len(lines):
            yield position, chunk
            chunk = []
    yield page_last, chunk
