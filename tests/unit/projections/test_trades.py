"""The tape's row of a trade."""

from projections.trades import trade_row
from schemas.views import TradeView
from tests.fixtures.ledger_logs import trade_event


def test_row_has_the_trade_with_its_burn_and_position() -> None:
    event = trade_event(second=5, price=7, quantity=3, burned=1, taker_side="sell", trade_id=4)
    assert trade_row(event, 12) == TradeView(
        trade_id=4,
        at_ns=5_000_000_000,
        price=7,
        quantity=3,
        quote=21,
        taker_side="sell",
        burned=1,
        position=12,
    )
