"""Orders in domain language: who meets whom, at what price, what is held, released and burned."""

import pytest

from schemas import commands
from schemas.events import (
    AccrualSettled,
    AssetBurned,
    OrderCancelled,
    OrderPlaced,
    Side,
    TimeInForce,
    TradeExecuted,
)
from schemas.rejections import RejectionCode
from tests.unit.domain.scenario import FUNDS, MARKET, Scenario, funded_traders, market, of_kind

Order = tuple[str, Side, int, int | None, TimeInForce]
Trade = tuple[int, int, str]
ASKS: list[tuple[str, int, int]] = [("seller", 100, 110), ("other", 50, 100), ("seller", 70, 100)]


@pytest.mark.parametrize(
    ("order", "trades", "leaves_on_book", "cancelled"),
    [
        # The best price first; within a price the oldest; always at the maker's price.
        (("buyer", "buy", 60, 100, "gtc"), [(100, 50, "other"), (100, 10, "seller")], 0, None),
        (
            ("buyer", "buy", 300, 120, "gtc"),
            [(100, 50, "other"), (100, 70, "seller"), (110, 100, "seller")],
            80,
            None,
        ),
        (("buyer", "buy", 300, 100, "ioc"), [(100, 50, "other"), (100, 70, "seller")], 0, 180),
        (("buyer", "buy", 300, None, "ioc"), [(100, 50, "other"), (100, 70, "seller"),
                                              (110, 100, "seller")], 0, 80),
        (("buyer", "buy", 300, None, "gtc"), [(100, 50, "other"), (100, 70, "seller"),
                                              (110, 100, "seller")], 0, 80),
        (("buyer", "buy", 120, 100, "fok"), [(100, 50, "other"), (100, 70, "seller")], 0, None),
        (("buyer", "buy", 220, None, "fok"), [(100, 50, "other"), (100, 70, "seller"),
                                              (110, 100, "seller")], 0, None),
        (("buyer", "buy", 40, 90, "gtc"), [], 40, None),
        (("buyer", "buy", 40, 90, "ioc"), [], 0, 40),
        (("buyer", "sell", 40, 90, "gtc"), [], 40, None),
    ],
)  # fmt: skip
def test_order_meets_the_book(
    order: Order, trades: list[Trade], leaves_on_book: int, cancelled: int | None
) -> None:
    given = funded_traders()
    for user_id, quantity, price in ASKS:
        given.place(user_id, "sell", quantity, price)
    happened = given.place(*order)
    found = [
        (t.price_minor, t.quantity_minor, t.seller_id) for t in of_kind(happened, TradeExecuted)
    ]
    assert found == trades
    (placed,) = of_kind(happened, OrderPlaced)
    rests = given.state.orders.get(placed.order_id)
    assert (rests.leaves_minor if rests else 0) == leaves_on_book
    released = [c.leaves_minor for c in of_kind(happened, OrderCancelled)]
    assert released == ([] if cancelled is None else [cancelled])


@pytest.mark.parametrize(
    ("side", "price", "quantity", "fillable"),
    [("buy", 100, 130, 120), ("buy", 90, 10, 0), ("buy", None, 230, 220), ("sell", 100, 10, 0)],
)
def test_fill_or_kill_that_would_not_fill_is_refused_and_appends_nothing(
    side: Side, price: int | None, quantity: int, fillable: int
) -> None:
    given = funded_traders()
    for user_id, leaves, ask in ASKS:
        given.place(user_id, "sell", leaves, ask)
    refused = given.refuse(given.order("buyer", side, quantity, price, "fok"))
    assert refused.code == RejectionCode.WOULD_NOT_FILL
    assert refused.details == {"fillable_minor": fillable}


def test_a_taking_seller_meets_the_highest_bid_first_and_the_oldest_of_equals() -> None:
    given = funded_traders()
    first = given.place("other", "buy", 50, 90)
    for user_id, price in (("buyer", 90), ("other", 80), ("buyer", 100)):
        given.place(user_id, "buy", 50, price)
    happened = given.place("seller", "sell", 170, 80)
    trades = of_kind(happened, TradeExecuted)
    assert [(t.price_minor, t.quantity_minor) for t in trades] == [
        (100, 50), (90, 50), (90, 50), (80, 20),
    ]  # fmt: skip
    (oldest,) = of_kind(first, OrderPlaced)
    assert trades[1].maker_order_id == oldest.order_id
    assert [t.maker_leaves_minor for t in trades] == [0, 0, 0, 30]
    assert [t.taker_leaves_minor for t in trades] == [120, 70, 20, 0]
    assert [t.trade_id for t in trades] == [1, 2, 3, 4]


