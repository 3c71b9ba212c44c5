"""From views to what clients see: decimal strings in whole units, times in Unix milliseconds."""

import msgspec

from schemas import publications, views
from schemas.events import AssetBurned

MARKET = views.MarketView(
    market_id="DUR-CNY", base_asset="DUR", quote_asset="CNY", base_scale=3, quote_scale=2,
    tick_minor=10, lot_minor=100, burn_bps=10,
)  # fmt: skip


def test_candle_is_published_in_whole_units() -> None:
    candle = views.Candle(
        open_second=60, open=100, high=250, low=90, close=200, volume=1_500, quote_volume=305,
        trade_count=2, taker_buy_volume=500, taker_buy_quote_volume=105, burned=1,
        first_position=7, last_position=9, closed=True,
    )  # fmt: skip
    assert msgspec.to_builtins(publications.kline(candle, MARKET, "5m")) == {
        "open_time": 60_000,
        "close_time": 359_999,
        "open": "1.00",
        "high": "2.50",
        "low": "0.90",
        "close": "2.00",
        "volume": "1.500",
        "quote_volume": "3.05",
        "trade_count": 2,
        "taker_buy_volume": "0.500",
        "taker_buy_quote_volume": "1.05",
        "burned": "0.001",
        "first_position": 7,
        "last_position": 9,
        "closed": True,
    }


def test_trade_and_burns_are_published_in_whole_units() -> None:
    trade = views.TradeView(
        trade_id=4, at_ns=1_999_999_999, price=100, quantity=1_500, quote=150, taker_side="sell",
        burned=2, position=12,
    )  # fmt: skip
    assert msgspec.to_builtins(publications.trade(trade, MARKET)) == {
        "trade_id": 4,
        "time": 1_999,
        "price": "1.00",
        "quantity": "1.500",
        "quote_quantity": "1.50",
        "taker_side": "sell",
        "burned": "0.002",
        "position": 12,
    }
    minute = views.BurnMinute(open_second=60, burned=2, trade_count=1, cumulative=2_000)
    assert msgspec.to_builtins(publications.burn_record(minute, MARKET)) == {
        "open_time": 60_000,
        "close_time": 119_999,
        "burned": "0.002",
        "trade_count": 1,
        "cumulative": "2.000",
        "closed": False,
    }


def test_depth_and_its_changes_are_pairs_of_price_and_quantity() -> None:
    depth = views.DepthView(
        market_id="DUR-CNY", bids=(views.DepthLevel(90, 1_500, 2),), asks=(), position=7
    )
    assert publications.depth(depth, MARKET) == publications.Depth(
        bids=(("0.90", "1.500"),), asks=()
    )
    change = publications.depth_change([], [(100, 0), (110, 5)], MARKET, previous=3)
    assert msgspec.json.encode(change) == (
        b'{"bids":[],"asks":[["1.00","0"],["1.10","0.005"]],"previous":3}'
    )


def test_burn_names_its_trade_unless_the_reserve_burned() -> None:
    burned = AssetBurned(
        at_ns=7_000_000, asset_id="DUR", source="trade", user_id="u", market_id="DUR-CNY",
        trade_id=4, amount_minor=2, burned_total_minor=9,
    )  # fmt: skip
    assert msgspec.to_builtins(publications.burn(burned, 12, 3)) == {
        "trade_id": 4, "time": 7, "burned": "0.002", "burned_total": "0.009", "position": 12
    }  # fmt: skip
    reserve = AssetBurned(
        at_ns=7_000_000, asset_id="DUR", source="reserve", amount_minor=2, burned_total_minor=9
    )
    assert "trade_id" not in msgspec.to_builtins(publications.burn(reserve, 12, 3))


def test_ticker_tells_a_falling_price_with_its_sign() -> None:
    ticker = views.TickerView(
        market_id="DUR-CNY", last_price=90, open_price=100, high_price=110, low_price=80,
        volume=1, quote_volume=2, trade_count=3, burned=4, burned_total=5, at_ns=7_000_000,
    )  # fmt: skip
    published = publications.ticker(ticker, MARKET)
    assert (published.last, published.change, published.time) == ("0.90", "-0.10", 7)
    assert (published.volume, published.burned_total) == ("0.001", "0.005")


def test_pool_and_account_send_large_integers_as_strings() -> None:
    pool = views.PoolView(
        asset_id="DUR", scale=3, genesis_second=1, pool_minor=10_000, allocated_minor=2_500,
        second=9, reward_minor=100, weight_total=1 << 63, index=1 << 90, carry=7, position=3,
    )  # fmt: skip
    published = publications.mining_pool(pool)
    assert (published.pool, published.allocated, published.remaining) == (
        "10.000", "2.500", "7.500",
    )  # fmt: skip
    assert (published.weight_total, published.index) == (str(1 << 63), str(1 << 90))
    account = publications.account(
        views.AccountView(
            user_id="alice",
            balances={
                "DUR": views.BalanceView(available=1, held=2),
                "CNY": views.BalanceView(available=5),
            },
            position=4,
        ),
        views.ContributionView(user_id="alice", weight=1 << 63, settled_minor=1_234, position=6),
        {"DUR": 3, "CNY": 2},
        3,
    )
    assert [(b.asset, b.available, b.held, b.total) for b in account.balances] == [
        ("CNY", "0.05", "0.00", "0.05"),
        ("DUR", "0.001", "0.002", "0.003"),
    ]
    assert (account.mining.weight, account.mining.settled) == (str(1 << 63), "1.234")
    assert account.position == 6
