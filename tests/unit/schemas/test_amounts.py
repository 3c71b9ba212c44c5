"""Amounts as people write them, to integers and back, without ever losing a digit."""

import pytest

from schemas.amounts import AMOUNT_DIGITS_MAX, AmountError, format_amount, parse_amount


@pytest.mark.parametrize(
    ("text", "scale", "minor"),
    [
        ("0", 0, 0),
        ("0", 8, 0),
        ("1", 2, 100),
        ("1.5", 2, 150),
        ("1.50000", 2, 150),
        ("1.000", 0, 1),
        ("007.10", 1, 71),
        ("0.000000000000000001", 18, 1),
        ("123456789012345678901234567890", 8, 12345678901234567890123456789000000000),
        ("9" * AMOUNT_DIGITS_MAX, 0, int("9" * AMOUNT_DIGITS_MAX)),
    ],
)
def test_amount_is_read_exactly(text: str, scale: int, minor: int) -> None:
    assert parse_amount(text, scale) == minor


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "1_000", "0x1", " 1", "1 ", "1\n",
        "NaN", "Infinity", "\u0661", "\uff11", "1.2.3",
    ],
)  # fmt: skip
def test_text_that_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(AmountError, match="not a decimal amount"):
        parse_amount(text, 2)


@pytest.mark.parametrize(
    "text",
    ["1" + "0" * AMOUNT_DIGITS_MAX, "0" * AMOUNT_DIGITS_MAX + "5", "1." + "0" * 58 + "1"],
)
def test_amount_longer_than_the_limit_is_refused_not_cut(text: str) -> None:
    with pytest.raises(AmountError):
        parse_amount(text, 18)


@pytest.mark.parametrize(("text", "scale"), [("1.001", 2), ("0.1", 0), ("0.0000000001", 9)])
def test_more_decimals_than_the_asset_has_are_refused(text: str, scale: int) -> None:
    with pytest.raises(AmountError, match=f"more than {scale} decimals"):
        parse_amount(text, scale)


@pytest.mark.parametrize(
    ("minor", "scale", "text"),
    [
        (0, 0, "0"),
        (0, 2, "0.00"),
        (5, 2, "0.05"),
        (125, 2, "1.25"),
        (-5, 2, "-0.05"),
        (-125, 0, "-125"),
        (1, 18, "0.000000000000000001"),
        (10**36, 18, "1" + "0" * 18 + "." + "0" * 18),
    ],
)
def test_amount_is_written_with_all_decimals_of_its_asset(
    minor: int, scale: int, text: str
) -> None:
    assert format_amount(minor, scale) == text