def test_a_partly_filled_order_keeps_its_place_in_the_queue() -> None:
    given = funded_traders()
    for user_id in ("seller", "other"):
        given.place(user_id, "sell", 100, 100)
    given.place("buyer", "buy", 60, 100)
    happened = given.place("buyer", "buy", 60, 100)
    sold = [(t.seller_id, t.quantity_minor) for t in of_kind(happened, TradeExecuted)]
    assert sold == [("seller", 40), ("other", 20)]


def test_a_better_price_than_the_limit_is_paid_back_at_once() -> None:
    given = funded_traders()
    given.place("seller", "sell", 100, 100)
    placed, trade = given.place("buyer", "buy", 300, 150)
    assert isinstance(placed, OrderPlaced)
    assert isinstance(trade, TradeExecuted)
    assert (placed.held_asset, placed.held_minor) == ("CNY", 450)
    assert (trade.quote_minor, trade.refund_minor) == (100, 50)
    # 200 DUR still wanted at 150: exactly their cost stays held.
    assert given.balance("buyer", "CNY") == (FUNDS - 100 - 300, 300)
    # The resting remainder is met at its own price: nothing to pay back.
    (resting,) = of_kind(given.place("seller", "sell", 200, 120), TradeExecuted)
    assert (resting.price_minor, resting.refund_minor) == (150, 0)
    assert given.balance("buyer", "CNY") == (FUNDS - 400, 0)
    assert given.balance("buyer", "DUR") == (FUNDS + 300, 0)
    assert given.balance("seller", "CNY") == (FUNDS + 400, 0)


def test_a_market_buy_holds_exactly_what_its_fills_cost() -> None:
    given = funded_traders()
    given.place("seller", "sell", 100, 100)
    given.place("seller", "sell", 100, 250)
    placed, *_, cancelled = given.place("buyer", "buy", 500, None)
    assert isinstance(placed, OrderPlaced)
    assert isinstance(cancelled, OrderCancelled)
    assert placed.held_minor == 350
    assert (cancelled.reason, cancelled.leaves_minor) == ("unfilled", 300)
    assert (cancelled.released_asset, cancelled.released_minor) == ("CNY", 0)
    assert given.balance("buyer", "CNY") == (FUNDS - 350, 0)


def test_a_market_sell_releases_what_did_not_trade() -> None:
    given = funded_traders()
    given.place("buyer", "buy", 100, 100)
    happened = given.place("seller", "sell", 130, None)
    (cancelled,) = of_kind(happened, OrderCancelled)
    assert (cancelled.released_asset, cancelled.released_minor) == ("DUR", 30)
    assert given.balance("seller", "DUR") == (FUNDS - 100, 0)


@pytest.mark.parametrize(("side", "asset_id", "held"), [("buy", "CNY", 90), ("sell", "DUR", 60)])
def test_cancelling_releases_exactly_what_is_still_held(
    side: Side, asset_id: str, held: int
) -> None:
    given = funded_traders()
    other: Side = "sell" if side == "buy" else "buy"
    (placed,) = of_kind(given.place("buyer", side, 100, 150), OrderPlaced)
    given.place("seller", other, 40, 150)
    before = given.balance("buyer", asset_id)
    assert before[1] == held
    (cancelled,) = given.accept(commands.CancelOrder(user_id="buyer", order_id=placed.order_id))
    assert isinstance(cancelled, OrderCancelled)
    assert (cancelled.reason, cancelled.leaves_minor) == ("requested", 60)
    assert (cancelled.released_asset, cancelled.released_minor) == (asset_id, held)
    assert given.balance("buyer", asset_id) == (before[0] + held, 0)
    again = given.refuse(commands.CancelOrder(user_id="buyer", order_id=placed.order_id))
    assert again.code == RejectionCode.UNKNOWN_ORDER


@pytest.mark.parametrize(
    ("burn_bps", "quantity", "burned"),
    [(0, 1_000, 0), (1, 9_990, 0), (1, 10_000, 1), (10, 1_990, 1), (9_999, 10, 9), (100, 990, 9)],
)
def test_a_trade_burns_the_floor_of_its_share(burn_bps: int, quantity: int, burned: int) -> None:
    given = funded_traders(burn_bps)
    given.place("seller", "sell", quantity, 100)
    happened = given.place("buyer", "buy", quantity, 100)
    (trade,) = of_kind(happened, TradeExecuted)
    assert trade.burned_minor == burned
    burns = of_kind(happened, AssetBurned)
    assert [(b.amount_minor, b.burned_total_minor) for b in burns] == [(burned, burned)] * (
        burned > 0
    )
    assert given.balance("buyer", "DUR") == (FUNDS + quantity - burned, 0)
    assert given.balance("seller", "DUR") == (FUNDS - quantity, 0)
    assert given.system("burn", "DUR") == burned


