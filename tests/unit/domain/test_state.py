"""A market's arithmetic: exact quote amounts, burns rounded down."""

import pytest

from domain.state import Market
from schemas.events import MarketOpened, MarketRules


def _market(*, scale: int = 2, burn_bps: int = 0) -> Market:
    spec = MarketOpened(
        at_ns=0, market_id="A-B", base_asset="A", quote_asset="B", tick_minor=1, lot_minor=1,
        rules=MarketRules(burn_bps=burn_bps),
    )  # fmt: skip
    return Market(spec, scale)


@pytest.mark.parametrize(
    ("scale", "price", "quantity", "quote"),
    [(0, 3, 5, 15), (2, 150, 100, 150), (2, 10, 10, 1), (18, 10**18, 10**18, 10**18)],
)
def test_quote_is_price_times_quantity_in_whole_units(
    scale: int, price: int, quantity: int, quote: int
) -> None:
    assert _market(scale=scale).quote_minor(price, quantity) == quote


def test_a_quote_amount_that_is_not_whole_stops_the_process() -> None:
    with pytest.raises(AssertionError):
        _market().quote_minor(1, 99)


@pytest.mark.parametrize(
    ("burn_bps", "quantity", "burned"),
    [(0, 10**6, 0), (1, 9_999, 0), (1, 10_000, 1), (1, 19_999, 1), (9_999, 1, 0), (9_999, 2, 1)],
)
def test_a_burn_is_rounded_down(burn_bps: int, quantity: int, burned: int) -> None:
    assert _market(burn_bps=burn_bps).burn_minor(quantity) == burned
