"""Genesis and policy: what opens a ledger, and changes that hold from a future second on."""

import msgspec
import pytest

from domain.ledger import decide, evolve
from domain.state import LedgerState
from schemas import commands
from schemas.events import (
    AssetSpec,
    EmissionScheduled,
    LedgerOpened,
    MarketConfigured,
    MarketHalted,
    MarketOpened,
    MarketResumed,
    MarketRules,
    MiningAllocated,
    ReserveBurnConfigured,
)
from schemas.rejections import Rejection, RejectionCode
from tests.unit.domain.scenario import GENESIS_SECOND, MARKET, Scenario, genesis, market, of_kind


def test_genesis_carries_the_time_of_its_second_whenever_it_is_decided() -> None:
    command = genesis(emission=((0, 5), (60, 3)), treasury_minor=9)
    for now_ns in (0, 10**20):
        happened = decide(command, LedgerState(), now_ns)
        assert not isinstance(happened, Rejection)
        opened, *emission = happened
        assert isinstance(opened, LedgerOpened)
        assert (opened.pool_minor, opened.treasury_minor) == (1_000_000, 9)
        assert {event.at_ns for event in happened} == {GENESIS_SECOND * 10**9}
        assert [(e.from_second, e.reward_minor) for e in of_kind(emission, EmissionScheduled)] == [
            (GENESIS_SECOND, 5), (GENESIS_SECOND + 60, 3),
        ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"pool_minor": 10**36, "treasury_minor": 10**36},
        {"pool_minor": 1},
        {"genesis_second": 0},
        {"genesis_second": 1 << 40},
        {"emission": ()},
        {"emission": genesis(emission=((1 << 40, 10**36),)).emission},
        {"assets": (AssetSpec(asset_id="DUR", scale=0),)},
        {"assets": (AssetSpec(asset_id="DUR", scale=18),)},
    ],
)
def test_genesis_at_its_limits_is_accepted(change: dict[str, object]) -> None:
    command = msgspec.structs.replace(genesis(), **change)
    assert not isinstance(decide(command, LedgerState(), 0), Rejection)


@pytest.mark.parametrize(
    "rules",
    [
        MarketRules(),
        MarketRules(burn_bps=9_999, maker_fee_bps=9_999, taker_fee_bps=9_999),
        MarketRules(band_bps=1, min_notional_minor=10**36, open_orders_max=10_000),
        MarketRules(band_bps=100_000, open_orders_max=1),
    ],
)
def test_rules_at_their_limits_are_accepted(rules: MarketRules) -> None:
    given = Scenario()
    command = msgspec.structs.replace(market(base_asset="TOK"), rules=rules)
    (opened,) = given.accept(command)
    assert isinstance(opened, MarketOpened)
    assert opened.rules == rules
    (configured,) = given.accept(commands.ConfigureMarket(market_id=MARKET, rules=rules))
    assert isinstance(configured, MarketConfigured)
    assert given.state.markets[MARKET].rules == rules


@pytest.mark.parametrize(
    ("scale", "tick", "lot", "is_exact"),
    [(2, 10, 10, True), (2, 1, 100, True), (2, 100, 1, True), (2, 10, 5, False), (0, 1, 1, True),
     (18, 10**9, 10**9, True), (18, 10**9, 10**8, False)],
)  # fmt: skip
def test_tick_times_lot_is_whole_in_quote(scale: int, tick: int, lot: int, is_exact: bool) -> None:
    state = LedgerState()
    assets = (*genesis().assets, AssetSpec(asset_id="A", scale=scale))
    opened = decide(msgspec.structs.replace(genesis(), assets=assets), state, 0)
    assert not isinstance(opened, Rejection)
    for event in opened:
        evolve(state, event)
    command = commands.OpenMarket(
        market_id="A-CNY", base_asset="A", quote_asset="CNY", tick_minor=tick, lot_minor=lot
    )
    decided = decide(command, state, state.at_ns)
    if is_exact:
        assert not isinstance(decided, Rejection)
    else:
        assert isinstance(decided, Rejection)
        assert decided.code == RejectionCode.INVALID_STEP


def test_a_new_reward_holds_from_its_second_on() -> None:
    given = Scenario(emission=((0, 100), (6, 50)))
    given.grant("alice", 1)
    start = given.second
    given.accept(commands.ScheduleEmission(from_second=start + 2, reward_minor=7))
    given.accept(commands.ScheduleEmission(from_second=start + 4, reward_minor=9))
    # A later entry for the same second takes its place.
    given.accept(commands.ScheduleEmission(from_second=start + 4, reward_minor=8))
    rewards = [of_kind(given.tick(), MiningAllocated)[0].reward_minor for _ in range(7)]
    assert rewards == [100, 7, 7, 8, 8, 50, 50]
    assert given.state.mining is not None
    assert len(given.state.mining.starts) == len(given.state.mining.rewards) == 4


@pytest.mark.parametrize(("after", "is_valid"), [(0, False), (1, True)])
def test_a_new_reward_begins_after_the_current_second(after: int, is_valid: bool) -> None:
    given = Scenario()
    command = commands.ScheduleEmission(from_second=given.second + after, reward_minor=0)
    if is_valid:
        given.accept(command)
    else:
        refused = given.refuse(command)
        assert refused.code == RejectionCode.INVALID_SCHEDULE
        assert refused.details == {"now_second": given.second}


def test_a_market_is_halted_once_and_resumed_once() -> None:
    given = Scenario()
    halt = commands.HaltMarket(market_id=MARKET, reason="news")
    resume = commands.ResumeMarket(market_id=MARKET)
    assert given.refuse(resume).code == RejectionCode.MARKET_NOT_HALTED
    (halted,) = given.accept(halt)
    assert isinstance(halted, MarketHalted)
    assert halted.reason == "news"
    assert given.refuse(halt).code == RejectionCode.MARKET_HALTED
    (resumed,) = given.accept(resume)
    assert isinstance(resumed, MarketResumed)
    assert given.refuse(resume).code == RejectionCode.MARKET_NOT_HALTED


def test_the_reserve_burn_is_a_policy_event() -> None:
    given = Scenario()
    (configured,) = given.accept(commands.ConfigureReserveBurn(amount_minor=5))
    assert isinstance(configured, ReserveBurnConfigured)
    assert given.state.reserve_burn_minor == 5
