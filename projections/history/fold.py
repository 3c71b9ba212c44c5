"""The fold of ledger.events into rows of the deep history.

Pure: events in the log's order go in, drain() gives the rows since the last drain; where batches
are cut changes nothing in the rows. What must survive a restart is HistoryState and each user's
newest weight change, which is read back when the user is first touched.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import assert_never

import msgspec

from projections import burns, klines
from projections.history.transactions import transactions_of
from schemas import events
from schemas.deep_history import (
    MINUTE_SECONDS,
    BurnRow,
    IndexMark,
    KlineRow,
    Transaction,
    WeightChange,
)
from schemas.events import BurnSource
from schemas.views import BurnMinute, Candle

SECOND_NS = 1_000_000_000
USERS_CACHED_MAX = 50_000

Contributing = (
    events.AccrualSettled
    | events.ContributionGranted
    | events.ContributionAdjusted
    | events.ContributionExpired
)

_encode = msgspec.json.Encoder().encode


class MarketMinutes(msgspec.Struct, kw_only=True):
    """The open minute of one market since its first trade. candles: by interval, 1m only."""

    base_asset: str
    candles: dict[str, Candle]
    burns: BurnMinute


class HistoryState(msgspec.Struct, kw_only=True):
    """last_second: allocated. reserves: the open minute of each asset that a reserve burned."""

    last_second: int = 0
    markets: dict[str, MarketMinutes] = {}
    reserves: dict[str, BurnMinute] = {}


class HistoryBatch:
    """Rows to append, by table and in the log's order, and the fold's state after them (JSON)."""

    __slots__ = ("burns", "klines", "marks", "state", "transactions", "weights")

    def __init__(self) -> None:
        self.transactions: list[Transaction] = []
        self.burns: list[BurnRow] = []
        self.klines: list[KlineRow] = []
        self.weights: list[WeightChange] = []
        self.marks: list[IndexMark] = []
        self.state = b""

    def extend(self, later: "HistoryBatch") -> None:
        """Add a later batch to this one."""
        self.transactions += later.transactions
        self.burns += later.burns
        self.klines += later.klines
        self.weights += later.weights
        self.marks += later.marks
        self.state = later.state

    def count(self) -> int:
        """Rows in it."""
        minutes = len(self.burns) + len(self.klines) + len(self.marks)
        return len(self.transactions) + len(self.weights) + minutes


def contributors(happened: Iterable[tuple[int, events.LedgerEvent]]) -> list[str]:
    """The users whose weight changes must be known before these events are folded."""
    found = (event.user_id for _, event in happened if isinstance(event, Contributing))
    return list(dict.fromkeys(found))


class HistoryFold:
    """cached_max: users kept between batches; those of the current batch always are."""

    __slots__ = ("_batch", "_cached_max", "_minute_ends_ns", "_state", "_users")

    def __init__(
        self, state: HistoryState | None = None, *, cached_max: int = USERS_CACHED_MAX
    ) -> None:
        self._state = state or HistoryState()
        self._cached_max = cached_max
        self._batch = HistoryBatch()
        self._minute_ends_ns = 0
        self._users: OrderedDict[str, WeightChange | None] = OrderedDict()

    def unknown(self, user_ids: Iterable[str]) -> list[str]:
        """Those that must be given by adopt() before their contribution is folded."""
        return [user_id for user_id in user_ids if user_id not in self._users]

    def adopt(self, user_id: str, newest: WeightChange | None) -> None:
        """Take in a user's newest stored change; None if there is none yet."""
        self._users[user_id] = newest

    def fold(self, position: int, event: events.LedgerEvent) -> None:
        """Add one event; position is the one after the last folded."""
        if event.at_ns >= self._minute_ends_ns:
            self._roll(position, event.at_ns // SECOND_NS)
        self._batch.transactions += transactions_of(position, event)
        match event:
            case events.OrderPlaced() | events.OrderCancelled() | events.OrderReduced():
                pass
            case events.TradeExecuted():
                self._trade(position, event)
            case events.AssetBurned():
                if event.source == "reserve":
                    self._burn_reserve(position, event)
            case events.MiningAllocated():
                self._allocate(position, event)
            case events.AccrualSettled():
                before = self._users[event.user_id]
                self._change_weight(position, event, before.weight if before else 0)
            case (
                events.ContributionGranted()
                | events.ContributionAdjusted()
                | events.ContributionExpired()
            ):
                self._change_weight(position, event, event.weight_after)
            case events.LedgerOpened():
                self._state.last_second = event.genesis_second - 1
            case (
                events.EpochStarted()
                | events.EmissionScheduled()
                | events.AccountOpened()
                | events.AccountFrozen()
                | events.AccountUnfrozen()
                | events.FundsDeposited()
                | events.FundsWithdrawn()
                | events.MarketOpened()
                | events.MarketConfigured()
                | events.MarketHalted()
                | events.MarketResumed()
                | events.ReserveBurnConfigured()
            ):
                pass
            case _:
                assert_never(event)

    def drain(self) -> HistoryBatch:
        """The rows since the last drain."""
        batch, self._batch = self._batch, HistoryBatch()
        batch.state = _encode(self._state)
        while len(self._users) > self._cached_max:
            self._users.popitem(last=False)
        return batch

    def _roll(self, position: int, second: int) -> None:
        # Minutes are closed by log time: the first event beyond one closes it.
        self._minute_ends_ns = (second // MINUTE_SECONDS + 1) * MINUTE_SECONDS * SECOND_NS
        for market_id, market in self._state.markets.items():
            for _, candle in klines.close_due(market.candles, second):
                self._batch.klines.append(_kline(position, market_id, candle))
            for minute in burns.close_due(market.burns, second):
                market.burns = minute
                if minute.closed:
                    self._close_burns(position, minute, "trade", market_id, market.base_asset)
        for asset_id, opened in self._state.reserves.items():
            for minute in burns.close_due(opened, second):
                self._state.reserves[asset_id] = minute
                if minute.closed:
                    self._close_burns(position, minute, "reserve", None, asset_id)

    def _close_burns(
        self,
        position: int,
        minute: BurnMinute,
        source: BurnSource,
        market_id: str | None,
        asset_id: str,
    ) -> None:
        row = BurnRow(
            position,
            minute.open_second,
            source,
            market_id,
            asset_id,
            minute.burned,
            minute.trade_count,
            minute.cumulative,
        )
        self._batch.burns.append(row)

    def _trade(self, position: int, event: events.TradeExecuted) -> None:
        market = self._state.markets.get(event.market_id)
        if market is None:
            second = event.at_ns // SECOND_NS
            market = self._state.markets[event.market_id] = MarketMinutes(
                base_asset=event.base_asset,
                candles=klines.open_candles(second, event.price_minor, (klines.MINUTE,)),
                burns=burns.open_minute(second),
            )
        klines.add_trade(market.candles[klines.MINUTE], event, position)
        burns.add_trade(market.burns, event, position)

    def _burn_reserve(self, position: int, event: events.AssetBurned) -> None:
        minute = self._state.reserves.get(event.asset_id)
        if minute is None:
            minute = burns.open_minute(event.at_ns // SECOND_NS)
            self._state.reserves[event.asset_id] = minute
        burns.add_reserve_burn(minute, event, position)

    def _allocate(self, position: int, event: events.MiningAllocated) -> None:
        self._state.last_second = event.second
        if event.second % MINUTE_SECONDS == MINUTE_SECONDS - 1:
            opened = event.second - MINUTE_SECONDS + 1
            mark = IndexMark(position, opened, event.index, event.allocated_minor)
            self._batch.marks.append(mark)

    def _change_weight(self, position: int, event: Contributing, weight: int) -> None:
        before = self._users[event.user_id]
        settled = before.settled_minor if before else 0
        if isinstance(event, events.AccrualSettled):
            settled += event.amount_minor
        change = WeightChange(
            position,
            self._state.last_second + 1,
            event.user_id,
            weight,
            event.entry_index,
            event.entry_fraction,
            settled,
        )
        self._users[event.user_id] = change
        self._users.move_to_end(event.user_id)
        self._batch.weights.append(change)


def _kline(position: int, market_id: str, candle: Candle) -> KlineRow:
    return KlineRow(
        position,
        candle.open_second,
        market_id,
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        candle.volume,
        candle.quote_volume,
        candle.trade_count,
        candle.taker_buy_volume,
        candle.taker_buy_quote_volume,
        candle.burned,
        candle.first_position,
        candle.last_position,
    )
