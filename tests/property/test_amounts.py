"""Amounts and accrual for any number: text and integer are the same, and no bit is lost."""

import decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.accrual import FRACTION_MASK, INDEX_BITS, accrued_minor, advance
from schemas.amounts import AMOUNT_DIGITS_MAX, AmountError, format_amount, parse_amount

scales = st.integers(0, 18)
amounts = st.integers(0, 10**40)
EXACT = decimal.Context(prec=200)


@given(amounts, scales)
def test_an_amount_survives_being_written_and_read(amount: int, scale: int) -> None:
    assert parse_amount(format_amount(amount, scale), scale) == amount


@given(st.integers(-(10**40), 10**40), scales)
def test_writing_agrees_with_decimal_arithmetic(amount: int, scale: int) -> None:
    written = decimal.Decimal(format_amount(amount, scale))
    assert EXACT.scaleb(written, scale) == amount


@given(st.text(alphabet="0123456789.-+eE_ \u0661", max_size=AMOUNT_DIGITS_MAX + 9), scales)
def test_reading_is_exact_or_refused(text: str, scale: int) -> None:
    try:
        amount = parse_amount(text, scale)
    except AmountError:
        return
    assert EXACT.scaleb(EXACT.create_decimal(text), scale) == amount


@given(st.integers(0, 10**40), scales, st.integers(1, 9))
def test_a_digit_beyond_the_scale_is_refused(amount: int, scale: int, digit: int) -> None:
    whole, _, decimals = format_amount(amount, scale).partition(".")
    with pytest.raises(AmountError):
        parse_amount(f"{whole}.{decimals}{digit}", scale)


@given(
    st.lists(st.integers(1, 1 << 63), min_size=1, max_size=5),
    st.lists(st.integers(0, 10**20), min_size=1, max_size=20),
    st.integers(0, FRACTION_MASK),
)
def test_users_never_accrue_more_than_was_allocated(
    weights: list[int], rewards: list[int], kept: int
) -> None:
    index = carry = 0
    for reward in rewards:
        index, carry = advance(
            index=index, carry=carry, reward_minor=reward, weight_total=sum(weights)
        )
    assert sum(weights) * index + carry == sum(rewards) << INDEX_BITS
    accrued = [
        accrued_minor(weight=weight, index=index, entry_index=0, entry_fraction=0)
        for weight in weights
    ]
    # Each user's fraction is below one minor unit; the carry, in 2**-64 units, below the weight.
    assert 0 <= sum(rewards) - sum(accrued) <= len(weights) + (sum(weights) >> INDEX_BITS)
    more = accrued_minor(weight=weights[0], index=index, entry_index=0, entry_fraction=kept)
    assert more - accrued[0] in (0, 1)
