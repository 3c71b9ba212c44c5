"""The lines of ledger.postings, and which partition a user's lines go to."""

import pytest

from schemas.effects import (
    BalanceChange,
    ContributionChange,
    Fill,
    OrderChange,
    OrderTerms,
    UserEffect,
    decode_effect,
    encode_effect,
    partition_of,
)


@pytest.mark.parametrize(
    ("user_id", "partition"), [("alice", 3), ("bob", 0), ("123456789", 0xCBF43926 % 4), ("", 0)]
)
def test_a_users_partition_never_changes(user_id: str, partition: int) -> None:
    assert partition_of(user_id, 4) == partition
    assert partition_of(user_id, 1) == 0


@pytest.mark.parametrize(
    ("effect", "line"),
    [
        (
            UserEffect(position=1, at_ns=2, user_id="a", event_type="account_opened"),
            b'{"position":1,"at_ns":2,"user_id":"a","event_type":"account_opened"}',
        ),
        (
            UserEffect(
                position=1, at_ns=2, user_id="a", event_type="accrual_settled",
                balances=(BalanceChange("DUR", 10**30, -5),),
                contribution=ContributionChange(
                    settled_minor=10**30, entry_index=1 << 90, entry_fraction=7
                ),
            ),
            b'{"position":1,"at_ns":2,"user_id":"a","event_type":"accrual_settled",'
            b'"balances":[["DUR",1000000000000000000000000000000,-5]],'
            b'"contribution":{"settled_minor":1000000000000000000000000000000,'
            b'"entry_index":1237940039285380274899124224,"entry_fraction":7}}',
        ),
        (
            UserEffect(
                position=1, at_ns=2, user_id="a", event_type="order_placed",
                order=OrderChange(
                    order_id=7, leaves_minor=50,
                    terms=OrderTerms("c", "DUR-CNY", "buy", "market", "ioc", False, None),
                ),
            ),
            b'{"position":1,"at_ns":2,"user_id":"a","event_type":"order_placed","order":'
            b'{"order_id":7,"leaves_minor":50,'
            b'"terms":["c","DUR-CNY","buy","market","ioc",false,null]}}',
        ),
        (
            UserEffect(
                position=1, at_ns=2, user_id="a", event_type="trade_executed",
                order=OrderChange(order_id=7),
                fill=Fill(3, "DUR-CNY", "sell", "maker", 100, 50, 5000, 5, 1),
            ),
            b'{"position":1,"at_ns":2,"user_id":"a","event_type":"trade_executed",'
            b'"order":{"order_id":7},"fill":[3,"DUR-CNY","sell","maker",100,50,5000,5,1]}',
        ),
    ],
)  # fmt: skip
def test_effect_has_exactly_these_bytes(effect: UserEffect, line: bytes) -> None:
    assert encode_effect(effect) == line
    assert decode_effect(line) == effect
