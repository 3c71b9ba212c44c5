"""Drives the fold of the deep history: from records or pages of ledger.events to batches of rows.

Reads back in the words of projections.ports.ViewReader: STATE_PLACE is the fold's state, each
field of WEIGHTS_PLACE a user's newest weight change (JSON).
"""

from collections.abc import Sequence

from projections.batch import Place
from projections.errors import EventPoisoned
from projections.folders import FOLD_FAULTS, decode_events
from projections.history.fold import (
    USERS_CACHED_MAX,
    HistoryBatch,
    HistoryFold,
    HistoryState,
    contributors,
)
from projections.ports import ViewReader
from projections.restore import read_stored
from schemas.deep_history import WEIGHTS, WeightChange
from schemas.events import LedgerEvent
from schemas.records import RecordHead

STATE_PLACE: Place = (0, "state")
WEIGHTS_PLACE: Place = (0, WEIGHTS)


class HistoryFolder:
    """A projections.folders.Folder; not yet loaded."""

    def __init__(self, *, cached_max: int = USERS_CACHED_MAX) -> None:
        self._cached_max = cached_max
        self._fold = HistoryFold(cached_max=cached_max)
        self._reader: ViewReader | None = None
        self.at_ns = 0

    async def load(self, reader: ViewReader) -> None:
        """Start from the stored state; users are read when first touched. Raises ViewBroken."""
        (stored,) = await reader.strings(STATE_PLACE[0], [STATE_PLACE[1]])
        state = read_stored(stored, HistoryState) if stored else None
        self._fold = HistoryFold(state, cached_max=self._cached_max)
        self._reader = reader

    async def fold_record(
        self, head: RecordHead, value: bytes, *, after: int, until: int | None = None
    ) -> int:
        """Fold the record's lines beyond `after`, up to `until`; how many.

        Raises EventPoisoned.
        """
        happened = decode_events(head, value, after=after, until=until)
        await self.fold_events(happened)
        return len(happened)

    async def fold_events(self, events: Sequence[tuple[int, LedgerEvent]]) -> None:
        """Fold (position, event) in the log's order. Raises EventPoisoned."""
        if not events:
            return
        await self._adopt(self._fold.unknown(contributors(events)))
        fold = self._fold.fold
        position, event = events[0]
        try:
            for position, event in events:
                fold(position, event)
        except FOLD_FAULTS as exc:
            raise EventPoisoned(
                position=position,
                event_type=str(event.__struct_config__.tag),
                reason=f"{type(exc).__name__}: {exc}",
            ) from exc
        self.at_ns = event.at_ns

    def drain(self) -> HistoryBatch:
        return self._fold.drain()

    async def _adopt(self, user_ids: Sequence[str]) -> None:
        if not user_ids:
            return
        assert self._reader is not None, "load() comes first"
        stored = await self._reader.fields(WEIGHTS_PLACE, user_ids)
        for user_id, change in zip(user_ids, stored, strict=True):
            known = read_stored(change, WeightChange) if change else None
            self._fold.adopt(user_id, known)
