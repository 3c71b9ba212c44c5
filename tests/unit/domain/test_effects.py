"""Double entry and its per-user reading: postings sum to zero, effects repeat the users' share."""

from collections import Counter

from domain.effects import effects_of
from domain.postings import UserPosting, postings_of
from schemas import commands
from schemas.effects import BalanceChange
from schemas.events import (
    EVENT_TYPES,
    AccountOpened,
    AccrualSettled,
    AssetBurned,
    ContributionExpired,
    ContributionGranted,
    EpochStarted,
    LedgerEvent,
    TradeExecuted,
)
from tests.unit.domain.scenario import Scenario, of_kind


def _log_of_every_event() -> list[LedgerEvent]:
    given = Scenario(burn_bps=100)
    given.deposit("buyer", "CNY", 10_000)
    given.deposit("seller", "DUR", 1_000)
    given.grant("seller", 3, expires_second=given.second + 3)
    given.tick(3)
    given.place("seller", "sell", 200, 100)
    given.place("buyer", "buy", 300, 150)
    given.accept(commands.CancelOrder(user_id="buyer", order_id=2))
    started = EpochStarted(at_ns=given.state.at_ns, epoch=2, started_at_ns=1)
    return [*given.log, started]


def test_the_story_has_every_event() -> None:
    assert {type(event) for event in _log_of_every_event()} == set(EVENT_TYPES)


def test_postings_of_each_event_sum_to_zero_per_asset() -> None:
    for event in _log_of_every_event():
        sums: Counter[str] = Counter()
        for posting in postings_of(event):
            if isinstance(posting, UserPosting):
                sums[posting.asset_id] += posting.available_minor + posting.held_minor
            else:
                sums[posting.asset_id] += posting.amount_minor
        assert not any(sums.values()), event


def test_effects_are_the_user_postings_grouped_by_user() -> None:
    for position, event in enumerate(_log_of_every_event(), start=1):
        expected = [
            (p.user_id, BalanceChange(p.asset_id, p.available_minor, p.held_minor))
            for p in postings_of(event)
            if isinstance(p, UserPosting)
        ]
        effects = effects_of(position, event)
        found = Counter((e.user_id, change) for e in effects for change in e.balances)
        assert found == Counter(expected)
        assert len({effect.user_id for effect in effects}) == len(effects)
        for effect in effects:
            tag = event.__struct_config__.tag
            assert (effect.position, effect.at_ns, effect.event_type) == (
                position,
                event.at_ns,
                tag,
            )


def test_a_trade_touches_the_buyer_first_then_the_seller() -> None:
    log = _log_of_every_event()
    (trade,) = of_kind(log, TradeExecuted)
    buyer, seller = effects_of(9, trade)
    assert (buyer.user_id, seller.user_id) == ("buyer", "seller")
    # 200 DUR at 100, of which 2 burn; the buyer's limit was 150.
    assert buyer.balances == (BalanceChange("CNY", 100, -300), BalanceChange("DUR", 198, 0))
    assert seller.balances == (BalanceChange("CNY", 200, 0), BalanceChange("DUR", 0, -198))
    (burned,) = of_kind(log, AssetBurned)
    (effect,) = effects_of(10, burned)
    assert effect.balances == (BalanceChange("DUR", 0, -2),)


def test_effects_tell_how_weight_and_entry_change() -> None:
    log = _log_of_every_event()
    (granted,), (expired,) = of_kind(log, ContributionGranted), of_kind(log, ContributionExpired)
    (settled,) = of_kind(log, AccrualSettled)
    came, went, paid = (
        effects_of(1, event)[0].contribution for event in (granted, expired, settled)
    )
    assert came is not None
    assert went is not None
    assert paid is not None
    assert (came.weight_delta, came.source, came.grant_id) == (3, "test", granted.grant_id)
    assert came.expires_second == granted.expires_second
    assert (went.weight_delta, went.source, went.grant_id) == (-3, None, granted.grant_id)
    assert (paid.weight_delta, paid.settled_minor) == (0, settled.amount_minor)
    assert (paid.entry_index, paid.entry_fraction) == (went.entry_index, went.entry_fraction)


def test_opening_an_account_is_an_effect_that_moves_nothing() -> None:
    opened = of_kind(_log_of_every_event(), AccountOpened)[0]
    (effect,) = effects_of(1, opened)
    assert (effect.user_id, effect.balances, effect.contribution) == ("buyer", (), None)
