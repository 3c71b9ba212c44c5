"""From a Kafka record to a batch: decodes its lines, skips what is folded already, feeds the fold.

One folder per projection and partition. load() starts again from what the views hold; nothing is
remembered between batches that a restart could not read back.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from projections import markets, pool
from projections.batch import Batch
from projections.errors import RecordBroken, ViewBroken
from projections.market import TICKER_INTERVAL
from projections.ports import ViewReader
from projections.users import USERS_CACHED_MAX, UsersFold
from schemas import views
from schemas.effects import effect_decoder
from schemas.events import LedgerEvent
from schemas.records import EVENTS_TOPIC, POSTINGS_TOPIC, RecordHead
from schemas.views import AccountView, Candle, ContributionView

TOPIC = {
    views.MARKET: EVENTS_TOPIC,
    views.MINING: EVENTS_TOPIC,
    views.ACCOUNTS: POSTINGS_TOPIC,
}

_events: msgspec.json.Decoder[LedgerEvent] = msgspec.json.Decoder(LedgerEvent)
Shape = TypeVar("Shape")


class Folder(Protocol):
    """What a partition's worker drives."""

    async def load(self, reader: ViewReader) -> None:
        """Forget everything and start from the stored views."""
        ...

    async def fold(
        self, head: RecordHead, value: bytes, *, after: int, reader: ViewReader
    ) -> Batch:
        """The batch of a record's events with positions beyond `after`.

        Raises RecordBroken when the lines do not fit the head.
        """
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

    async def load(self, reader: ViewReader) -> None:
        self._fold = await self._restore(reader)

    async def fold(
        self, head: RecordHead, value: bytes, *, after: int, reader: ViewReader
    ) -> Batch:
        fold, happened = self._fold, _decode(_events, value)
        assert fold is not None, "load() comes first"
        if len(happened) != head.last - head.first + 1:
            raise RecordBroken(f"{len(happened)} lines for positions {head.first} to {head.last}")
        for position, event in enumerate(happened, head.first):
            if position > after:
                fold.fold(position, event)
        return fold.drain()


class EffectFolder:
    """Drives the fold of one partition of ledger.postings; users are read when first touched."""

    def __init__(self, *, cached_max: int = USERS_CACHED_MAX) -> None:
        self._cached_max = cached_max
        self._fold = UsersFold(cached_max=cached_max)

    async def load(self, reader: ViewReader) -> None:
        self._fold = UsersFold(cached_max=self._cached_max)

    async def fold(
        self, head: RecordHead, value: bytes, *, after: int, reader: ViewReader
    ) -> Batch:
        effects = [effect for effect in _decode(effect_decoder, value) if effect.position > after]
        positions = [effect.position for effect in effects]
        if positions != sorted(positions) or any(position > head.last for position in positions):
            raise RecordBroken(f"effects outside positions {head.first} to {head.last}")
        await self._adopt([effect.user_id for effect in effects], reader)
        for effect in effects:
            self._fold.fold(effect)
        return self._fold.drain()

    async def _adopt(self, user_ids: list[str], reader: ViewReader) -> None:
        unknown = self._fold.unknown(user_ids)
        accounts = await reader.strings(
            views.TRADING_DB, [views.account_key(user_id) for user_id in unknown]
        )
        contributions = await reader.strings(
            views.CONTRIBUTION_DB, [views.contribution_key(user_id) for user_id in unknown]
        )
        stored = zip(unknown, accounts, contributions, strict=True)
        for user_id, account, contribution in stored:
            self._fold.adopt(
                user_id,
                _read(account, AccountView) if account else None,
                _read(contribution, ContributionView) if contribution else None,
            )


def folder(projection: str) -> Folder:
    """A folder of one partition of the named projection, not yet loaded."""
    if projection == views.ACCOUNTS:
        return EffectFolder()
    return EventFolder(restore_markets if projection == views.MARKET else restore_pool)


async def restore_markets(reader: ViewReader) -> markets.MarketsFold:
    """The fold of projection market, as its last commit left it."""
    (stored,) = await reader.strings(markets.STATE_PLACE[0], [markets.STATE_PLACE[1]])
    if stored is None:
        return markets.MarketsFold()
    state = _read(stored, markets.MarketsState)
    minutes = {}
    for market_id, market in state.markets.items():
        key = views.kline_key(market_id, TICKER_INTERVAL)
        kept = await reader.fields((views.TRADING_DB, key), markets.window_fields(market))
        minutes[market_id] = [_read(candle, Candle) for candle in kept if candle is not None]
    offsets = await reader.all_fields(markets.OFFSETS_PLACE)
    return markets.MarketsFold(state, offsets=offsets, minutes=minutes)


async def restore_pool(reader: ViewReader) -> pool.PoolFold:
    """The fold of projection mining, as its last commit left it."""
    (stored,) = await reader.strings(pool.STATE_PLACE[0], [pool.STATE_PLACE[1]])
    offsets = await reader.all_fields(pool.OFFSETS_PLACE)
    return pool.PoolFold(_read(stored, pool.PoolState) if stored else None, offsets=offsets)


def _decode(decoder: msgspec.json.Decoder[Shape], value: bytes) -> list[Shape]:
    try:
        return decoder.decode_lines(value)
    except msgspec.DecodeError as exc:
        raise RecordBroken(f"a line cannot be read: {exc}") from exc


def _read(stored: bytes, kind: type[Shape]) -> Shape:
    try:
        return msgspec.json.decode(stored, type=kind)
    except msgspec.DecodeError as exc:
        raise ViewBroken(f"a stored {kind.__name__} cannot be read: {exc}") from exc
