"""Names and shapes in Redis: pinned, since projections and gateways of two versions share them."""

import datetime

import msgspec
import pytest

from schemas import views


def test_key_names_are_these() -> None:
    assert [
        views.checkpoint_key(views.ACCOUNTS, 3),
        views.state_key(views.MARKET),
        views.feed_key(views.MINING, 0),
        views.offsets_key(views.MARKET),
        views.kline_key("DUR-CNY", "1m"),
        views.burns_key("DUR-CNY"),
        views.trades_key("DUR-CNY"),
        views.ticker_key("DUR-CNY"),
        views.account_key("alice"),
        views.contribution_key("alice"),
    ] == [
        "checkpoint:accounts:3",
        "state:market",
        "feed:mining:0",
        "offsets:market",
        "kline:DUR-CNY:1m",
        "burns:DUR-CNY",
        "trades:DUR-CNY",
        "ticker:DUR-CNY",
        "account:alice",
        "contribution:alice",
    ]


@pytest.mark.parametrize("interval", views.INTERVAL_SECONDS)
@pytest.mark.parametrize("second", [0, 1, 345_599, 345_600, 1_700_000_000, 1_700_438_399])
def test_a_second_falls_into_one_candle_of_each_interval(second: int, interval: str) -> None:
    opened = views.open_second(second, interval)
    width = views.INTERVAL_SECONDS[interval]
    assert opened <= second < opened + width
    assert views.open_second(opened, interval) == opened
    assert views.open_second(opened - 1, interval) == opened - width


def test_weeks_open_on_monday_at_midnight_utc() -> None:
    opened = datetime.datetime.fromtimestamp(
        views.open_second(1_700_000_000, "1w"), tz=datetime.UTC
    )
    assert (opened.strftime("%A"), opened.time()) == ("Monday", datetime.time(0))
    assert opened.date() == datetime.date(2023, 11, 13)


@pytest.mark.parametrize(
    ("view", "stored"),
    [
        (
            views.Candle(open_second=60, open=1, high=2, low=1, close=2, volume=10**30),
            b"[60,1,2,1,2,1000000000000000000000000000000,0,0,0,0,0,0,0,false]",
        ),
        (views.BurnMinute(open_second=60, burned=1, cumulative=5), b"[60,1,0,5,0,false]"),
        (views.BalanceView(available=1), b"[1,0]"),
    ],
)
def test_stored_arrays_keep_their_order(view: msgspec.Struct, stored: bytes) -> None:
    assert msgspec.json.encode(view) == stored
    assert msgspec.json.decode(stored, type=type(view)) == view
