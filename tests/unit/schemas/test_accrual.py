"""The arithmetic that engine, server and phone repeat: exact to the last bit."""

import pytest

from schemas.accrual import FRACTION_MASK, INDEX_BITS, accrued_minor, advance, entitlement

ONE = 1 << INDEX_BITS


@pytest.mark.parametrize(
    ("reward", "weight", "index", "carry"),
    [
        (1, 1, ONE, 0),
        (1, 3, ONE // 3, 1),
        (0, 7, 0, 0),
        (1 << 63, 1 << 63, ONE, 0),
        (1, 1 << 63, 2, 0),
        (1, (1 << 63) + 1, 1, (1 << 63) - 1),
        (10**36, 1, 10**36 * ONE, 0),
    ],
)
def test_a_second_advances_index_and_carry(
    reward: int, weight: int, index: int, carry: int
) -> None:
    advanced = advance(index=0, carry=0, reward_minor=reward, weight_total=weight)
    assert advanced == (index, carry)
    assert index * weight + carry == reward * ONE


def test_the_carry_is_paid_out_by_the_next_second() -> None:
    assert advance(index=5, carry=2, reward_minor=0, weight_total=2) == (6, 0)
    assert advance(index=5, carry=9, reward_minor=0, weight_total=4) == (7, 1)


@pytest.mark.parametrize(
    ("weight", "index", "entry", "fraction", "accrued"),
    [
        (1, ONE, 0, 0, 1),
        (1, ONE - 1, 0, 0, 0),
        (1, ONE - 1, 0, 1, 1),
        (0, 10 * ONE, 0, FRACTION_MASK, 0),
        (1 << 63, 2, 0, 0, 1),
        (1 << 63, 1, 0, 1 << 63, 1),
        (1 << 63, ONE, 0, FRACTION_MASK, 1 << 63),
        (3, 10 * ONE, 7 * ONE, 0, 9),
        # A client may hold an index older than its entry.
        (3, 6 * ONE, 7 * ONE, 5, 0),
    ],
)
def test_whole_minor_units_accrue(
    weight: int, index: int, entry: int, fraction: int, accrued: int
) -> None:
    amounts = {
        "weight": weight, "index": index, "entry_index": entry, "entry_fraction": fraction,
    }  # fmt: skip
    assert accrued_minor(**amounts) == accrued
    assert entitlement(**amounts) == weight * (index - entry) + fraction
