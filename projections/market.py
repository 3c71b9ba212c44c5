"""One market's views: candles, burn minutes, ticker and tape, with what each publishes.

MarketState is all that must survive a restart besides the views; the ticker's window is read
back from the stored minutes. Time is the log's: a second begins with its mining_allocated.
"""

import msgspec

from projections import burns, klines
from projections.batch import Batch
from projections.offsets import Offsets
from projections.ticker import TickerWindow
from projections.trades import trade_row
from schemas import publications, views
from schemas.amounts import format_amount
from schemas.events import AssetBurned, TradeExecuted
from schemas.publications import MS_NS
from schemas.views import BurnMinute, Candle, MarketView, TickerView

TICKER_INTERVAL = "1m"

encode = msgspec.json.Encoder().encode


class MarketState(msgspec.Struct, kw_only=True):
    """candles: the open one of each interval; empty until the first trade, as is minute.

    unpublished: intervals whose open candle changed in this second. ticker_unpublished: likewise.
    burned_total: of the base asset as of this market's last burn.
    """

    market: MarketView
    candles: dict[str, Candle] = {}
    minute: BurnMinute | None = None
    unpublished: tuple[str, ...] = ()
    ticker_unpublished: bool = False
    burned_total: int = 0
    last_trade_ns: int = 0


class Market:
    """Folds one market's events into a batch; `window` holds the closed minutes of the ticker."""

    __slots__ = ("_offsets", "_touched", "_window", "state")

    def __init__(self, state: MarketState, offsets: Offsets, window: TickerWindow) -> None:
        self.state = state
        self._offsets = offsets
        self._window = window
        self._touched = False

    def trade(self, event: TradeExecuted, position: int, batch: Batch) -> None:
        """Count one trade in every view and publish it on the tape."""
        state = self.state
        if state.minute is None:
            second = event.at_ns // 1_000_000_000
            state.candles = klines.open_candles(second, event.price_minor)
            state.minute = burns.open_minute(second)
        klines.add_trade(state.candles, event, position)
        burns.add_trade(state.minute, event, position)
        state.unpublished = klines.INTERVALS
        state.ticker_unpublished = True
        state.last_trade_ns = event.at_ns
        self._touched = True
        row = trade_row(event, position)
        market_id = state.market.market_id
        place = (views.TRADING_DB, views.trades_key(market_id))
        batch.push(place, encode(row), kept=views.TRADES_KEPT)
        self._publish(batch, "trades", publications.trade(row, state.market))

    def burn(self, event: AssetBurned, position: int, batch: Batch) -> None:
        """Publish one burn; its amount was counted with its trade."""
        self.state.burned_total = event.burned_total_minor
        self.state.ticker_unpublished = self._touched = True
        scale = self.state.market.base_scale
        burn = publications.Burn(
            trade_id=event.trade_id or 0,
            time=event.at_ns // MS_NS,
            asset=event.asset_id,
            burned=format_amount(event.amount_minor, scale),
            burned_total=format_amount(event.burned_total_minor, scale),
            position=position,
        )
        self._publish(batch, "burns", publications.BurnPublication(trade=burn))

    def roll(self, second: int, batch: Batch) -> None:
        """Close what ends at or before `second`: candles, then minutes of burns."""
        state = self.state
        if state.minute is None:
            return
        rolled = []
        for interval, candle in klines.close_due(state.candles, second):
            rolled.append(interval)
            self._write_candle(batch, interval, candle)
            self._publish_candle(batch, interval, candle)
            if interval == TICKER_INTERVAL:
                self._window.add(candle)
        if self._window.slide(state.candles[TICKER_INTERVAL].open_second):
            state.ticker_unpublished = True
        for minute in burns.close_due(state.minute, second):
            state.minute = minute
            if minute.closed:
                self._write_minute(batch, minute)
                record = publications.burn_record(minute, state.market)
                self._publish(batch, "burns", publications.BurnPublication(minute=record))
        if rolled:
            self._touched = True
            changed = {*rolled, *state.unpublished}
            state.unpublished = tuple(name for name in klines.INTERVALS if name in changed)

    def publish_changed(self, batch: Batch) -> None:
        """Once a second of log time: the open candles and the ticker, if they changed."""
        state = self.state
        for interval in state.unpublished:
            self._publish_candle(batch, interval, state.candles[interval])
        if state.ticker_unpublished:
            self._publish(batch, "ticker", publications.ticker(self._ticker(), state.market))
        state.unpublished, state.ticker_unpublished = (), False
        self._touched = True

    def drain(self, batch: Batch) -> bool:
        """Write the open candles, the open minute and the ticker; whether anything changed."""
        state = self.state
        if not self._touched:
            return False
        self._touched = False
        if state.minute is not None:
            for interval, candle in state.candles.items():
                self._write_candle(batch, interval, candle)
            self._write_minute(batch, state.minute)
            key = views.ticker_key(state.market.market_id)
            batch.put((views.TRADING_DB, key), encode(self._ticker()))
        return True

    def _ticker(self) -> TickerView:
        return self._window.view(
            self.state.market.market_id,
            self.state.candles[TICKER_INTERVAL],
            burned_total=self.state.burned_total,
            last_trade_ns=self.state.last_trade_ns,
        )

    def _write_candle(self, batch: Batch, interval: str, candle: Candle) -> None:
        key = views.kline_key(self.state.market.market_id, interval)
        batch.put_field((views.TRADING_DB, key), str(candle.open_second), encode(candle))

    def _write_minute(self, batch: Batch, minute: BurnMinute) -> None:
        key = views.burns_key(self.state.market.market_id)
        batch.put_field((views.TRADING_DB, key), str(minute.open_second), encode(minute))

    def _publish_candle(self, batch: Batch, interval: str, candle: Candle) -> None:
        kline = publications.kline(candle, self.state.market, interval)
        channel = f"kline.{self.state.market.market_id}.{interval}"
        self._offsets.publish(batch, channel, encode(kline))

    def _publish(self, batch: Batch, kind: str, publication: msgspec.Struct) -> None:
        channel = f"{kind}.{self.state.market.market_id}"
        self._offsets.publish(batch, channel, encode(publication))
