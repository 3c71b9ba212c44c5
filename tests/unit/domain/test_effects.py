"""The per-user reading of events: effects repeat the users' share of the postings, and tell how
weight changes.
"""

from collections import Counter

from domain.effects import effects_of
from domain.postings import UserPosting, postings_of
from schemas import commands
from schemas.effects import BalanceChange, ContributionChange, Fill, OrderChange, OrderTerms
from schemas.events import (
    AccountOpened,
    AccrualSettled,
    AssetBurned,
    ContributionAdjusted,
    ContributionExpired,
    ContributionGranted,
    OrderCancelled,
    OrderPlaced,
    OrderReduced,
    TradeExecuted,
)
from tests.unit.domain.scenario import Scenario, of_kind
from tests.unit.domain.story import story


def test_effects_are_the_user_postings_grouped_by_user() -> None:
    for position, event in enumerate(story().log, start=1):
        expected = [
            (p.user_id, BalanceChange(p.asset_id, p.available_minor, p.held_minor))
            for p in postings_of(event)
            if isinstance(p, UserPosting)
        ]
        effects = effects_of(position, event)
        found = Counter((e.user_id, change) for e in effects for change in e.balances)
        assert found == Counter(expected)
        assert len({effect.user_id for effect in effects}) == len(effects)
        tag = event.__struct_config__.tag
        for effect in effects:
            head = (effect.position, effect.at_ns, effect.event_type)
            assert head == (position, event.at_ns, tag)


def test_a_trade_touches_the_buyer_first_then_the_seller() -> None:
    log = story().log
    (trade,) = of_kind(log, TradeExecuted)
    buyer, seller = effects_of(9, trade)
    assert (buyer.user_id, seller.user_id) == ("buyer", "seller")
    # 200 DUR at 100, of which 2 burn; each side's fee is 1; the buyer's limit was 150.
    assert buyer.balances == (BalanceChange("CNY", 100, -300), BalanceChange("DUR", 197, 0))
    assert seller.balances == (BalanceChange("CNY", 199, 0), BalanceChange("DUR", 0, -198))
    burned = [event for event in of_kind(log, AssetBurned) if event.source == "trade"]
    (effect,) = effects_of(10, burned[0])
    assert effect.balances == (BalanceChange("DUR", 0, -2),)


def test_a_reserve_burn_touches_no_user() -> None:
    burned = [event for event in of_kind(story().log, AssetBurned) if event.source == "reserve"]
    assert effects_of(1, burned[0]) == []


def test_a_shrunk_order_gives_back() -> None:
    (reduced,) = of_kind(story().log, OrderReduced)
    (effect,) = effects_of(1, reduced)
    assert effect.balances == (BalanceChange("CNY", 75, -75),)


def test_a_placement_tells_the_whole_order() -> None:
    placed = of_kind(story().log, OrderPlaced)[0]
    (effect,) = effects_of(1, placed)
    terms = OrderTerms(
        placed.client_order_id, "DUR-CNY", placed.side, "limit", "gtc", False, placed.price_minor
    )
    assert effect.order == OrderChange(
        order_id=placed.order_id, leaves_minor=placed.quantity_minor, terms=terms
    )
    assert effect.fill is None


def test_a_trade_tells_each_side_its_fill_and_what_its_order_still_wants() -> None:
    (trade,) = of_kind(story().log, TradeExecuted)
    buyer, seller = effects_of(9, trade)
    assert trade.taker_side == "buy"
    assert buyer.order == OrderChange(
        order_id=trade.taker_order_id, leaves_minor=trade.taker_leaves_minor
    )
    assert seller.order == OrderChange(
        order_id=trade.maker_order_id, leaves_minor=trade.maker_leaves_minor
    )
    # 200 DUR at 100, of which 2 burn; each side's fee is 1 of what it receives.
    assert buyer.fill == Fill(trade.trade_id, "DUR-CNY", "buy", "taker", 100, 200, 200, 1, 2)
    assert seller.fill == Fill(trade.trade_id, "DUR-CNY", "sell", "maker", 100, 200, 200, 1, 2)


def test_an_order_that_ends_or_shrinks_tells_what_is_left_and_why() -> None:
    log = story().log
    (reduced,) = of_kind(log, OrderReduced)
    (shrunk,) = effects_of(1, reduced)
    assert shrunk.order == OrderChange(order_id=reduced.order_id, leaves_minor=reduced.leaves_minor)
    cancelled = of_kind(log, OrderCancelled)[0]
    (ended,) = effects_of(1, cancelled)
    assert ended.order == OrderChange(order_id=cancelled.order_id, cancelled=cancelled.reason)


def test_effects_tell_how_weight_and_entry_change() -> None:
    log = story().log
    came = _change(of_kind(log, ContributionGranted)[0])
    went = _change(of_kind(log, ContributionExpired)[0])
    settled = of_kind(log, AccrualSettled)[0]
    paid = _change(settled)
    assert (came.weight_delta, came.source, came.grant_id) == (3, "test", "short")
    assert (came.grant_weight, came.expires_second) == (3, 1_700_000_041)
    assert (went.weight_delta, went.source, went.grant_id, went.grant_weight) == (
        -3, None, "short", 0,
    )  # fmt: skip
    assert (paid.weight_delta, paid.settled_minor, paid.grant_id) == (0, settled.amount_minor, None)
    assert (paid.entry_index, paid.entry_fraction) == (went.entry_index, went.entry_fraction)


def test_an_adjustment_tells_the_difference_and_the_grants_new_weight() -> None:
    adjusted = of_kind(story().log, ContributionAdjusted)[0]
    change = _change(adjusted)
    assert (change.weight_delta, change.grant_weight, change.source) == (3, 5, None)
    given = Scenario()
    given.grant("alice", 4, grant_id="g")
    revocation = commands.AdjustContribution(user_id="alice", grant_id="g", weight=0)
    (revoked,) = given.accept(revocation)
    assert isinstance(revoked, ContributionAdjusted)
    change = _change(revoked)
    assert (change.weight_delta, change.grant_weight, change.grant_id) == (-4, 0, "g")


def test_weight_deltas_add_up_to_the_weight() -> None:
    given = story()
    weight = 0
    for event in given.log:
        for effect in effects_of(1, event):
            weight += effect.contribution.weight_delta if effect.contribution else 0
    assert weight == given.state.contributions.users["seller"].weight == 5


def test_opening_an_account_is_an_effect_that_moves_nothing() -> None:
    opened = of_kind(story().log, AccountOpened)[0]
    (effect,) = effects_of(1, opened)
    assert (effect.user_id, effect.balances, effect.contribution) == ("watcher", (), None)


Change = AccrualSettled | ContributionGranted | ContributionAdjusted | ContributionExpired


def _change(event: Change) -> ContributionChange:
    (effect,) = effects_of(1, event)
    assert effect.contribution is not None
    return effect.contribution
