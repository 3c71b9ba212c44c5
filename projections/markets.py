"""The projection `market`: assets, markets and each market's views, folded from ledger.events.

Pure: a worker gives it events in the log's order and takes a batch whenever it likes; where
batches are cut changes nothing in the views.
"""

from typing import assert_never

import msgspec

from projections import burns
from projections.batch import Batch
from projections.market import TICKER_INTERVAL, Market, MarketState, encode
from projections.offsets import Offsets
from projections.ticker import TickerWindow, window_opens
from schemas import events, views
from schemas.views import AssetView, Candle, MarketView

SECOND_NS = 1_000_000_000
OFFSETS_PLACE = (views.TRADING_DB, views.offsets_key(views.MARKET))
STATE_PLACE = (views.TRADING_DB, views.state_key(views.MARKET))


class MarketsState(msgspec.Struct, kw_only=True):
    """scales: of every asset, by id. markets: by id, in the order of their opening."""

    scales: dict[str, int] = {}
    markets: dict[str, MarketState] = {}


def window_fields(state: MarketState) -> list[str]:
    """Fields of the market's 1m hash that its ticker's window must be read back from."""
    if state.minute is None:
        return []
    opened = state.candles[TICKER_INTERVAL].open_second
    width = burns.MINUTE_SECONDS
    return [str(second) for second in range(window_opens(opened), opened, width)]


class MarketsFold:
    """Folds events one by one; drain() gives what changed since the last drain."""

    __slots__ = ("_batch", "_markets", "_minute_ends_ns", "_offsets", "_state", "_state_changed")

    def __init__(
        self,
        state: MarketsState | None = None,
        *,
        offsets: dict[str, bytes] | None = None,
        minutes: dict[str, list[Candle]] | None = None,
    ) -> None:
        """minutes: closed 1m candles of each market's window, oldest first (see window_fields)."""
        self._batch = Batch()
        self._state = state or MarketsState()
        self._offsets = Offsets(OFFSETS_PLACE, offsets)
        self._minute_ends_ns = 0
        self._state_changed = False
        windows = {market_id: TickerWindow(kept) for market_id, kept in (minutes or {}).items()}
        self._markets = {
            market_id: Market(market, self._offsets, windows.get(market_id, TickerWindow()))
            for market_id, market in self._state.markets.items()
        }

    def fold(self, position: int, event: events.LedgerEvent) -> None:
        """Add one event; position is the one after the last folded."""
        if event.at_ns >= self._minute_ends_ns:
            self._roll(event.at_ns)
        match event:
            case events.MiningAllocated():
                for market in self._markets.values():
                    if market.state.unpublished or market.state.ticker_unpublished:
                        market.publish_changed(self._batch)
            case events.TradeExecuted():
                self._markets[event.market_id].trade(event, position, self._batch)
            case events.AssetBurned():
                if event.market_id is not None:
                    self._markets[event.market_id].burn(event, position, self._batch)
            case events.LedgerOpened():
                self._open_ledger(event)
            case events.MarketOpened():
                self._open_market(event)
            case events.MarketConfigured():
                self._configure_market(event)
            case (
                events.EpochStarted()
                | events.EmissionScheduled()
                | events.AccrualSettled()
                | events.ContributionGranted()
                | events.ContributionAdjusted()
                | events.ContributionExpired()
                | events.AccountOpened()
                | events.AccountFrozen()
                | events.AccountUnfrozen()
                | events.FundsDeposited()
                | events.FundsWithdrawn()
                | events.MarketHalted()
                | events.MarketResumed()
                | events.ReserveBurnConfigured()
                | events.OrderPlaced()
                | events.OrderReduced()
                | events.OrderCancelled()
            ):
                pass
            case _:
                assert_never(event)

    def drain(self) -> Batch:
        """The writes and publications since the last drain."""
        batch, self._batch = self._batch, Batch()
        for market in self._markets.values():
            self._state_changed |= market.drain(batch)
        if self._state_changed:
            batch.put(STATE_PLACE, encode(self._state))
            self._state_changed = False
        return batch

    def _configure_market(self, event: events.MarketConfigured) -> None:
        state = self._state.markets[event.market_id]
        state.market = msgspec.structs.replace(state.market, burn_bps=event.rules.burn_bps)
        place = (views.TRADING_DB, views.MARKETS_KEY)
        self._batch.put_field(place, event.market_id, encode(state.market))
        self._state_changed = True

    def _roll(self, at_ns: int) -> None:
        # All intervals are whole minutes of Unix time, so one comparison per event guards them all.
        second = at_ns // SECOND_NS
        minute = second // burns.MINUTE_SECONDS
        self._minute_ends_ns = (minute + 1) * burns.MINUTE_SECONDS * SECOND_NS
        for market in self._markets.values():
            market.roll(second, self._batch)

    def _open_ledger(self, event: events.LedgerOpened) -> None:
        for asset in event.assets:
            self._state.scales[asset.asset_id] = asset.scale
            place = (views.TRADING_DB, views.ASSETS_KEY)
            self._batch.put_field(place, asset.asset_id, encode(AssetView(scale=asset.scale)))
        self._state_changed = True

    def _open_market(self, event: events.MarketOpened) -> None:
        scales = self._state.scales
        view = MarketView(
            market_id=event.market_id,
            base_asset=event.base_asset,
            quote_asset=event.quote_asset,
            base_scale=scales[event.base_asset],
            quote_scale=scales[event.quote_asset],
            tick_minor=event.tick_minor,
            lot_minor=event.lot_minor,
            burn_bps=event.rules.burn_bps,
        )
        state = self._state.markets[event.market_id] = MarketState(market=view)
        self._markets[event.market_id] = Market(state, self._offsets, TickerWindow())
        self._batch.put_field((views.TRADING_DB, views.MARKETS_KEY), event.market_id, encode(view))
        # The tape is the one view that grows by pushing: rows of a lost checkpoint must not stay.
        self._batch.reset((views.TRADING_DB, views.trades_key(event.market_id)))
        self._state_changed = True
