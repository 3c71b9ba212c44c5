"""What one batch of events changes: absolute values of views, rows pushed, publications for the
feed.

Collected by folds, applied by a store in one atomic step with the checkpoint. Knows no key's
meaning.
"""

from typing import NamedTuple

Place = tuple[int, str]


class Publication(NamedTuple):
    """One entry of a feed. data: JSON. user: whose account, for channel account only."""

    channel: str
    offset: int
    data: bytes
    user: str = ""


class Batch:
    """Writes by place, a (database, key); later writes of one place replace earlier ones.

    resets: deleted before anything else is applied.
    strings, fields: absolute values; a field of None is deleted. ranks: scores of a sorted set,
    None removes the member.
    rows: pushed to the head of a list one after another, which is then cut to rows_kept.
    publications: in the order in which they happened.
    """

    __slots__ = ("fields", "publications", "ranks", "resets", "rows", "rows_kept", "strings")

    def __init__(self) -> None:
        self.resets: list[Place] = []
        self.strings: dict[Place, bytes] = {}
        self.fields: dict[Place, dict[str, bytes | None]] = {}
        self.ranks: dict[Place, dict[str, int | None]] = {}
        self.rows: dict[Place, list[bytes]] = {}
        self.rows_kept: dict[Place, int] = {}
        self.publications: list[Publication] = []

    def put(self, place: Place, content: bytes) -> None:
        self.strings[place] = content

    def put_field(self, place: Place, field: str, content: bytes | None) -> None:
        """Set a hash's field; None takes it out."""
        hashed = self.fields.get(place)
        if hashed is None:
            hashed = self.fields[place] = {}
        hashed[field] = content

    def push(self, place: Place, row: bytes, *, kept: int) -> None:
        """Put a row at the head of a list that keeps its newest `kept` rows."""
        self.rows.setdefault(place, []).append(row)
        self.rows_kept[place] = kept

    def rank(self, place: Place, member: str, score: int) -> None:
        """Set a member's score; a score of 0 takes it out."""
        self.ranks.setdefault(place, {})[member] = score or None

    def reset(self, place: Place) -> None:
        """Delete a key and what this batch had for it so far."""
        self.resets.append(place)
        for kind in (self.strings, self.fields, self.ranks, self.rows):
            kind.pop(place, None)

    def publish(self, publication: Publication) -> None:
        self.publications.append(publication)
