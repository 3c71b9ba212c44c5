"""The projection `market`: assets, markets and each market's views, folded from ledger.events.

Pure: a worker gives it events in the log's order and takes a batch whenever it likes; where
batches are cut changes nothing in the views.
"""

from collections.abc import Iterable, Mapping
from typing import assert_never

import msgspec

from projections import burns, klines, reserves
from projections.batch import Batch
from projections.depth import Depth
from projections.market import Market, MarketState, encode
from projections.offsets import Offsets
from projections.reserves import AssetState
from projections.ticker import TickerWindow, window_opens
from schemas import events, views
from schemas.views import AssetView, BookOrder, BurnedView, Candle, MarketView

SECOND_NS = 1_000_000_000
OFFSETS_PLACE = (views.TRADING_DB, views.offsets_key(views.MARKET))
STATE_PLACE = (views.TRADING_DB, views.state_key(views.MARKET))


class MarketsState(msgspec.Struct, kw_only=True):
    """scales: of every asset, by id. markets: by id, in the order of their opening.

    assets: burns of each asset of which some was burned.
    """

    scales: dict[str, int] = {}
    markets: dict[str, MarketState] = {}
    assets: dict[str, AssetState] = {}


class StoredMarket(msgspec.Struct, frozen=True, kw_only=True):
    """What a market's views hold that its state does not repeat.

    minutes: closed 1m candles of the ticker's window, oldest first (see window_fields). orders: the
    resting ones, by id.
    """

    minutes: Iterable[Candle] = ()
    orders: Iterable[tuple[int, BookOrder]] = ()


NOTHING_STORED = StoredMarket()


def window_fields(state: MarketState) -> list[str]:
    """Fields of the market's 1m hash that its ticker's window must be read back from."""
    if state.minute is None:
        return []
    opened = state.candles[klines.MINUTE].open_second
    width = klines.MINUTE_SECONDS
    return [str(second) for second in range(window_opens(opened), opened, width)]


class MarketsFold:
    """Folds events one by one; drain() gives what changed since the last drain.

    quiet: publications are counted but not rendered, for a rebuild.
    """

    __slots__ = (
        "_assets_changed",
        "_batch",
        "_by_base",
        "_markets",
        "_minute_ends_ns",
        "_offsets",
        "_state",
        "_state_changed",
    )

    def __init__(
        self,
        state: MarketsState | None = None,
        *,
        offsets: dict[str, bytes] | None = None,
        stored: Mapping[str, StoredMarket] | None = None,
        quiet: bool = False,
    ) -> None:
        """stored: by market."""
        self._batch = Batch()
        self._state = state or MarketsState()
        self._offsets = Offsets(OFFSETS_PLACE, offsets, quiet=quiet)
        self._minute_ends_ns = 0
        self._state_changed = False
        self._assets_changed: set[str] = set()
        self._markets: dict[str, Market] = {}
        self._by_base: dict[str, list[Market]] = {}
        for market_id, market in self._state.markets.items():
            self._add_market(market, (stored or {}).get(market_id, NOTHING_STORED))

    def fold(self, position: int, event: events.LedgerEvent) -> None:
        """Add one event; position is the one after the last folded."""
        if event.at_ns >= self._minute_ends_ns:
            self._roll(event.at_ns)
        # The frequent ones come first.
        match event:
            case events.OrderPlaced():
                self._markets[event.market_id].depth.place(event, position)
            case events.OrderCancelled():
                self._markets[event.market_id].depth.cancel(event, position)
            case events.TradeExecuted():
                self._markets[event.market_id].trade(event, position, self._batch)
            case events.AssetBurned():
                self._burn(event, position)
            case events.MiningAllocated():
                for market in self._markets.values():
                    if market.state.unpublished or market.state.ticker_unpublished:
                        market.publish_changed(self._batch)
            case events.OrderReduced():
                self._markets[event.market_id].depth.reduce(event, position)
            case events.LedgerOpened():
                self._open_ledger(event)
            case events.MarketOpened():
                self._open_market(event)
            case events.MarketConfigured():
                self._configure_market(event.market_id, **msgspec.structs.asdict(event.rules))
            case events.MarketHalted():
                self._configure_market(event.market_id, is_halted=True, halt_reason=event.reason)
            case events.MarketResumed():
                self._configure_market(event.market_id, is_halted=False, halt_reason=None)
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
                | events.ReserveBurnConfigured()
            ):
                pass
            case _:
                assert_never(event)

    def drain(self) -> Batch:
        """The writes and publications since the last drain."""
        batch, self._batch = self._batch, Batch()
        for market in self._markets.values():
            self._state_changed |= market.drain(batch)
        for asset_id in self._assets_changed:
            reserves.write(self._state.assets[asset_id], batch)
        self._assets_changed.clear()
        self._offsets.drain(batch)
        if self._state_changed:
            batch.put(STATE_PLACE, encode(self._state))
            self._state_changed = False
        return batch

    def _burn(self, event: events.AssetBurned, position: int) -> None:
        asset_id = event.asset_id
        asset = self._state.assets.get(asset_id)
        if asset is None:
            asset = AssetState(burned=BurnedView(asset_id=asset_id))
            self._state.assets[asset_id] = asset
        reserves.add_burn(asset, event, position)
        self._assets_changed.add(asset_id)
        self._state_changed = True
        for market in self._by_base.get(asset_id, ()):
            market.burn(event, position, self._batch)

    def _configure_market(self, market_id: str, **changed: object) -> None:
        market = self._markets[market_id]
        view = msgspec.structs.replace(market.state.market, **changed)
        market.configure(view, self._batch)

    def _roll(self, at_ns: int) -> None:
        # All intervals are whole minutes of Unix time, so one comparison per event guards them all.
        second = at_ns // SECOND_NS
        minute = second // burns.MINUTE_SECONDS
        self._minute_ends_ns = (minute + 1) * burns.MINUTE_SECONDS * SECOND_NS
        for market in self._markets.values():
            market.roll(second, self._batch)
        for asset_id, asset in self._state.assets.items():
            if asset.minute is not None:
                reserves.roll(asset, second, self._batch)
                self._assets_changed.add(asset_id)
                self._state_changed = True

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
            **msgspec.structs.asdict(event.rules),
        )
        burned = self._state.assets.get(event.base_asset)
        state = MarketState(market=view, burned_total=burned.burned.total if burned else 0)
        self._state.markets[event.market_id] = state
        self._add_market(state, NOTHING_STORED).configure(view, self._batch)
        # What grows by pushing, or by single orders: what a lost checkpoint left must not stay.
        self._batch.reset((views.TRADING_DB, views.trades_key(event.market_id)))
        self._batch.reset((views.TRADING_DB, views.book_key(event.market_id)))

    def _add_market(self, state: MarketState, stored: StoredMarket) -> Market:
        market = Market(
            state,
            self._offsets,
            TickerWindow(stored.minutes),
            Depth(state.depth, stored.orders),
        )
        self._markets[state.market.market_id] = market
        self._by_base.setdefault(state.market.base_asset, []).append(market)
        return market
