"""The last publications of one feed, by channel, for clients that come back after a cut."""

from collections import deque
from collections.abc import Iterable

import msgspec

HISTORY_MAX = 10_000


class Publication(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """content: wire JSON of what schemas.publications says for the channel."""

    key: str
    offset: int
    content: bytes


class History:
    """At most HISTORY_MAX publications over all channels of the feed; the oldest go first."""

    def __init__(self, publications: Iterable[Publication] = ()) -> None:
        self._oldest_first: deque[Publication] = deque()
        self._by_key: dict[str, deque[Publication]] = {}
        for publication in publications:
            self.add(publication)

    def add(self, publication: Publication) -> None:
        self._oldest_first.append(publication)
        self._by_key.setdefault(publication.key, deque()).append(publication)
        if len(self._oldest_first) > HISTORY_MAX:
            oldest = self._oldest_first.popleft()
            kept = self._by_key.get(oldest.key)
            if kept and kept[0] is oldest:
                kept.popleft()
                if not kept:
                    del self._by_key[oldest.key]

    def forget(self, key: str) -> None:
        """Drop a channel's publications: one between them is missing."""
        self._by_key.pop(key, None)

    def newest_offset(self, key: str) -> int | None:
        kept = self._by_key.get(key)
        return kept[-1].offset if kept else None

    def since(self, key: str, offset: int) -> list[Publication] | None:
        """All after `offset`, oldest first; None if that cannot be said for sure."""
        kept = self._by_key.get(key)
        if not kept or offset > kept[-1].offset:
            return None
        if offset < kept[0].offset - 1:
            return None
        return [publication for publication in kept if publication.offset > offset]
