"""Kafka records: how log positions are packed into the topics ledger.events and ledger.postings.

The value is JSON lines separated by a newline. In ledger.events line i is the stored payload of
position first + i, the exact bytes of the log. In ledger.postings each line is a UserEffect that
names its own position; `last` then says that the partition is complete up to it, even if the value
is empty. Header values are ASCII: first, last (the positions a record covers: readers tell a
re-send from a hole by them), sequence (1, 2, 3 … per partition, for people), hash (hex, of the
event at `last`; ledger.events only).
"""

from collections.abc import Iterable

import msgspec

EVENTS_TOPIC = "ledger.events"
POSTINGS_TOPIC = "ledger.postings"
POSTINGS_PARTITIONS = 4
RECORD_EVENTS_MAX = 500


class RecordError(ValueError):
    """A Kafka record is not one of ours; str(error) says what is wrong with it."""


class RecordHead(msgspec.Struct, frozen=True, kw_only=True):
    first: int
    last: int
    sequence: int
    hash: str = ""

    def headers(self) -> list[tuple[str, bytes]]:
        """The Kafka headers of this head."""
        pairs = [
            ("first", b"%d" % self.first),
            ("last", b"%d" % self.last),
            ("sequence", b"%d" % self.sequence),
        ]
        return [*pairs, ("hash", self.hash.encode())] if self.hash else pairs


def read_head(headers: Iterable[tuple[str, bytes]]) -> RecordHead:
    """The head of a received record. Raises RecordError when a header is missing or no number."""
    found = dict(headers)
    try:
        return RecordHead(
            first=int(found["first"]),
            last=int(found["last"]),
            sequence=int(found["sequence"]),
            hash=bytes(found.get("hash", b"")).decode("ascii"),
        )
    except (KeyError, ValueError) as exc:
        raise RecordError(f"not a ledger record: headers {sorted(found)}") from exc
