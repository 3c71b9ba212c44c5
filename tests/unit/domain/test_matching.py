"""Self-trade prevention, budgets and price bands: whom a taker meets, and where it must stop."""

import msgspec
import pytest

from domain.matching import STEPS_MAX
from schemas.events import (
    OrderCancelled,
    OrderPlaced,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TradeExecuted,
)
from schemas.rejections import RejectionCode
from tests.unit.domain.scenario import FUNDS, Scenario, funded_traders, market, of_kind

# -- self-trade prevention ------------------------------------------------------------------------


# The taker wants 100 and meets other's 30 (order 1), its own 40, other's 50, its own 60.
@pytest.mark.parametrize(
    ("mode", "tif", "makers", "cancelled", "reason", "rests"),
    [
        ("cancel_newest", "gtc", [1], [], "self_trade", False),
        ("cancel_newest", "ioc", [1], [], "self_trade", False),
        ("cancel_oldest", "gtc", [1, 3], [2, 4], None, True),
        ("cancel_oldest", "ioc", [1, 3], [2, 4], "unfilled", False),
        ("cancel_both", "gtc", [1], [2], "self_trade", False),
        ("cancel_both", "ioc", [1], [2], "self_trade", False),
    ],
)
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_a_taker_that_meets_itself(
    side: Side,
    mode: SelfTradePrevention,
    tif: TimeInForce,
    makers: list[int],
    cancelled: list[int],
    reason: str | None,
    rests: bool,
) -> None:
    given = funded_traders()
    opposite: Side = "sell" if side == "buy" else "buy"
    for user_id, quantity in (("other", 30), ("buyer", 40), ("other", 50), ("buyer", 60)):
        given.rest(user_id, opposite, quantity, 100)
    happened = given.place("buyer", side, 100, 100, tif, self_trade_prevention=mode)
    assert [trade.maker_order_id for trade in of_kind(happened, TradeExecuted)] == makers
    gone = {order.order_id: order for order in of_kind(happened, OrderCancelled)}
    assert [order_id for order_id in gone if order_id != 5] == cancelled
    assert {gone[order_id].reason for order_id in cancelled} <= {"self_trade"}
    assert (gone[5].reason if 5 in gone else None) == reason
    assert (5 in given.state.orders) == rests
    open_orders = given.state.orders.values()
    for asset_id in ("DUR", "CNY"):
        held = [
            o.held_minor for o in open_orders if (o.user_id, o.held_asset) == ("buyer", asset_id)
        ]
        assert given.balance("buyer", asset_id)[1] == sum(held)


def test_events_of_a_walk_come_in_the_order_of_the_book() -> None:
    given = funded_traders(burn_bps=1_000)
    for user_id in ("other", "buyer", "seller"):
        given.rest(user_id, "sell", 10, 100)
    happened = given.place("buyer", "buy", 40, 100, "ioc", self_trade_prevention="cancel_oldest")
    assert [event.__struct_config__.tag for event in happened] == [
        "order_placed", "trade_executed", "asset_burned", "order_cancelled", "trade_executed",
        "asset_burned", "order_cancelled",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["cancel_newest", "cancel_oldest", "cancel_both"])
def test_an_order_that_has_enough_before_it_meets_itself_cancels_nothing(
    mode: SelfTradePrevention,
) -> None:
    given = funded_traders()
    given.rest("other", "sell", 30, 100)
    own = given.rest("buyer", "sell", 30, 100)
    happened = given.place("buyer", "buy", 30, 100, self_trade_prevention=mode)
    assert of_kind(happened, OrderCancelled) == []
    assert own in given.state.orders


@pytest.mark.parametrize(
    ("mode", "fillable"), [("cancel_newest", 30), ("cancel_oldest", 80), ("cancel_both", 30)]
)
def test_fill_or_kill_counts_only_what_may_trade(mode: SelfTradePrevention, fillable: int) -> None:
    given = funded_traders()
    for user_id, quantity in (("other", 30), ("buyer", 40), ("other", 50)):
        given.rest(user_id, "sell", quantity, 100)
    over = given.order("buyer", "buy", fillable + 10, 100, "fok", self_trade_prevention=mode)
    refused = given.refuse(over)
    assert refused.code == RejectionCode.WOULD_NOT_FILL
    assert refused.details == {"fillable_minor": fillable}
    given.place("buyer", "buy", fillable, 100, "fok", self_trade_prevention=mode)
    assert (2 in given.state.orders) == (mode != "cancel_oldest")


@pytest.mark.parametrize("mode", ["cancel_newest", "cancel_oldest", "cancel_both"])
def test_a_market_order_that_meets_only_itself_is_refused_and_cancels_nothing(
    mode: SelfTradePrevention,
) -> None:
    given = funded_traders()
    given.rest("buyer", "sell", 30, 100)
    order = given.order("buyer", "buy", 30, None, self_trade_prevention=mode)
    assert given.refuse(order).code == RejectionCode.NO_LIQUIDITY


