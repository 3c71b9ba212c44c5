"""The lines of ledger.postings, and which partition a user's lines go to."""

import pytest

from schemas.effects import (
    BalanceChange,
    ContributionChange,
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
            b'{"position":1,"at_ns":2,"user_id":"a","event_type":"account_opened","balances":[],'
            b'"contribution":null}',
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
            b'"contribution":{"weight_delta":0,"settled_minor":1000000000000000000000000000000,'
            b'"entry_index":1237940039285380274899124224,"entry_fraction":7,"grant_id":null,'
            b'"grant_weight":0,"source":null,"expires_second":null}}',
        ),
    ],
)  # fmt: skip
def test_effect_has_exactly_these_bytes(effect: UserEffect, line: bytes) -> None:
    assert encode_effect(effect) == line
    assert decode_effect(line) == effect
