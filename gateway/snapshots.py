"""What a channel's snapshot says, read from the views in one atomic step with epoch and offset."""

import asyncio
from typing import assert_never

import msgspec

from gateway.candles import candle_span
from gateway.catalogue import Catalogue
from gateway.channels import Channel, Kind
from gateway.errors import Refusal, ViewsUnavailable
from gateway.hub import Hub, SnapshotRead
from gateway.views import AccountState, Versioned, Views
from schemas import publications
from schemas.amounts import format_amount
from schemas.views import INTERVAL_SECONDS, BurnMinute
from schemas.wire import BurnsShown, TradesShown

TRADES_SHOWN = 50
BURN_MINUTES_SHOWN = 60
READS_AT_ONCE_MAX = 8
RETRY_SECONDS = 0.1
NOTHING = b"null"

_encode = msgspec.json.Encoder().encode


class SnapshotReader:
    def __init__(self, views: Views, catalogue: Catalogue) -> None:
        self._views = views
        self._catalogue = catalogue

    async def read(self, channel: Channel) -> SnapshotRead:
        """Raises ViewsUnavailable, and Refusal for a market or asset that is gone."""
        match channel.kind:
            case Kind.PULSE:
                return await self._pulse()
            case Kind.MINING:
                pool, versioned = await self._views.pool()
                content = _encode(publications.mining_pool(pool)) if pool else NOTHING
                return _read(versioned, content)
            case Kind.TICKER:
                market = await self._catalogue.market(channel.market_id)
                view, versioned = await self._views.ticker(channel.market_id)
                return _read(
                    versioned, _encode(publications.ticker(view, market)) if view else NOTHING
                )
            case Kind.TRADES:
                market = await self._catalogue.market(channel.market_id)
                views, versioned = await self._views.trades(channel.market_id, TRADES_SHOWN)
                items = tuple(publications.trade(view, market) for view in views)
                return _read(versioned, _encode(TradesShown(items=items)))
            case Kind.KLINE:
                return await self._kline(channel)
            case Kind.BURNS:
                return await self._burns(channel)
            case Kind.ACCOUNT:
                state = await self._views.account(channel.user_id)
                versioned = Versioned(epoch=state.epoch, offset=state.account.offset)
                return _read(versioned, await self.account(state))
            case _:
                assert_never(channel.kind)

    async def account(self, state: AccountState) -> bytes:
        """The wire JSON of a whole account."""
        scales = await self._catalogue.scales(sorted(state.account.balances))
        mined_scale = await self._catalogue.mined_scale()
        return _encode(publications.account(state.account, state.contribution, scales, mined_scale))

    async def _pulse(self) -> SnapshotRead:
        epoch, newest = await self._views.newest_pulse()
        if newest is None:
            return SnapshotRead(epoch=epoch, offset=0, content=NOTHING)
        offset, content = newest
        return SnapshotRead(epoch=epoch, offset=offset, content=content)

    async def _kline(self, channel: Channel) -> SnapshotRead:
        """The open candle."""
        market = await self._catalogue.market(channel.market_id)
        span = await candle_span(self._views, channel.market_id, channel.interval)
        width = INTERVAL_SECONDS[channel.interval]
        newest = span.newest if span else 0
        # The next one too: it may have opened since the span was read.
        candles, versioned = await self._views.candles(
            channel.market_id, channel.interval, (newest, newest + width)
        )
        if not candles:
            return _read(versioned, NOTHING)
        return _read(versioned, _encode(publications.kline(candles[-1], market, channel.interval)))

    async def _burns(self, channel: Channel) -> SnapshotRead:
        """The newest minutes and the market's total."""
        market = await self._catalogue.market(channel.market_id)
        span = await candle_span(self._views, channel.market_id, "1m")
        width = INTERVAL_SECONDS["1m"]
        newest = span.newest if span else 0
        opened = range(newest - (BURN_MINUTES_SHOWN - 1) * width, newest + 2 * width, width)
        read, versioned = await self._views.burn_minutes(channel.market_id, opened)
        minutes: list[BurnMinute] = read[-BURN_MINUTES_SHOWN:]
        total = minutes[-1].cumulative if minutes else 0
        shown = BurnsShown(
            items=tuple(publications.burn_record(minute, market) for minute in minutes),
            cumulative=format_amount(total, market.base_scale),
        )
        return _read(versioned, _encode(shown))


class SnapshotDesk:
    """Reads what the hub asks for, a bounded number at a time, until it fits the feed's epoch."""

    def __init__(self, reader: SnapshotReader) -> None:
        self._reader = reader
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(READS_AT_ONCE_MAX)
        self.hub = Hub(self._ask)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ask(self, channel: Channel, ticket: int) -> None:
        task = asyncio.create_task(self._serve(channel, ticket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, channel: Channel, ticket: int) -> None:
        while self.hub.is_awaited(channel.key, ticket):
            async with self._turns:
                try:
                    snapshot = await self._reader.read(channel)
                except (ViewsUnavailable, Refusal):
                    snapshot = SnapshotRead(epoch=None, offset=0, content=NOTHING)
            if self.hub.take_snapshot(channel.key, ticket, snapshot):
                return
            # Redis is away or empty, or the feed has not noticed a new epoch yet.
            await asyncio.sleep(RETRY_SECONDS)


def _read(versioned: Versioned, content: bytes) -> SnapshotRead:
    return SnapshotRead(epoch=versioned.epoch, offset=versioned.offset, content=content)
