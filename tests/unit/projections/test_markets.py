"""The projection `market` on logs of the real domain: what it writes and what it publishes when."""

import asyncio
from typing import Any

import msgspec

from projections.fresh import FreshFold
from projections.memory import MemoryViews
from schemas import views
from schemas.events import LedgerEvent
from schemas.views import Candle, TickerView, TradeView
from tests.fixtures.ledger_logs import LOT, MARKET, TICK, LogBuilder, positioned

DB = views.TRADING_DB


def _fold(log: list[LedgerEvent]) -> MemoryViews:
    return FreshFold(views.MARKET).fold_all(positioned(log))


def _published(stored: MemoryViews, channel: str) -> list[Any]:
    entries = [entry for entry in stored.feeds[0] if entry.channel == channel]
    assert [entry.offset for entry in entries] == list(range(1, len(entries) + 1))
    return [msgspec.json.decode(entry.data) for entry in entries]


def _traded() -> LogBuilder:
    builder = LogBuilder(genesis_second=1_700_438_400)
    builder.pass_seconds(1)
    builder.open_users("maker", "taker")
    builder.trade(price=10_000, quantity=2_000)
    return builder


def test_assets_and_markets_are_written_before_any_trade() -> None:
    stored = _fold(LogBuilder().log)
    assert stored.views[DB, "assets"] == {"DUR": b'{"scale":8}', "CNY": b'{"scale":8}'}
    markets = asyncio.run(stored.all_fields((DB, "markets")))
    market = msgspec.json.decode(markets[MARKET], type=views.MarketView)
    assert (market.base_scale, market.quote_asset, market.burn_bps) == (8, "CNY", 10)
    assert not any(key.startswith(("kline:", "burns:", "ticker:")) for _, key in stored.views)


def test_open_candle_and_ticker_are_published_once_in_the_next_second() -> None:
    builder = _traded()
    builder.trade(price=10_001, quantity=1_000, taker_side="sell")
    before = _fold(builder.log)
    assert _published(before, f"kline.{MARKET}.1m") == []
    assert len(_published(before, f"trades.{MARKET}")) == 2
    builder.pass_seconds(3)
    after = _fold(builder.log)
    for interval in views.INTERVAL_SECONDS:
        (kline,) = _published(after, f"kline.{MARKET}.{interval}")
        assert (kline["open"], kline["close"]) == ("1.00000000", "1.00010000")
        assert (kline["volume"], kline["trade_count"], kline["closed"]) == ("0.30000000", 2, False)
    (ticker,) = _published(after, f"ticker.{MARKET}")
    assert (ticker["last"], ticker["change"]) == ("1.00010000", "0.00010000")


def test_closed_candle_is_published_always_then_the_next_one() -> None:
    builder = _traded()
    builder.pass_seconds(121)
    klines = _published(_fold(builder.log), f"kline.{MARKET}.1m")
    starts = [(kline["open_time"] // 60_000 % 10, kline["closed"]) for kline in klines]
    first = starts[0][0]
    assert starts == [
        (first, False),
        (first, True),
        (first + 1, False),
        (first + 1, True),
        (first + 2, False),
    ]


def test_burns_are_published_per_trade_and_per_closed_minute() -> None:
    builder = _traded()
    builder.pass_seconds(61)
    burned, minute = _published(_fold(builder.log), f"burns.{MARKET}")
    assert burned["trade"]["burned"] == burned["trade"]["burned_total"] == "0.00020000"
    assert "minute" not in burned
    assert minute["minute"]["cumulative"] == "0.00020000"
    assert minute["minute"]["closed"] is True


def test_tape_is_newest_first_and_bounded() -> None:
    builder = _traded()
    for number in range(views.TRADES_KEPT + 5):
        builder.trade(price=10_000 + number, quantity=1)
    rows = _fold(builder.log).views[DB, views.trades_key(MARKET)]
    assert isinstance(rows, list)
    assert len(rows) == views.TRADES_KEPT
    newest = msgspec.json.decode(rows[0], type=TradeView)
    assert newest.price == (10_000 + views.TRADES_KEPT + 4) * TICK
    assert newest.quantity == LOT


def test_ticker_forgets_trades_after_24_hours() -> None:
    builder = _traded()
    builder.pass_seconds(86_400 + 60)
    stored = _fold(builder.log)
    ticker = msgspec.json.decode(
        stored.views[DB, views.ticker_key(MARKET)],  # type: ignore[arg-type]
        type=TickerView,
    )
    assert (ticker.volume, ticker.trade_count, ticker.last_price) == (0, 0, 10_000 * TICK)
    assert len(_published(stored, f"ticker.{MARKET}")) == 2


def test_candles_are_dense_from_the_first_trade() -> None:
    builder = _traded()
    builder.pass_seconds(7_200)
    minutes = _fold(builder.log).views[DB, views.kline_key(MARKET, "1m")]
    assert isinstance(minutes, dict)
    seconds = sorted(int(second) for second in minutes)
    assert seconds == list(range(1_700_438_400, 1_700_438_400 + 7_201, 60))
    last = msgspec.json.decode(minutes[str(seconds[-2])], type=Candle)  # type: ignore[arg-type]
    assert (last.volume, last.closed, last.first_position) == (0, True, 0)