def test_burns_add_up_over_the_trades_of_one_order_and_of_several() -> None:
    given = funded_traders(burn_bps=150)
    for quantity in (100, 30, 370):
        given.place("seller", "sell", quantity, 100)
    happened = given.place("buyer", "buy", 500, 100)
    # floor(1.5), floor(0.45), floor(5.55)
    totals = [(b.trade_id, b.amount_minor, b.burned_total_minor)
              for b in of_kind(happened, AssetBurned)]  # fmt: skip
    assert totals == [(1, 1, 1), (3, 5, 6)]
    given.place("buyer", "buy", 100, 100)
    (burned,) = of_kind(given.place("seller", "sell", 100, 100), AssetBurned)
    assert (burned.user_id, burned.burned_total_minor) == ("seller", 7)


def test_an_order_settles_by_itself_what_it_needs_from_mining() -> None:
    given = funded_traders()
    given.grant("miner", 1)
    given.tick(3)
    given.deposit("miner", "DUR", 50)
    settled, placed = given.place("miner", "sell", 350, 100)
    assert isinstance(settled, AccrualSettled)
    assert isinstance(placed, OrderPlaced)
    assert settled.amount_minor == 300
    assert given.balance("miner", "DUR") == (0, 350)
    given.tick()
    refused = given.refuse(given.order("miner", "sell", 110, 100))
    assert refused.code == RejectionCode.INSUFFICIENT_FUNDS
    assert refused.details["available_minor"] == 0


def test_an_order_that_can_be_paid_settles_nothing() -> None:
    given = funded_traders()
    given.grant("seller", 1)
    given.tick(3)
    (placed,) = given.place("seller", "sell", FUNDS, 100)
    assert isinstance(placed, OrderPlaced)


def test_mining_pays_no_order_in_another_asset() -> None:
    given = funded_traders()
    given.grant("miner", 1)
    given.tick(3)
    refused = given.refuse(given.order("miner", "buy", 10, 100))
    assert refused.code == RejectionCode.INSUFFICIENT_FUNDS


def test_markets_do_not_see_each_others_books() -> None:
    given = funded_traders()
    given.accept(market(base_asset="TOK"))
    given.place("seller", "sell", 100, 100)
    in_other = given.order("buyer", "buy", 100, None, market_id="TOK-CNY")
    assert given.refuse(in_other).code == RejectionCode.NO_LIQUIDITY


