"""Double entry: every event's postings sum to zero per asset and name accounts of the chart."""

from collections import Counter

import pytest

from domain.postings import (
    MAY_BE_NEGATIVE,
    SYSTEM_ACCOUNTS,
    SystemPosting,
    UserPosting,
    postings_of,
)
from schemas.events import EVENT_TYPES, AssetBurned, FundsWithdrawn, LedgerOpened, TradeExecuted
from tests.unit.domain.scenario import of_kind
from tests.unit.domain.story import story


def test_the_story_has_every_event() -> None:
    assert {type(event) for event in story().log} == set(EVENT_TYPES)


def test_postings_of_each_event_sum_to_zero_per_asset() -> None:
    for event in story().log:
        sums: Counter[str] = Counter()
        for posting in postings_of(event):
            if isinstance(posting, UserPosting):
                sums[posting.asset_id] += posting.available_minor + posting.held_minor
            else:
                assert posting.account in SYSTEM_ACCOUNTS
                sums[posting.asset_id] += posting.amount_minor
        assert not any(sums.values()), event


def test_only_what_comes_from_outside_may_be_owed() -> None:
    assert sorted(MAY_BE_NEGATIVE) == ["external", "issuance"]


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_events_that_move_funds(kind: type) -> None:
    moves = any(postings_of(event) for event in story().log if type(event) is kind)
    assert moves == (
        kind.__name__
        in {
            "LedgerOpened", "MiningAllocated", "AccrualSettled", "FundsDeposited",
            "FundsWithdrawn", "OrderPlaced", "OrderReduced", "OrderCancelled", "TradeExecuted",
            "AssetBurned",
        }
    )  # fmt: skip


def test_genesis_mints_pool_and_treasury_from_issuance() -> None:
    (opened,) = of_kind(story().log, LedgerOpened)
    assert postings_of(opened) == (
        SystemPosting("issuance", "DUR", -1_001_000),
        SystemPosting("mining:pool", "DUR", 1_000_000),
        SystemPosting("treasury", "DUR", 1_000),
    )


def test_a_withdrawal_goes_to_the_outside() -> None:
    (withdrawn,) = of_kind(story().log, FundsWithdrawn)
    assert postings_of(withdrawn) == (
        UserPosting("seller", "CNY", -150, 0),
        SystemPosting("external", "CNY", 150),
    )


def test_a_trade_leaves_the_burned_part_with_the_seller_until_it_burns() -> None:
    log = story().log
    (trade,) = of_kind(log, TradeExecuted)
    assert postings_of(trade) == (
        UserPosting("buyer", "CNY", 100, -300),
        UserPosting("buyer", "DUR", 197, 0),
        UserPosting("seller", "CNY", 199, 0),
        UserPosting("seller", "DUR", 0, -198),
        SystemPosting("fees", "DUR", 1),
        SystemPosting("fees", "CNY", 1),
    )
    by_source = {event.source: postings_of(event) for event in of_kind(log, AssetBurned)}
    assert by_source == {
        "trade": (UserPosting("seller", "DUR", 0, -2), SystemPosting("burn", "DUR", 2)),
        "reserve": (SystemPosting("treasury", "DUR", -300), SystemPosting("burn", "DUR", 300)),
    }
