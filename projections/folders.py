"""From a Kafka record, or a page of the log, to a batch: decodes, skips what is folded, feeds the
fold.

One folder per projection and partition. load() starts again from what the views hold; nothing is
remembered between batches that a restart could not read back.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from domain.effects import effects_of
from projections.batch import Batch
from projections.errors import EventPoisoned
from projections.ports import ViewReader
from projections.restore import adopt_users, restore_markets, restore_pool
from projections.users import USERS_CACHED_MAX, UsersFold
from schemas import views
from schemas.effects import UserEffect, effect_decoder, partition_of
from schemas.events import LedgerEvent
from schemas.records import EVENTS_TOPIC, POSTINGS_PARTITIONS, POSTINGS_TOPIC, RecordHead

TOPIC = {
    views.MARKET: EVENTS_TOPIC,
    views.MINING: EVENTS_TOPIC,
    views.ACCOUNTS: POSTINGS_TOPIC,
    views.HISTORY: EVENTS_TOPIC,
}
# What arithmetic on an event may raise when the event, or the program that folds it, is wrong. A
# fold does no I/O, so none of these can be a server's fault.
FOLD_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    msgspec.MsgspecError,
)

REASON_MAX = 500

_events: msgspec.json.Decoder[LedgerEvent] = msgspec.json.Decoder(LedgerEvent)
BatchT_co = TypeVar("BatchT_co", covariant=True)


class Folder(Protocol[BatchT_co]):
    """What a partition's worker, or a rebuild, drives.

    Both fold_record and fold_events raise EventPoisoned for an event that cannot be decoded or
    folded. That event may then be folded in part: load() again, and fold only what comes before it.
    """

    @property
    def at_ns(self) -> int:
        """Engine time of the last event folded; 0 before the first."""
        ...

    async def load(self, reader: ViewReader) -> None:
        """Forget everything and start from the stored views; reader is kept for later reads."""
        ...

    async def fold_record(
        self, head: RecordHead, value: bytes, *, after: int, until: int | None = None
    ) -> int:
        """Fold the record's lines at positions beyond `after` and not beyond `until` (None: all);
        how many.
        """
        ...

    async def fold_events(self, events: Sequence[tuple[int, LedgerEvent]]) -> None:
        """Fold (position, event) of the log, in its order: all that follows the last one folded."""
        ...

    def drain(self) -> BatchT_co:
        """One batch of everything since the last drain."""
        ...


class EventFold(Protocol):
    """A fold of ledger.events."""

    def fold(self, position: int, event: LedgerEvent) -> None: ...

    def drain(self) -> Batch: ...


class EventFolder:
    """Drives a fold of ledger.events, which `restore` builds from the stored views."""

    def __init__(self, restore: Callable[[ViewReader], Awaitable[EventFold]]) -> None:
        self._restore = restore
        self._fold: EventFold | None = None
        self.at_ns = 0

    async def load(self, reader: ViewReader) -> None:
        self._fold = await self._restore(reader)

    async def fold_record(
        self, head: RecordHead, value: bytes, *, after: int, until: int | None = None
    ) -> int:
        events = decode_events(head, value, after=after, until=until)
        await self.fold_events(events)
        return len(events)

    async def fold_events(self, events: Sequence[tuple[int, LedgerEvent]]) -> None:
        assert self._fold is not None, "load() comes first"
        if not events:
            return
        fold = self._fold.fold
        position, event = events[0]
        try:
            for position, event in events:
                fold(position, event)
        except FOLD_FAULTS as exc:
            raise _poisoned(position, str(event.__struct_config__.tag), exc) from exc
        self.at_ns = event.at_ns

    def drain(self) -> Batch:
        assert self._fold is not None, "load() comes first"
        return self._fold.drain()


class EffectFolder:
    """Drives the fold of one partition of ledger.postings; users are read when first touched."""

    def __init__(
        self,
        *,
        partition: int = 0,
        partition_count: int = POSTINGS_PARTITIONS,
        quiet: bool = False,
        cached_max: int = USERS_CACHED_MAX,
    ) -> None:
        self._partition = partition
        self._partition_count = partition_count
        self._fresh = partial(UsersFold, cached_max=cached_max, quiet=quiet)
        self._fold = self._fresh()
        self._reader: ViewReader | None = None
        self.at_ns = 0

    async def load(self, reader: ViewReader) -> None:
        self._reader = reader
        self._fold = self._fresh()

    async def fold_record(
        self, head: RecordHead, value: bytes, *, after: int, until: int | None = None
    ) -> int:
        effects = decode_effects(head, value, after=after, until=until)
        await self.fold_effects(effects)
        return len(effects)

    async def fold_events(self, events: Sequence[tuple[int, LedgerEvent]]) -> None:
        await self.fold_effects(
            [
                effect
                for position, event in events
                for effect in effects_of(position, event)
                if partition_of(effect.user_id, self._partition_count) == self._partition
            ]
        )

    async def fold_effects(self, effects: Sequence[UserEffect]) -> None:
        """Fold this partition's effects. Raises EventPoisoned as fold_events does."""
        if not effects:
            return
        assert self._reader is not None, "load() comes first"
        await adopt_users(self._fold, [effect.user_id for effect in effects], self._reader)
        fold = self._fold.fold
        effect = effects[0]
        try:
            for effect in effects:
                fold(effect)
        except FOLD_FAULTS as exc:
            raise _poisoned(effect.position, effect.event_type, exc) from exc
        self.at_ns = effect.at_ns

    def drain(self) -> Batch:
        return self._fold.drain()