def test_markets_share_a_users_funds() -> None:
    given = funded_traders()
    given.accept(market(base_asset="TOK"))
    given.place("buyer", "buy", FUNDS, 60)
    assert given.balance("buyer", "CNY") == (FUNDS * 4 // 10, FUNDS * 6 // 10)
    refused = given.refuse(given.order("buyer", "buy", FUNDS, 50, market_id="TOK-CNY"))
    assert refused.code == RejectionCode.INSUFFICIENT_FUNDS
    assert refused.details["available_minor"] == FUNDS * 4 // 10
    given.place("buyer", "buy", FUNDS, 40, market_id="TOK-CNY")
    assert given.balance("buyer", "CNY") == (0, FUNDS)
    # What one market frees can be used in the other at once.
    given.accept(commands.CancelAllOrders(user_id="buyer", market_id=MARKET))
    given.place("buyer", "buy", FUNDS, 60, market_id="TOK-CNY")
    assert given.balance("buyer", "CNY") == (0, FUNDS)


def test_what_one_trade_earns_pays_for_the_next_order_in_another_market() -> None:
    given = funded_traders()
    given.accept(market(base_asset="TOK"))
    given.deposit("poor", "DUR", 100)
    given.place("buyer", "buy", 100, 100)
    given.place("poor", "sell", 100, 100)
    given.place("poor", "buy", 100, 100, market_id="TOK-CNY")
    assert given.balance("poor", "CNY") == (0, 100)


def test_numbers_beyond_64_bits_stay_exact() -> None:
    given = Scenario(burn_bps=9_999)
    given.deposit("seller", "DUR", 10**30)
    given.deposit("buyer", "CNY", 10**36)
    given.place("seller", "sell", 10**30, 10**8)
    happened = given.place("buyer", "buy", 10**30, 10**8)
    (trade,) = of_kind(happened, TradeExecuted)
    assert (trade.quote_minor, trade.burned_minor) == (10**36, 9_999 * 10**26)
    assert given.balance("buyer", "DUR") == (10**26, 0)


@pytest.mark.parametrize(
    ("maker_bps", "taker_bps", "buyer_fee", "seller_fee"),
    [
        (0, 0, 0, 0),
        # 1,000 DUR at 100 are 1,000 CNY; of the DUR 10 burn. 990 x 25 / 10,000 = 2.475.
        (0, 25, 3, 0),
        (10, 0, 0, 1),
        (10, 25, 3, 1),
        # 990 x 100 / 10,000 = 9.9; 1,000 x 100 / 10,000 = 10 exactly.
        (100, 100, 10, 10),
        (1, 1, 1, 1),
        # 989.901: everything but nothing is left.
        (9_999, 9_999, 990, 1_000),
    ],
)
def test_each_side_pays_its_fee_out_of_what_it_receives_rounded_up(
    maker_bps: int, taker_bps: int, buyer_fee: int, seller_fee: int
) -> None:
    given = funded_traders(burn_bps=100)
    given.configure(maker_fee_bps=maker_bps, taker_fee_bps=taker_bps)
    given.rest("seller", "sell", 1_000, 100)
    (trade,) = of_kind(given.place("buyer", "buy", 1_000, 100), TradeExecuted)
    assert (trade.buyer_fee_minor, trade.seller_fee_minor) == (buyer_fee, seller_fee)
    assert given.balance("buyer", "DUR") == (FUNDS + 990 - buyer_fee, 0)
    assert given.balance("buyer", "CNY") == (FUNDS - 1_000, 0)
    assert given.balance("seller", "CNY") == (FUNDS + 1_000 - seller_fee, 0)
    assert given.balance("seller", "DUR") == (FUNDS - 1_000, 0)
    assert given.system("fees", "DUR") == buyer_fee
    assert given.system("fees", "CNY") == seller_fee


def test_a_taking_seller_pays_the_taker_fee_and_the_resting_buyer_the_maker_fee() -> None:
    given = funded_traders(burn_bps=0)
    given.configure(maker_fee_bps=10, taker_fee_bps=200)
    given.rest("buyer", "buy", 1_000, 100)
    (trade,) = of_kind(given.place("seller", "sell", 1_000, 100), TradeExecuted)
    assert (trade.buyer_fee_minor, trade.seller_fee_minor) == (1, 20)


def test_the_smallest_trade_burns_nothing_and_still_pays_a_fee() -> None:
    given = funded_traders(burn_bps=999)
    given.configure(maker_fee_bps=1, taker_fee_bps=1)
    given.rest("seller", "sell", 10, 10)
    trade, *burns = of_kind(given.place("buyer", "buy", 10, 10), TradeExecuted)
    # 10 DUR cost one tenth of 10: one CNY minor unit; 9.99 of 10 would burn at 9,990 bps.
    assert burns == []
    assert (trade.quote_minor, trade.burned_minor) == (1, 0)
    assert (trade.buyer_fee_minor, trade.seller_fee_minor) == (1, 1)


def test_rules_change_for_the_next_trade_and_not_for_open_orders() -> None:
    given = funded_traders(burn_bps=100)
    resting = given.rest("seller", "sell", 300, 100)
    first = of_kind(given.place("buyer", "buy", 100, 100), TradeExecuted)
    given.configure(burn_bps=0, min_notional_minor=10**6, open_orders_max=1, band_bps=1)
    assert given.queue("sell") == [(100, resting)]
    given.configure(burn_bps=200, min_notional_minor=0, band_bps=None)
    second = of_kind(given.place("buyer", "buy", 100, 100), TradeExecuted)
    assert [trade.burned_minor for trade in (*first, *second)] == [1, 2]


@pytest.mark.parametrize(
    ("side", "price", "quantity", "is_enough"),
    [("buy", 100, 600, True), ("buy", 100, 590, False), ("sell", 120, 500, True),
     ("sell", 120, 490, False)],
)  # fmt: skip
def test_the_minimum_notional_counts_price_times_quantity(
    side: Side, price: int, quantity: int, is_enough: bool
) -> None:
    given = funded_traders()
    given.configure(min_notional_minor=600)
    order = given.order("buyer", side, quantity, price)
    if is_enough:
        given.accept(order)
    else:
        refused = given.refuse(order)
        assert refused.code == RejectionCode.BELOW_MIN_NOTIONAL
        assert refused.details == {"min_notional_minor": 600}


def test_a_market_order_by_quantity_has_no_minimum_and_one_by_budget_has() -> None:
    given = funded_traders()
    given.rest("seller", "sell", 1_000, 100)
    given.configure(min_notional_minor=600)
    given.place("buyer", "buy", 10, None)
    for budget, is_enough in ((599, False), (600, True)):
        order = given.order("buyer", "buy", None, None, quote_budget_minor=budget)
        decided = given.decide(order)
        assert isinstance(decided, tuple) == is_enough


def test_open_orders_are_counted_by_user_and_market_and_for_resting_orders_only() -> None:
    given = funded_traders()
    given.accept(market(base_asset="TOK", open_orders_max=1))
    given.configure(open_orders_max=2)
    for _ in range(2):
        first = given.rest("buyer", "buy", 10, 100)
    refused = given.refuse(given.order("buyer", "sell", 10, 200))
    assert refused.code == RejectionCode.TOO_MANY_OPEN_ORDERS
    assert refused.details == {"open_orders_max": 2}
    given.rest("buyer", "buy", 10, 100, market_id="TOK-CNY")
    given.rest("other", "buy", 10, 100)
    # Orders that never rest are not counted, and not refused either.
    given.place("buyer", "buy", 10, 100, "ioc")
    given.accept(commands.CancelOrder(user_id="buyer", order_id=first))
    given.rest("buyer", "sell", 10, 200)


def test_a_post_only_order_rests_or_is_refused() -> None:
    given = funded_traders()
    given.rest("seller", "sell", 10, 110)
    given.rest("other", "buy", 10, 90)
    for side, price, crosses in (("buy", 110, True), ("sell", 90, True), ("buy", 100, False)):
        order = given.order("buyer", "sell" if side == "sell" else "buy", 10, price, post_only=True)
        if crosses:
            refused = given.refuse(order)
            assert refused.code == RejectionCode.POST_ONLY_WOULD_TRADE
            assert refused.details == {"price_minor": price}
        else:
            (placed,) = given.accept(order)
            assert isinstance(placed, OrderPlaced)
            assert placed.post_only


def test_a_post_only_order_is_refused_even_if_it_would_only_meet_its_own_user() -> None:
    given = funded_traders()
    given.rest("buyer", "sell", 10, 100)
    order = given.order(
        "buyer", "buy", 10, 100, post_only=True, self_trade_prevention="cancel_oldest"
    )
    assert given.refuse(order).code == RejectionCode.POST_ONLY_WOULD_TRADE


def test_halting_stops_orders_and_keeps_those_that_rest() -> None:
    given = funded_traders()
    shrunk = given.rest("seller", "sell", 100, 100)
    gone = given.rest("seller", "sell", 50, 110)
    given.accept(commands.HaltMarket(market_id=MARKET, reason="maintenance"))
    assert given.refuse(given.order("buyer", "buy", 10, 90)).code == RejectionCode.MARKET_HALTED
    moved = given.refuse(given.replace("seller", shrunk, 100, 120))
    assert moved.code == RejectionCode.MARKET_HALTED
    given.accept(given.replace("seller", shrunk, 60, 100))
    given.accept(commands.CancelOrder(user_id="seller", order_id=gone))
    given.accept(commands.ResumeMarket(market_id=MARKET))
    (trade,) = of_kind(given.place("buyer", "buy", 90, 100), TradeExecuted)
    assert trade.quantity_minor == 60


@pytest.mark.parametrize(
    ("market_id", "cancelled"), [(None, [1, 2, 4, 5]), (MARKET, [1, 4]), ("TOK-CNY", [2, 5])]
)
def test_cancelling_all_goes_by_rising_id_through_one_market_or_all(
    market_id: str | None, cancelled: list[int]
) -> None:
    given = funded_traders()
    given.deposit("buyer", "TOK", FUNDS)
    given.accept(market(base_asset="TOK"))
    given.rest("buyer", "buy", 10, 100)
    given.rest("buyer", "sell", 10, 100, market_id="TOK-CNY")
    given.rest("other", "buy", 10, 100)
    given.rest("buyer", "sell", 10, 300)
    given.rest("buyer", "buy", 10, 90, market_id="TOK-CNY")
    command = commands.CancelAllOrders(user_id="buyer", market_id=market_id)
    gone = of_kind(given.accept(command), OrderCancelled)
    assert [order.order_id for order in gone] == cancelled
    assert {order.reason for order in gone} == {"requested"}
    assert given.refuse(command).code == RejectionCode.NO_OPEN_ORDERS
