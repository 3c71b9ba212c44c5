"""Burning: the floor of each trade's share, the reserve's minute, and running totals."""

import pytest

from domain.burning import reserve_burn
from domain.state import LedgerState
from schemas import commands
from schemas.events import AssetBurned, ContributionExpired, MarketRules, MiningAllocated
from tests.unit.domain.scenario import Scenario, of_kind

# So that the fourth second after the first one begins a minute.
GENESIS = 1_699_999_980 + 56
MINUTE = GENESIS + 4


def _given(treasury_minor: int, amount_minor: int) -> Scenario:
    given = Scenario(treasury_minor=treasury_minor, genesis_second=GENESIS)
    given.accept(commands.ConfigureReserveBurn(amount_minor=amount_minor))
    return given


def _burns(given: Scenario, seconds: int) -> list[tuple[int, int, int]]:
    first = len(given.log)
    given.tick(seconds)
    return [
        (event.at_ns // 10**9 - MINUTE, event.amount_minor, event.burned_total_minor)
        for event in of_kind(given.log[first:], AssetBurned)
    ]


@pytest.mark.parametrize(
    ("treasury", "amount", "burns"),
    [
        (250, 100, [(0, 100, 100), (60, 100, 200), (120, 50, 250)]),
        (200, 100, [(0, 100, 100), (60, 100, 200)]),
        (99, 100, [(0, 99, 99)]),
        (1, 1, [(0, 1, 1)]),
        (0, 100, []),
        (250, 0, []),
    ],
)
def test_each_minute_burns_the_amount_until_the_treasury_is_empty(
    treasury: int, amount: int, burns: list[tuple[int, int, int]]
) -> None:
    given = _given(treasury, amount)
    assert _burns(given, 300) == burns
    burned = sum(amount for _, amount, _ in burns)
    assert given.system("treasury", "DUR") == treasury - burned
    assert given.system("burn", "DUR") == burned


def test_the_reserve_burns_after_expiries_and_before_the_allocation_of_its_second() -> None:
    given = _given(250, 100)
    given.grant("alice", 1, expires_second=MINUTE)
    given.tick(3)
    *_, expired, burned, allocated = given.tick()
    assert isinstance(expired, ContributionExpired)
    assert isinstance(burned, AssetBurned)
    assert isinstance(allocated, MiningAllocated)
    assert burned.at_ns == allocated.at_ns == MINUTE * 10**9
    assert (burned.source, burned.asset_id, burned.user_id, burned.market_id, burned.trade_id) == (
        "reserve", "DUR", None, None, None,
    )  # fmt: skip


def test_a_new_amount_counts_from_the_next_minute_on_and_zero_stops_it() -> None:
    given = _given(10_000, 100)
    assert _burns(given, 4) == [(0, 100, 100)]
    given.accept(commands.ConfigureReserveBurn(amount_minor=7))
    assert _burns(given, 60) == [(60, 7, 107)]
    given.accept(commands.ConfigureReserveBurn(amount_minor=0))
    assert _burns(given, 120) == []


def test_trades_and_the_reserve_share_the_total_of_their_asset() -> None:
    given = _given(10_000, 100)
    given.deposit("seller", "DUR", 1_000)
    given.deposit("buyer", "CNY", 1_000)
    given.rest("seller", "sell", 400, 100)
    given.place("buyer", "buy", 100, 100)
    assert _burns(given, 4) == [(0, 100, 101)]
    (burned,) = of_kind(given.place("buyer", "buy", 300, 100), AssetBurned)
    assert (burned.amount_minor, burned.burned_total_minor) == (3, 104)
    assert (burned.source, burned.user_id, burned.trade_id) == ("trade", "seller", 2)
    assert given.state.burned_minor == {"DUR": 104}


def test_assets_are_counted_apart() -> None:
    given = _given(10_000, 100)
    market = commands.OpenMarket(
        market_id="TOK-CNY", base_asset="TOK", quote_asset="CNY", tick_minor=10, lot_minor=10,
        rules=MarketRules(burn_bps=1_000),
    )  # fmt: skip
    given.accept(market)
    given.deposit("seller", "TOK", 1_000)
    given.deposit("buyer", "CNY", 1_000)
    given.tick(4)
    given.rest("seller", "sell", 100, 100, market_id="TOK-CNY")
    given.place("buyer", "buy", 100, 100, market_id="TOK-CNY")
    assert given.state.burned_minor == {"DUR": 100, "TOK": 10}


def test_no_ledger_burns_nothing() -> None:
    state = LedgerState()
    state.reserve_burn_minor = 5
    assert reserve_burn(state, 60) is None
