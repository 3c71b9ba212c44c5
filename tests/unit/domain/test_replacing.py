"""Replacing an order: when it keeps its place, what it frees, and that it is all or nothing."""

import pytest

from schemas import commands
from schemas.events import (
    AccrualSettled,
    OrderCancelled,
    OrderPlaced,
    OrderReduced,
    Side,
    TradeExecuted,
)
from schemas.rejections import RejectionCode
from tests.unit.domain.scenario import MARKET, Scenario, of_kind

FUNDS = 1_000


def _given() -> Scenario:
    given = Scenario(burn_bps=0)
    for user_id in ("seller", "other", "buyer"):
        given.deposit(user_id, "DUR", FUNDS)
        given.deposit(user_id, "CNY", FUNDS)
    return given


@pytest.mark.parametrize(
    ("side", "asset_id", "held", "released"), [("sell", "DUR", 60, 40), ("buy", "CNY", 90, 60)]
)
def test_an_order_that_only_shrinks_keeps_its_place_and_its_name(
    side: Side, asset_id: str, held: int, released: int
) -> None:
    given = _given()
    first = given.rest("seller", side, 100, 150)
    second = given.rest("other", side, 100, 150)
    command = given.replace("seller", first, 60, 150)
    (reduced,) = given.accept(command)
    assert isinstance(reduced, OrderReduced)
    assert (reduced.leaves_minor, reduced.released_minor) == (60, released)
    assert given.balance("seller", asset_id) == (FUNDS - held, held)
    assert given.queue(side) == [(150, first), (150, second)]
    # The new name was not used, so an order can still have it.
    given.rest("seller", side, 10, 150, client_order_id=command.new_client_order_id)


@pytest.mark.parametrize(("quantity", "price"), [(100, 150), (110, 150), (50, 140), (100, 160)])
def test_any_other_change_gives_the_place_up(quantity: int, price: int) -> None:
    given = _given()
    first = given.rest("buyer", "buy", 100, 150, self_trade_prevention="cancel_both")
    second = given.rest("other", "buy", 100, 150)
    command = given.replace("buyer", first, quantity, price)
    gone, placed = given.accept(command)
    assert isinstance(gone, OrderCancelled)
    assert isinstance(placed, OrderPlaced)
    assert (gone.order_id, gone.reason, gone.released_minor) == (first, "replaced", 150)
    assert placed.client_order_id == command.new_client_order_id
    assert (placed.order_type, placed.time_in_force, placed.post_only) == ("limit", "gtc", False)
    assert placed.self_trade_prevention == "cancel_both"
    queue = sorted([(price, placed.order_id), (150, second)], key=lambda row: (-row[0], row[1]))
    assert given.queue("buy") == queue
    held = price * quantity // 100
    assert given.balance("buyer", "CNY") == (FUNDS - held, held)


def test_what_the_old_order_holds_pays_for_the_new_one() -> None:
    given = _given()
    order_id = given.rest("seller", "sell", FUNDS, 150)
    assert given.balance("seller", "DUR") == (0, FUNDS)
    given.accept(given.replace("seller", order_id, FUNDS, 140))
    assert given.balance("seller", "DUR") == (0, FUNDS)
    refused = given.refuse(given.replace("seller", order_id + 1, FUNDS + 10, 140))
    assert refused.code == RejectionCode.INSUFFICIENT_FUNDS
    assert refused.details["available_minor"] == FUNDS
    # Nothing happened to the order that was to make place.
    assert given.queue("sell") == [(140, order_id + 1)]


def test_what_was_mined_is_added_to_what_the_old_order_frees() -> None:
    given = _given()
    given.grant("seller", 1)
    given.tick()
    order_id = given.rest("seller", "sell", FUNDS, 150)
    gone, settled, placed = given.accept(given.replace("seller", order_id, FUNDS + 100, 150))
    assert isinstance(gone, OrderCancelled)
    assert isinstance(settled, AccrualSettled)
    assert isinstance(placed, OrderPlaced)
    assert given.balance("seller", "DUR") == (0, FUNDS + 100)


