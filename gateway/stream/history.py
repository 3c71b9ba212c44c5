"""The publications of one feed: repeats dropped, holes noticed, the last kept for who comes back
after a cut.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from gateway.stream.publication import Publication, State

HISTORY_MAX = 10_000


class History:
    """At most HISTORY_MAX publications over all public channels of the feed; the oldest go first.

    Private channels are not kept: a whole account is read as fast as it is remembered.
    """

    def __init__(self, publications: Iterable[Publication] = ()) -> None:
        self._oldest_first: deque[Publication] = deque()
        self._by_key: dict[str, deque[Publication]] = {}
        # These outlive what is kept: offset and state of each channel's newest publication.
        self._offsets: dict[str, int] = {}
        self._states: dict[str, State] = {}
        for publication in publications:
            self.admit(publication.key, [publication])

    def admit(
        self, key: str, publications: Sequence[Publication]
    ) -> tuple[Sequence[Publication], bool]:
        """Take what the feed brought on one channel, oldest first: what of it is new, and whether
        something is missing before that.

        What comes before a hole is left out: who is told of the hole reads a newer state anyway.
        """
        channel = publications[0].channel
        if channel.user_id:
            return publications, False
        known, has_hole = self._offsets.get(key), False
        fresh: list[Publication] = []
        for publication in publications:
            if known is not None and publication.offset <= known:
                continue
            if known is not None and not publication.follows(known):
                has_hole = True
                fresh.clear()
                self._by_key.pop(key, None)
                self._states.pop(key, None)
            known = publication.offset
            if channel.traits.sends_changes:
                self._note_changes(key, publication)
            self._keep(key, publication)
            fresh.append(publication)
        if known is not None:
            self._offsets[key] = known
        return fresh, has_hole

    def since(
        self, key: str, offset: int, count_max: int | None = None
    ) -> list[Publication] | None:
        """All after `offset`, oldest first; None if that cannot be said for sure, or if they are
        more than count_max.
        """
        kept = self._by_key.get(key)
        if not kept or offset > kept[-1].offset:
            return None
        missed: list[Publication] = []
        for publication in reversed(kept):
            if publication.offset <= offset:
                break
            if len(missed) == count_max:
                return None
            missed.append(publication)
        missed.reverse()
        if missed and not missed[0].follows(offset):
            return None
        if len(missed) == len(kept) and missed[0].previous is None:
            # Whether there was one in between that is no longer kept cannot be told.
            return missed if missed[0].offset - 1 <= offset else None
        return missed

    def _note_changes(self, key: str, publication: Publication) -> None:
        before, state = self._states.get(key), publication.state()
        if before is not None:
            publication.change_from(before, state)
        self._states[key] = state

    def _keep(self, key: str, publication: Publication) -> None:
        self._oldest_first.append(publication)
        self._by_key.setdefault(key, deque()).append(publication)
        if len(self._oldest_first) > HISTORY_MAX:
            oldest = self._oldest_first.popleft()
            kept = self._by_key.get(oldest.key)
            if kept and kept[0] is oldest:
                kept.popleft()
                if not kept:
                    del self._by_key[oldest.key]