@pytest.mark.parametrize("mode", ["cancel_newest", "cancel_oldest", "cancel_both"])
def test_a_limit_order_that_meets_only_itself(mode: SelfTradePrevention) -> None:
    given = funded_traders()
    own = given.rest("buyer", "sell", 30, 100)
    happened = given.place("buyer", "buy", 30, 100, self_trade_prevention=mode)
    rests = {own: mode == "cancel_newest", own + 1: mode == "cancel_oldest"}
    assert {order_id: order_id in given.state.orders for order_id in rests} == rests
    assert of_kind(happened, TradeExecuted) == []


# -- how many orders one order may meet -----------------------------------------------------------


def _crowded(makers: int) -> Scenario:
    given = funded_traders()
    given.configure(open_orders_max=10_000)
    for number in range(makers):
        given.rest("seller" if number % 2 else "other", "sell", 10, 100)
    return given


def test_an_order_that_meets_too_many_is_cut_off_and_does_not_rest() -> None:
    given = _crowded(STEPS_MAX + 2)
    happened = given.place("buyer", "buy", 10 * STEPS_MAX + 20, 100)
    assert len(of_kind(happened, TradeExecuted)) == STEPS_MAX
    (cancelled,) = of_kind(happened, OrderCancelled)
    assert (cancelled.reason, cancelled.leaves_minor) == ("unfilled", 20)
    assert len(given.queue("sell")) == 2
    assert given.queue("buy") == []


def test_an_order_that_meets_just_as_many_as_it_may_is_not_cut_off() -> None:
    given = _crowded(STEPS_MAX)
    happened = given.place("buyer", "buy", 10 * STEPS_MAX + 20, 100)
    assert len(of_kind(happened, TradeExecuted)) == STEPS_MAX
    assert of_kind(happened, OrderCancelled) == []
    assert [price for price, _ in given.queue("buy")] == [100]


def test_fill_or_kill_that_would_meet_too_many_is_refused() -> None:
    given = _crowded(STEPS_MAX + 1)
    refused = given.refuse(given.order("buyer", "buy", 10 * STEPS_MAX + 10, 100, "fok"))
    assert refused.code == RejectionCode.WOULD_NOT_FILL
    given.place("buyer", "buy", 10 * STEPS_MAX, 100, "fok")


