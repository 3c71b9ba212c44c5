"""Limits of single fields."""

import pytest

from domain.checks import check_amount, check_ids, is_id
from schemas import commands
from schemas.rejections import Rejection, RejectionCode


@pytest.mark.parametrize("text", ["a", "~!#$%&'()*+,-./:;<=>?@[]^_`{|}", "x" * 64, "0"])
def test_visible_ascii_is_an_id(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize("text", ["", " ", "a b", "a\t", "a\n", "\x7f", "\0", "é", "x" * 65])
def test_anything_else_is_none(text: str) -> None:
    assert not is_id(text)


@pytest.mark.parametrize(
    ("amount", "least", "is_valid"),
    [(1, 1, True), (0, 1, False), (0, 0, True), (-1, 0, False), (10**36, 1, True),
     (10**36 + 1, 0, False)],
)  # fmt: skip
def test_an_amount_lies_within_its_limits(amount: int, least: int, is_valid: bool) -> None:
    refused = check_amount("pool_minor", amount, least=least)
    expected = Rejection(RejectionCode.INVALID_AMOUNT, {"field": "pool_minor", "least": least})
    assert refused == (None if is_valid else expected)


def test_the_first_text_that_is_no_id_is_named() -> None:
    deposit = commands.DepositFunds(user_id="a b", asset_id="", amount_minor=-1, reference="r")
    refused = check_ids(deposit)
    assert refused is not None
    assert refused.code == RejectionCode.INVALID_ID
    assert refused.details["field"] == "user_id"


def test_what_may_be_absent_is_no_bad_id() -> None:
    assert check_ids(commands.CancelAllOrders(user_id="a", market_id=None)) is None
    assert check_ids(commands.CancelAllOrders(user_id="a", market_id="")) is not None
