"""The projection `market` on logs of the real domain: what it writes and what it publishes when."""

import asyncio
from typing import Any

import msgspec

from projections.fresh import FreshFold
from projections.memory import MemoryViews
from schemas import commands, views
from schemas.events import LedgerEvent, MarketRules
from schemas.views import Candle, TickerView, TradeView
from tests.fixtures.ledger_logs import LOT, MARKET, TICK, LogBuilder, positioned

DB = views.TRADING_DB


def _fold(log: list[LedgerEvent]) -> MemoryViews:
    return FreshFold(views.MARKET).fold_all(positioned(log))


def _published(stored: MemoryViews, channel: str) -> list[Any]:
    entries = [entry for entry in stored.feeds[0] if entry.channel == channel]
    assert [entry.offset for entry in entries] == list(range(1, len(entries) + 1))
    return [msgspec.json.decode(entry.data) for entry in entries]


def _traded(treasury_minor: int = 0) -> LogBuilder:
    builder = LogBuilder(genesis_second=1_700_438_400, treasury_minor=treasury_minor)
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


def _market(builder: LogBuilder) -> views.MarketView:
    markets = asyncio.run(_fold(builder.log).all_fields((DB, "markets")))
    return msgspec.json.decode(markets[MARKET], type=views.MarketView)


def test_market_shows_its_rules_and_whether_it_is_halted() -> None:
    builder = _traded()
    assert _market(builder).open_orders_max == 200
    rules = MarketRules(
        burn_bps=7, maker_fee_bps=1, taker_fee_bps=2, band_bps=500, min_notional_minor=3,
        open_orders_max=4,
    )  # fmt: skip
    builder.accept(commands.ConfigureMarket(market_id=MARKET, rules=rules))
    builder.accept(commands.HaltMarket(market_id=MARKET, reason="maintenance"))
    halted = _market(builder)
    assert {name: getattr(halted, name) for name in rules.__struct_fields__} == (
        msgspec.structs.asdict(rules)
    )
    assert (halted.is_halted, halted.halt_reason) == (True, "maintenance")
    builder.accept(commands.ResumeMarket(market_id=MARKET))
    resumed = _market(builder)
    assert (resumed.is_halted, resumed.halt_reason, resumed.taker_fee_bps) == (False, None, 2)


def _burning() -> LogBuilder:
    """Trades of a market whose base asset is burned out of the reserve each minute."""
    builder = _traded(treasury_minor=10**12)
    builder.accept(commands.ConfigureReserveBurn(amount_minor=5 * 10**8))
    builder.pass_seconds(60)
    return builder


def test_reserve_burns_are_published_in_the_markets_of_their_asset() -> None:
    stored = _fold(_burning().log)
    _, minute, reserve = _published(stored, f"burns.{MARKET}")
    assert list(minute) == ["minute"]
    burned = reserve["reserve"]
    assert "trade_id" not in burned
    assert burned["burned"] == "5.00000000"
    assert burned["burned_total"] == "5.00020000"


def test_totals_of_burns_are_the_same_in_ticker_and_asset() -> None:
    stored = _fold(_burning().log).views
    burned = msgspec.json.decode(
        stored[DB, views.burned_key("DUR")],  # type: ignore[arg-type]
        type=views.BurnedView,
    )
    assert (burned.by_trades, burned.by_reserve) == (20_000, 5 * 10**8)
    ticker = msgspec.json.decode(
        stored[DB, views.ticker_key(MARKET)],  # type: ignore[arg-type]
        type=TickerView,
    )
    assert ticker.burned_total == burned.total == 500_020_000
    minutes = stored[DB, views.reserve_burns_key("DUR")]
    assert isinstance(minutes, dict)
    assert list(minutes) == ["1700438460"]


def test_a_reserve_burn_before_the_first_trade_shows_no_ticker() -> None:
    builder = LogBuilder(genesis_second=1_700_438_400, treasury_minor=10)
    builder.accept(commands.ConfigureReserveBurn(amount_minor=1))
    builder.pass_seconds(70)
    stored = _fold(builder.log)
    assert len(_published(stored, f"burns.{MARKET}")) == 2
    assert _published(stored, f"ticker.{MARKET}") == []
    assert (DB, views.ticker_key(MARKET)) not in stored.views


def test_depth_is_published_with_the_book() -> None:
    builder = _traded()
    builder.order("maker", "sell", 10_100, 500)
    stored = _fold(builder.log)
    # Publications of depth carry positions, other offsets count.
    (entry,) = [one for one in stored.feeds[0] if one.channel == f"depth.{MARKET}"]
    assert entry.offset == len(builder.log)
    depth = msgspec.json.decode(
        stored.views[DB, views.depth_key(MARKET)],  # type: ignore[arg-type]
        type=views.DepthView,
    )
    assert depth.asks == (views.DepthLevel(10_100 * TICK, 500 * LOT, 1),)
    assert depth.bids == ()


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