def test_a_replacement_trades_at_once_if_it_can() -> None:
    given = _given()
    given.rest("seller", "sell", 60, 120)
    order_id = given.rest("buyer", "buy", 100, 100)
    trade = given.accept(given.replace("buyer", order_id, 100, 120))[-1]
    assert isinstance(trade, TradeExecuted)
    assert (trade.quantity_minor, trade.taker_leaves_minor) == (60, 40)
    assert given.queue("buy") == [(120, order_id + 1)]


def test_a_partly_filled_order_is_replaced_by_what_it_still_wants() -> None:
    given = _given()
    order_id = given.rest("seller", "sell", 100, 100)
    given.place("buyer", "buy", 70, 100)
    # 30 are left; asking for 30 is no shrinking, asking for 20 is.
    (reduced,) = given.accept(given.replace("seller", order_id, 20, 100))
    assert isinstance(reduced, OrderReduced)
    assert reduced.released_minor == 10
    gone, _ = given.accept(given.replace("seller", order_id, 20, 100))
    assert isinstance(gone, OrderCancelled)
    assert (gone.leaves_minor, gone.released_minor) == (20, 20)


def test_a_post_only_order_stays_post_only() -> None:
    given = _given()
    given.rest("other", "sell", 100, 120)
    order_id = given.rest("buyer", "buy", 100, 100, post_only=True)
    refused = given.refuse(given.replace("buyer", order_id, 100, 120))
    assert refused.code == RejectionCode.POST_ONLY_WOULD_TRADE
    moved = of_kind(given.accept(given.replace("buyer", order_id, 100, 110)), OrderPlaced)
    assert [order.post_only for order in moved] == [True]


def test_the_old_name_stays_used() -> None:
    given = _given()
    order_id = given.rest("buyer", "buy", 100, 100, client_order_id="old")
    refused = given.refuse(given.replace("buyer", order_id, 100, 110, "old"))
    assert refused.code == RejectionCode.DUPLICATE_CLIENT_ORDER_ID
    given.accept(given.replace("buyer", order_id, 100, 110, "new"))
    for name in ("old", "new"):
        again = given.order("buyer", "buy", 10, 100, client_order_id=name)
        assert given.refuse(again).code == RejectionCode.DUPLICATE_CLIENT_ORDER_ID


def test_the_old_order_makes_place_among_the_open_orders() -> None:
    given = _given()
    given.configure(open_orders_max=1)
    order_id = given.rest("buyer", "buy", 100, 100)
    given.accept(given.replace("buyer", order_id, 100, 110))
    refused = given.refuse(given.order("buyer", "buy", 10, 100))
    assert refused.code == RejectionCode.TOO_MANY_OPEN_ORDERS


@pytest.mark.parametrize(
    ("quantity", "code"),
    [(55, RejectionCode.QUANTITY_OFF_LOT), (40, RejectionCode.BELOW_MIN_NOTIONAL), (50, None)],
)
def test_shrinking_keeps_to_the_lot_and_the_minimum(
    quantity: int, code: RejectionCode | None
) -> None:
    given = _given()
    order_id = given.rest("buyer", "buy", 100, 100)
    given.configure(min_notional_minor=50)
    command = given.replace("buyer", order_id, quantity, 100)
    if code is None:
        given.accept(command)
    else:
        assert given.refuse(command).code == code


def test_only_its_user_can_replace_an_order_and_only_while_it_is_open() -> None:
    given = _given()
    order_id = given.rest("buyer", "buy", 100, 100)
    stranger = given.refuse(given.replace("other", order_id, 50, 100))
    assert stranger.code == RejectionCode.UNKNOWN_ORDER
    given.accept(commands.CancelAllOrders(user_id="buyer", market_id=MARKET))
    late = given.refuse(given.replace("buyer", order_id, 50, 100))
    assert late.code == RejectionCode.UNKNOWN_ORDER
