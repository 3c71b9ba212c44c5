"""One market's views: candles, burn minutes, ticker, tape and depth, with what each publishes.

MarketState is all that must survive a restart besides the views; the ticker's window and the
book are read back from the stored minutes and orders. Time is the log's: a second begins with its
mining_allocated.
"""

from functools import partial

import msgspec

from projections import burns, klines
from projections.batch import Batch
from projections.depth import Depth, DepthState
from projections.offsets import Offsets
from projections.ticker import TickerWindow
from projections.trades import trade_row
from schemas import publications, views
from schemas.events import AssetBurned, TradeExecuted
from schemas.publications import BurnPublication
from schemas.views import BurnMinute, Candle, MarketView, TickerView, TradeView

encode = msgspec.json.Encoder().encode


class MarketState(msgspec.Struct, kw_only=True):
    """candles: the open one of each interval (see klines); empty until the first trade, as is
    minute.

    unpublished: intervals whose open candle changed in this second. ticker_unpublished: likewise.
    burned_total: of the base asset, in all markets and by the reserve.
    """

    market: MarketView
    candles: dict[str, Candle] = {}
    minute: BurnMinute | None = None
    unpublished: tuple[str, ...] = ()
    ticker_unpublished: bool = False
    burned_total: int = 0
    last_trade_ns: int = 0
    depth: DepthState = msgspec.field(default_factory=DepthState)


class Market:
    """Folds one market's events into a batch; `window` holds the closed minutes of the ticker."""

    __slots__ = ("_channels", "_keys", "_offsets", "_touched", "_window", "depth", "state")

    def __init__(
        self, state: MarketState, offsets: Offsets, window: TickerWindow, depth: Depth
    ) -> None:
        self.state = state
        self.depth = depth
        self._offsets = offsets
        self._window = window
        self._touched = False
        market_id = state.market.market_id
        # By interval, built once: names are asked for at every trade.
        self._channels = {name: f"kline.{market_id}.{name}" for name in klines.INTERVALS}
        self._keys = {name: views.kline_key(market_id, name) for name in klines.INTERVALS}

    def trade(self, event: TradeExecuted, position: int, batch: Batch) -> None:
        """Count one trade in every view and publish it on the tape."""
        state = self.state
        if state.minute is None:
            second = event.at_ns // 1_000_000_000
            state.candles = klines.open_candles(second, event.price_minor)
            state.minute = burns.open_minute(second)
        klines.add_trade(state.candles[klines.MINUTE], event, position)
        burns.add_trade(state.minute, event, position)
        state.unpublished = klines.INTERVALS
        state.ticker_unpublished = True
        state.last_trade_ns = event.at_ns
        self._touched = True
        row = trade_row(event, position)
        market_id = state.market.market_id
        place = (views.TRADING_DB, views.trades_key(market_id))
        batch.push(place, encode(row), kept=views.TRADES_KEPT)
        self._offsets.publish(batch, f"trades.{market_id}", partial(self._render_trade, row))
        self.depth.trade(event, position)

    def burn(self, event: AssetBurned, position: int, batch: Batch) -> None:
        """Note a burn of the base asset, and publish it if it was this market's or the reserve's.

        Its amount was counted with its trade.
        """
        state = self.state
        state.burned_total = event.burned_total_minor
        state.ticker_unpublished = state.minute is not None
        self._touched = True
        if event.source == "reserve" or event.market_id == state.market.market_id:
            render = partial(self._render_burn, event, position)
            self._offsets.publish(batch, f"burns.{state.market.market_id}", render)

    def configure(self, market: MarketView, batch: Batch) -> None:
        """Show the market's rules and status from now on."""
        self.state.market = market
        self._touched = True
        place = (views.TRADING_DB, views.MARKETS_KEY)
        batch.put_field(place, market.market_id, encode(market))

    def roll(self, second: int, batch: Batch) -> None:
        """Close what ends at or before `second`: candles, then minutes of burns."""
        state = self.state
        if state.minute is None:
            return
        rolled = set()
        for interval, candle in klines.close_due(state.candles, second):
            rolled.add(interval)
            self._write_candle(batch, interval, candle)
            self._publish_candle(batch, interval, candle)
            if interval == klines.MINUTE:
                self._window.add(candle)
        if self._window.slide(state.candles[klines.MINUTE].open_second):
            state.ticker_unpublished = True
        for minute in burns.close_due(state.minute, second):
            state.minute = minute
            if minute.closed:
                self._write_minute(batch, minute)
                render = partial(self._render_minute, minute)
                self._offsets.publish(batch, f"burns.{state.market.market_id}", render)
        if rolled:
            self._touched = True
            changed = {*rolled, *state.unpublished}
            state.unpublished = tuple(name for name in klines.INTERVALS if name in changed)

    def publish_changed(self, batch: Batch) -> None:
        """Once a second of log time: the open candles and the ticker, if they changed."""
        state = self.state
        for interval in state.unpublished:
            self._publish_candle(batch, interval, None)
        if state.ticker_unpublished:
            channel = f"ticker.{state.market.market_id}"
            self._offsets.publish(batch, channel, self._render_ticker)
        state.unpublished, state.ticker_unpublished = (), False
        self._touched = True

    def drain(self, batch: Batch) -> bool:
        """Write the open candles, the open minute and the ticker; whether the state changed."""
        state = self.state
        touched = self.depth.drain(batch, state.market, quiet=self._offsets.quiet)
        if not self._touched:
            return touched
        self._touched = False
        if state.minute is not None:
            for interval in state.candles:
                self._write_candle(batch, interval, klines.whole(state.candles, interval))
            self._write_minute(batch, state.minute)
            key = views.ticker_key(state.market.market_id)
            batch.put((views.TRADING_DB, key), encode(self._ticker()))
        return True

    def _ticker(self) -> TickerView:
        return self._window.view(
            self.state.market.market_id,
            self.state.candles[klines.MINUTE],
            burned_total=self.state.burned_total,
            last_trade_ns=self.state.last_trade_ns,
        )

    def _write_candle(self, batch: Batch, interval: str, candle: Candle) -> None:
        place = (views.TRADING_DB, self._keys[interval])
        batch.put_field(place, str(candle.open_second), encode(candle))

    def _write_minute(self, batch: Batch, minute: BurnMinute) -> None:
        key = views.burns_key(self.state.market.market_id)
        batch.put_field((views.TRADING_DB, key), str(minute.open_second), encode(minute))

    def _publish_candle(self, batch: Batch, interval: str, candle: Candle | None) -> None:
        """candle: None for the open one, which is put together only if it is rendered."""
        render = partial(self._render_candle, interval, candle)
        self._offsets.publish(batch, self._channels[interval], render)

    def _render_candle(self, interval: str, candle: Candle | None) -> bytes:
        shown = candle or klines.whole(self.state.candles, interval)
        return encode(publications.kline(shown, self.state.market, interval))

    def _render_trade(self, row: TradeView) -> bytes:
        return encode(publications.trade(row, self.state.market))

    def _render_burn(self, event: AssetBurned, position: int) -> bytes:
        burned = publications.burn(event, position, self.state.market.base_scale)
        if event.source == "trade":
            return encode(BurnPublication(trade=burned))
        return encode(BurnPublication(reserve=burned))

    def _render_minute(self, minute: BurnMinute) -> bytes:
        record = publications.burn_record(minute, self.state.market)
        return encode(BurnPublication(minute=record))

    def _render_ticker(self) -> bytes:
        return encode(publications.ticker(self._ticker(), self.state.market))
