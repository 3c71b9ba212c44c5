"""What a channel's snapshot says, read from the views in one atomic step with epoch and offset."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, assert_never

import msgspec

from gateway.cancelling import end_all
from gateway.candles import candle_span
from gateway.catalogue import Catalogue
from gateway.errors import Refusal, ViewsUnavailable
from gateway.stream.balances import Balances, balance_now
from gateway.stream.channels import PRIVATE_KINDS, Channel, Kind
from gateway.stream.hub import Hub, SnapshotRead
from gateway.views import AccountState, Versioned, Views
from schemas import publications
from schemas.amounts import format_amount
from schemas.views import INTERVAL_SECONDS, BurnMinute
from schemas.wire import BurnsShown, TradesShown

TRADES_SHOWN = 50
BURN_MINUTES_SHOWN = 60
READS_AT_ONCE_MAX = 8
RETRY_SECONDS = 0.1
# Users whose snapshots are read in one step.
USERS_AT_ONCE_MAX = 64
NOTHING = b"null"
EMPTY_DEPTH = publications.Depth(bids=(), asks=())
UNREADABLE = SnapshotRead(epoch=None, offset=0, content=NOTHING)

_encode = msgspec.json.Encoder().encode


class SnapshotReader:
    def __init__(self, views: Views, catalogue: Catalogue) -> None:
        self._views = views
        self._catalogue = catalogue
        self.balances = Balances(views, catalogue)

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
            case Kind.DEPTH:
                market = await self._catalogue.market(channel.market_id)
                depth, versioned = await self._views.depth(channel.market_id)
                shown = publications.depth(depth, market) if depth else EMPTY_DEPTH
                return _read(versioned, _encode(shown))
            case Kind.ACCOUNT | Kind.BALANCE:
                (snapshot,) = await self.read_private([channel])
                return snapshot
            case _:
                assert_never(channel.kind)

    async def read_private(self, channels: Sequence[Channel]) -> list[SnapshotRead]:
        """Those of several users in one step, in the order asked for.

        One whose assets are not known yet is as if nothing were written. Raises as read does.
        """
        asked = [channel.user_id for channel in channels]
        versions = [self.balances.version(user_id) for user_id in asked]
        states = await self._views.accounts(asked)
        pulse, moment = UNREADABLE, None
        if any(channel.kind is Kind.BALANCE for channel in channels):
            pulse = await self._pulse()
            has_pulse = pulse.content != NOTHING
            moment = await self.balances.moment(pulse.content) if has_pulse else None
        found = []
        for channel, state, version in zip(channels, states, versions, strict=True):
            try:
                if channel.kind is Kind.BALANCE:
                    held = await self.balances.note(state.account, state.contribution, version)
                    content = _encode(balance_now(held, moment)) if moment else NOTHING
                    found.append(msgspec.structs.replace(pulse, content=content))
                else:
                    versioned = Versioned(epoch=state.epoch, offset=state.account.offset)
                    found.append(_read(versioned, await self.account(state)))
            except Refusal:
                found.append(UNREADABLE)
        return found

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
    """Reads what the hub asks for, a bounded number at a time, until it fits the feed's epoch.

    Private channels are read many at a time: after a cut thousands of users come back at once.
    """

    def __init__(
        self, reader: SnapshotReader, failed: Callable[[BaseException], None] | None = None
    ) -> None:
        """failed: hears of what no read should raise; whoever waits for it would wait for ever."""
        self._reader = reader
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(READS_AT_ONCE_MAX)
        # The newest ticket of each private channel that awaits its turn.
        self._waiting: dict[str, tuple[Channel, int]] = {}
        self._is_serving_users = False
        self.hub = Hub(self._ask)

    async def close(self) -> None:
        await end_all(self._tasks)

    def _ask(self, channel: Channel, ticket: int) -> None:
        if channel.kind not in PRIVATE_KINDS:
            self._begin(self._serve(channel, ticket))
            return
        self._waiting[channel.key] = (channel, ticket)
        if not self._is_serving_users:
            self._is_serving_users = True
            self._begin(self._serve_users())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end_of_work)

    def _end_of_work(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._failed is not None and not task.cancelled() and (fault := task.exception()):
            self._failed(fault)

    async def _serve(self, channel: Channel, ticket: int) -> None:
        while self.hub.is_awaited(channel.key, ticket):
            async with self._turns:
                try:
                    snapshot = await self._reader.read(channel)
                except (ViewsUnavailable, Refusal):
                    snapshot = UNREADABLE
            if self.hub.take_snapshot(channel.key, ticket, snapshot):
                return
            # Redis is away or empty, or the feed has not noticed a new epoch yet.
            await asyncio.sleep(RETRY_SECONDS)

    async def _serve_users(self) -> None:
        try:
            while self._waiting:
                if not await self._serve_some_users():
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._is_serving_users = False

    async def _serve_some_users(self) -> bool:
        # False: Redis is away.
        keys = list(itertools.islice(self._waiting, USERS_AT_ONCE_MAX))
        asked = [self._waiting.pop(key) for key in keys]
        asked = [each for each in asked if self.hub.is_awaited(each[0].key, each[1])]
        if not asked:
            return True
        try:
            snapshots = await self._reader.read_private([channel for channel, _ in asked])
        except (ViewsUnavailable, Refusal):
            for channel, ticket in asked:
                self._waiting.setdefault(channel.key, (channel, ticket))
            return False
        refused = [
            (channel, ticket)
            for (channel, ticket), snapshot in zip(asked, snapshots, strict=True)
            if not self.hub.take_snapshot(channel.key, ticket, snapshot)
        ]
        if refused:
            self._begin(self._ask_later(refused))
        return True

    async def _ask_later(self, refused: Sequence[tuple[Channel, int]]) -> None:
        # Others need not wait for those whose feed has not noticed a new epoch yet.
        await asyncio.sleep(RETRY_SECONDS)
        for channel, ticket in refused:
            if self.hub.is_awaited(channel.key, ticket):
                self._ask(channel, ticket)


def _read(versioned: Versioned, content: bytes) -> SnapshotRead:
    return SnapshotRead(epoch=versioned.epoch, offset=versioned.offset, content=content)