# -- budgets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "fills"),
    [
        # A lot of 10 costs 10 at 100 and 25 at 250.
        (10, [(100, 10)]),
        (19, [(100, 10)]),
        (99, [(100, 90)]),
        (100, [(100, 100)]),
        (124, [(100, 100)]),
        (125, [(100, 100), (250, 10)]),
        (10**9, [(100, 100), (250, 100)]),
    ],
)
@pytest.mark.parametrize("time_in_force", ["gtc", "ioc"])
def test_a_buy_spends_at_most_its_budget_in_whole_lots(
    time_in_force: TimeInForce, budget: int, fills: list[tuple[int, int]]
) -> None:
    given = funded_traders()
    given.rest("seller", "sell", 100, 100)
    given.rest("other", "sell", 100, 250)
    order = given.order("buyer", "buy", None, None, time_in_force, quote_budget_minor=budget)
    placed, *trades = given.accept(order)
    assert isinstance(placed, OrderPlaced)
    found = [(t.price_minor, t.quantity_minor) for t in of_kind(trades, TradeExecuted)]
    assert found == fills
    spent = sum(price * quantity // 100 for price, quantity in fills)
    assert placed.quantity_minor == sum(quantity for _, quantity in fills)
    assert (placed.quote_budget_minor, placed.held_minor) == (budget, spent)
    assert given.balance("buyer", "CNY") == (FUNDS - spent, 0)


@pytest.mark.parametrize(
    ("budget", "fills"),
    [
        (25, [(250, 10)]),
        (34, [(250, 10)]),
        (250, [(250, 100)]),
        (259, [(250, 100)]),
        (260, [(250, 100), (100, 10)]),
        # What is too little for a lot at 250 still covers two at 100.
        (249, [(250, 90), (100, 20)]),
    ],
)
def test_a_sell_receives_at_most_its_budget_in_whole_lots(
    budget: int, fills: list[tuple[int, int]]
) -> None:
    given = funded_traders()
    given.rest("buyer", "buy", 100, 100)
    given.rest("other", "buy", 100, 250)
    happened = given.accept(given.order("seller", "sell", None, None, quote_budget_minor=budget))
    found = [(t.price_minor, t.quantity_minor) for t in of_kind(happened, TradeExecuted)]
    assert found == fills
    sold = sum(quantity for _, quantity in fills)
    assert of_kind(happened, OrderPlaced)[0].held_minor == sold
    assert given.balance("seller", "DUR") == (FUNDS - sold, 0)
    assert of_kind(happened, OrderCancelled) == []


def test_a_budget_below_one_lot_finds_no_liquidity() -> None:
    given = funded_traders()
    given.rest("seller", "sell", 100, 250)
    order = given.order("buyer", "buy", None, None, quote_budget_minor=24)
    assert given.refuse(order).code == RejectionCode.NO_LIQUIDITY


def test_the_walk_ends_at_the_first_maker_too_dear_even_if_it_is_ones_own() -> None:
    given = funded_traders()
    given.rest("seller", "sell", 10, 100)
    own = given.rest("buyer", "sell", 10, 250)
    given.accept(
        given.order(
            "buyer", "buy", None, None, quote_budget_minor=34, self_trade_prevention="cancel_oldest"
        )
    )
    assert own in given.state.orders
    happened = given.accept(given.replace("buyer", own, 10, 100))
    assert of_kind(happened, TradeExecuted) == []


def test_a_budget_order_that_meets_itself_just_ends() -> None:
    given = funded_traders()
    given.rest("seller", "sell", 10, 100)
    given.rest("buyer", "sell", 10, 100)
    given.rest("seller", "sell", 10, 100)
    happened = given.accept(given.order("buyer", "buy", None, None, quote_budget_minor=100))
    assert [event.__struct_config__.tag for event in happened] == ["order_placed", "trade_executed"]


# -- price bands ----------------------------------------------------------------------------------


def _banded(band_bps: int, last: int = 1_000) -> Scenario:
    given = funded_traders()
    given.rest("seller", "sell", 10, last)
    given.place("buyer", "buy", 10, last)
    given.configure(band_bps=band_bps)
    return given


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize(
    ("price", "is_inside"),
    [(940, False), (950, True), (1_000, True), (1_050, True), (1_060, False)],
)
def test_a_limit_price_at_the_edge_of_the_band_is_inside(
    side: Side, price: int, is_inside: bool
) -> None:
    given = _banded(500)
    order = given.order("other", side, 10, price)
    if is_inside:
        given.accept(order)
    else:
        refused = given.refuse(order)
        assert refused.code == RejectionCode.PRICE_OUTSIDE_BAND
        assert refused.details == {"last_price_minor": 1_000, "band_bps": 500}


def test_without_a_trade_there_is_no_band() -> None:
    given = funded_traders()
    given.configure(band_bps=1)
    given.rest("seller", "sell", 10, 100)
    given.rest("other", "sell", 10, 10**9)
    given.place("buyer", "buy", 10, None)
    refused = given.refuse(given.order("buyer", "buy", 10, None))
    assert refused.code == RejectionCode.NO_LIQUIDITY


@pytest.mark.parametrize(
    ("band_bps", "side", "prices", "fills"),
    [
        # 1,000 x 1.0509 = 1,050.9: floor. 1,000 x 0.9491 = 949.1: ceil, so 940 is too far.
        (509, "buy", (1_050, 1_060), 1),
        (600, "buy", (1_050, 1_060), 2),
        (599, "buy", (1_050, 1_060), 1),
        (509, "sell", (950, 940), 1),
        (600, "sell", (950, 940), 2),
        (599, "sell", (950, 940), 1),
        # A band wider than the price leaves any bid.
        (100_000, "sell", (20, 10), 2),
        (10_000, "sell", (20, 10), 2),
    ],
)
def test_a_market_order_trades_up_to_the_edge_of_the_band(
    band_bps: int, side: Side, prices: tuple[int, int], fills: int
) -> None:
    given = _banded(100_000)
    opposite: Side = "sell" if side == "buy" else "buy"
    for price in prices:
        given.rest("other", opposite, 10, price)
    given.configure(band_bps=band_bps)
    happened = given.place("buyer", side, 20, None)
    assert len(of_kind(happened, TradeExecuted)) == fills
    assert len(of_kind(happened, OrderCancelled)) == (fills == 1)


@pytest.mark.parametrize(
    ("side", "band_bps", "edge", "outside"),
    # 100 x 1.0499 = 104.99 and 100 x 0.9701 = 97.01: both edges lie towards the last price.
    [("buy", 499, 104, 105), ("sell", 299, 98, 97)],
)
def test_an_edge_between_two_prices_is_rounded_towards_the_last_one(
    side: Side, band_bps: int, edge: int, outside: int
) -> None:
    given = funded_traders()
    finest = msgspec.structs.replace(market(0, base_asset="TOK"), tick_minor=1, lot_minor=100)
    given.accept(finest)
    for user_id in ("buyer", "other"):
        given.deposit(user_id, "TOK", FUNDS)
    given.rest("other", "sell", 100, 100, market_id="TOK-CNY")
    given.place("buyer", "buy", 100, 100, market_id="TOK-CNY")
    opposite: Side = "sell" if side == "buy" else "buy"
    for price in (edge, outside):
        given.rest("other", opposite, 100, price, market_id="TOK-CNY")
    given.configure("TOK-CNY", band_bps=band_bps)
    happened = given.place("buyer", side, 200, None, market_id="TOK-CNY")
    assert [trade.price_minor for trade in of_kind(happened, TradeExecuted)] == [edge]
