"""What `durian watch` prints for each kind of change."""

from typing import Any

import pytest

from ops.stream.following import Change, ChangeKind
from ops.stream.lines import computed_line, line_of
from schemas.publications import BalanceNow

AT_S = 1_795_345_343.7
CLOCK = "11:02:23"
TRADE = {
    "trade_id": 42,
    "time": 1,
    "price": "2.5",
    "quantity": "4.0",
    "quote_quantity": "10.0",
    "taker_side": "buy",
    "burned": "0.004",
    "position": 47,
}
TICKER = {
    "last": "2.5",
    "change": "-0.1",
    "high": "2.6",
    "low": "2.4",
    "volume": "9.0",
    "burned": "0.009",
}
KLINE = {
    "open_time": 1_795_345_320_000,
    "open": "1",
    "high": "4",
    "low": "0.5",
    "close": "2",
    "volume": "7",
    "closed": True,
}
PULSE = {"second": 7, "reward": "1.0", "weight_total": "3", "prices": {"DUR-CNY": "2.5"}}
POOL = {
    "allocated": "7.0",
    "pool": "9.0",
    "asset": "DUR",
    "reward_per_second": "1.0",
    "weight_total": "3",
}
ACCOUNT = {
    "user_id": "alice",
    "balances": [{"asset": "DUR", "available": "1.0", "held": "0.5"}],
    "mining": {"weight": "3"},
}
BALANCE = {"amount": "5.0", "asset": "DUR", "accrued": "1.0", "values": {"DUR-CNY": "12.5"}}
BURN = {"burned": "0.004", "burned_total": "1.0"}
MINUTE = {"burned": "0.5", "cumulative": "3.0"}


def change(kind: ChangeKind, channel: str, data: Any, state: Any = None) -> Change:
    return Change(kind=kind, channel=channel, epoch="a", offset=9, data=data, state=state)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (change("publication", "pulse", {}, PULSE), "second 7 reward 1.0 weight 3 DUR-CNY 2.5"),
        (change("snapshot", "mining", POOL, POOL), "7.0 of 9.0 DUR reward 1.0 weight 3"),
        (
            change("publication", "ticker.M", {}, TICKER),
            "last 2.5 (-0.1) high 2.6 low 2.4 volume 9.0 burned 0.009",
        ),
        (change("publication", "trades.M", TRADE), "buy 4.0 at 2.5 burned 0.004"),
        (
            change("snapshot", "trades.M", {"items": [TRADE, {**TRADE, "taker_side": "sell"}]}),
            "2 trades, the last: sell 4.0 at 2.5 burned 0.004",
        ),
        (change("snapshot", "trades.M", {"items": []}), "nothing yet"),
        (change("snapshot", "ticker.M", None, None), "nothing yet"),
        (
            change("snapshot", "depth.M", {}, {"bids": [["2.4", "1.0"]], "asks": []}),
            "bid 1.0 at 2.4 no ask 1 and 0 levels",
        ),
        (change("publication", "kline.M.1m", {}, KLINE), "11:02 closed 1 4 0.5 2 volume 7"),
        (change("publication", "burns.M", {"reserve": BURN}), "0.004 by reserve ever 1.0"),
        (change("publication", "burns.M", {"trade": BURN}), "0.004 by trade ever 1.0"),
        (
            change("publication", "burns.M", {"minute": MINUTE}),
            "0.5 in a minute of this market 3.0",
        ),
        (
            change("snapshot", "burns.M", {"items": [MINUTE], "cumulative": "3.0"}),
            "3.0 in this market 1 minutes",
        ),
        (change("snapshot", "account", ACCOUNT, ACCOUNT), "alice DUR 1.0 (held 0.5) weight 3"),
        (
            change("snapshot", "balance", BALANCE, BALANCE),
            "5.0 DUR (1.0 accrued) = 12.5 by DUR-CNY",
        ),
        (change("recovered", "trades.M", None), "nothing was missed"),
        (change("snapshot", "later.M", {"a": 1}), "{'a': 1}"),
    ],
)
def test_a_change_of_a_channel_is_one_line(told: Change, said: str) -> None:
    expected = f"{CLOCK} {told.channel:<16} {said}  #9"
    assert line_of(told, AT_S).plain == expected


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Change(kind="lost", data="going_away"), "connection lost (going_away), coming back"),
        (Change(kind="stale"), "the gateway cannot read its views: this may be old"),
        (Change(kind="fresh"), "the gateway reads its views again"),
    ],
)
def test_news_of_the_connection_is_a_line_too(told: Change, said: str) -> None:
    assert line_of(told, AT_S).plain == f"{CLOCK} {'':<16} {said}"


def test_a_falling_price_is_red_and_a_rising_one_green() -> None:
    rising = {**TICKER, "change": "0.1"}
    styles = [
        {str(span.style) for span in line_of(change("publication", "ticker.M", {}, each), 0).spans}
        for each in (TICKER, rising)
    ]
    assert "red" in styles[0]
    assert "green" in styles[1]


def test_the_computed_balance_is_marked_as_such() -> None:
    balance = BalanceNow(
        second=7, asset="DUR", amount="5.0", accrued="1.0", values={"DUR-CNY": "12.5"}
    )
    said = "5.0 DUR (1.0 accrued) = 12.5 by DUR-CNY"
    assert computed_line(balance, AT_S).plain == f"{CLOCK} {'(balance)':<16} {said}"