def folder(projection: str, partition: int = 0, *, quiet: bool = False) -> Folder[Batch]:
    """A folder of one partition of the named projection, not yet loaded.

    quiet: no publications are rendered, though their offsets go on (a rebuild has no audience).
    """
    if projection == views.ACCOUNTS:
        return EffectFolder(partition=partition, quiet=quiet)
    restore = restore_markets if projection == views.MARKET else restore_pool
    return EventFolder(partial(restore, quiet=quiet))


def decode_events(
    head: RecordHead, value: bytes, *, after: int, until: int | None = None
) -> list[tuple[int, LedgerEvent]]:
    """(position, event) of a record of ledger.events, beyond `after` and not beyond `until`.

    Raises EventPoisoned for the first line that cannot be read, and if lines and head do not fit.
    """
    first = max(after + 1, head.first)
    last = head.last if until is None else min(until, head.last)
    try:
        events = _events.decode_lines(value)
        lines = len(events)
        events = events[first - head.first : last - head.first + 1]
    except msgspec.DecodeError:
        texts = value.split(b"\n")
        lines = len(texts)
        texts = texts[first - head.first : last - head.first + 1]
        events = [_decode_event(position, text) for position, text in enumerate(texts, first)]
    if lines != head.last - head.first + 1:
        reason = f"{lines} lines for positions {head.first} to {head.last}"
        raise EventPoisoned(position=first, reason=reason)
    return list(enumerate(events, first))


def _decode_event(position: int, line: bytes) -> LedgerEvent:
    try:
        return _events.decode(line)
    except msgspec.DecodeError as exc:
        raise _poisoned(position, _told(line).type, exc) from exc


def decode_effects(
    head: RecordHead, value: bytes, *, after: int, until: int | None = None
) -> list[UserEffect]:
    """Effects of a record of ledger.postings, beyond `after` and not beyond `until`.

    Raises EventPoisoned for the first line that cannot be read, and if lines and head do not fit.
    """
    first = max(after + 1, head.first)
    last = head.last if until is None else min(until, head.last)
    try:
        effects = effect_decoder.decode_lines(value)
    except msgspec.DecodeError:
        effects = _readable_effects(value, first, last)
    positions = [effect.position for effect in effects]
    if positions != sorted(positions) or (positions and positions[-1] > head.last):
        reason = f"effects outside positions {head.first} to {head.last}, or not in order"
        raise EventPoisoned(position=first, reason=reason)
    if positions and (positions[0] < first or positions[-1] > last):
        effects = [effect for effect in effects if first <= effect.position <= last]
    return effects


def _readable_effects(value: bytes, first: int, last: int) -> list[UserEffect]:
    """Of positions first to last, though other lines cannot be read."""
    effects: list[UserEffect] = []
    for line in value.split(b"\n"):
        try:
            effect = effect_decoder.decode(line)
        except msgspec.DecodeError as exc:
            told = _told(line)
            # One event may have several lines here: a line that does not say its position may
            # belong to the event of the line before.
            unclear = effects[-1].position if effects else first
            position = unclear if told.position is None else told.position
            if first <= position <= last:
                raise _poisoned(position, told.event_type, exc) from exc
        else:
            if effect.position > last:
                break
            effects.append(effect)
    return effects


def _poisoned(position: int, event_type: str, fault: Exception) -> EventPoisoned:
    reason = f"{type(fault).__name__}: {fault}"[:REASON_MAX]
    return EventPoisoned(position=position, event_type=event_type, reason=reason)


class _Told(msgspec.Struct):
    """What a line says of itself, even if it is no event or effect that this program knows."""

    type: str = ""
    event_type: str = ""
    position: int | None = None


def _told(line: bytes) -> _Told:
    try:
        return msgspec.json.decode(line, type=_Told)
    except msgspec.DecodeError:
        return _Told()
