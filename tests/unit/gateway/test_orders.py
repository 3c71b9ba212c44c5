"""gateway.orders: the answer to an order, from its events; amounts at unequal scales."""

import pytest

from gateway.orders import cancel_result, order_result
from schemas.events import Event, OrderCancelled, OrderPlaced, TradeExecuted
from schemas.frames import Accepted
from schemas.views import MarketView

MARKET = MarketView(
    market_id="A-B",
    base_asset="A",
    quote_asset="B",
    base_scale=3,
    quote_scale=0,
    tick_minor=1,
    lot_minor=1,
    burn_bps=0,
)


def placed(quantity: int) -> OrderPlaced:
    return OrderPlaced(
        at_ns=5_000_000,
        order_id=9,
        client_order_id="c",
        user_id="u",
        market_id="A-B",
        side="buy",
        order_type="limit",
        time_in_force="gtc",
        post_only=False,
        self_trade_prevention="cancel_newest",
        price_minor=10,
        quantity_minor=quantity,
        quote_budget_minor=None,
        held_asset="B",
        held_minor=1,
    )


def traded(trade_id: int, *, price: int, quantity: int) -> TradeExecuted:
    return TradeExecuted(
        at_ns=5_000_000,
        trade_id=trade_id,
        market_id="A-B",
        base_asset="A",
        quote_asset="B",
        price_minor=price,
        quantity_minor=quantity,
        quote_minor=price * quantity // 1_000,
        burned_minor=0,
        buyer_fee_minor=0,
        seller_fee_minor=0,
        refund_minor=0,
        taker_side="buy",
        buyer_id="u",
        seller_id="s",
        maker_order_id=1,
        taker_order_id=9,
        maker_leaves_minor=0,
        taker_leaves_minor=0,
    )


def cancelled(leaves: int, asset: str = "B") -> OrderCancelled:
    return OrderCancelled(
        at_ns=5_000_000,
        order_id=9,
        user_id="u",
        market_id="A-B",
        reason="unfilled",
        leaves_minor=leaves,
        released_asset=asset,
        released_minor=7,
    )


def accepted(*events: Event) -> Accepted:
    return Accepted(id=1, last_position=100, events=events)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("events", "status", "filled", "leaves", "average"),
    [
        ((placed(3_000),), "open", "0.000", "3.000", None),
        (
            (placed(3_000), traded(1, price=4, quantity=1_000)),
            "partially_filled",
            "1.000",
            "2.000",
            "4",
        ),
        (
            (
                placed(3_000),
                traded(1, price=4, quantity=1_000),
                traded(2, price=5, quantity=2_000),
            ),
            "filled",
            "3.000",
            "0.000",
            "4",  # 14 / 3, rounded down to whole B
        ),
        (
            (placed(3_000), traded(1, price=4, quantity=1_000), cancelled(2_000)),
            "cancelled",
            "1.000",
            "2.000",
            "4",
        ),
    ],
)
def test_status_and_sums(
    events: tuple[Event, ...], status: str, filled: str, leaves: str, average: str | None
) -> None:
    result = order_result(accepted(*events), MARKET)
    assert (result.status, result.filled_quantity, result.leaves_quantity) == (
        status,
        filled,
        leaves,
    )
    assert result.average_price == average


def test_positions_are_those_of_the_log() -> None:
    result = order_result(
        accepted(placed(3_000), traded(1, price=4, quantity=1_000), cancelled(2_000)), MARKET
    )
    assert [trade.position for trade in result.trades] == [99]
    assert result.position == 100


@pytest.mark.parametrize(("asset", "released"), [("B", "7"), ("A", "0.007")])
def test_what_a_cancel_releases_is_in_its_assets_scale(asset: str, released: str) -> None:
    assert cancel_result(cancelled(2_000, asset), MARKET, 100).released == released
