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
from tests.unit.domain.scenario import Scenario, market, of_kind

FUNDS = 1_000_000


def _given(burn_bps: int = 0) -> Scenario:
    """seller, other and buyer with plenty of both assets and an empty book."""
    given = Scenario(burn_bps=burn_bps)
    for user_id in ("seller", "other", "buyer"):
        given.deposit(user_id, "DUR", FUNDS)
        given.deposit(user_id, "CNY", FUNDS)
    return given


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
    given = _given()
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
    given = _given()
    for user_id, leaves, ask in ASKS:
        given.place(user_id, "sell", leaves, ask)
    refused = given.refuse(given.order("buyer", side, quantity, price, "fok"))
    assert refused.code == RejectionCode.WOULD_NOT_FILL
    assert refused.details == {"fillable_minor": fillable}


def test_a_taking_seller_meets_the_highest_bid_first_and_the_oldest_of_equals() -> None:
    given = _given()
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
    given = _given()
    for user_id in ("seller", "other"):
        given.place(user_id, "sell", 100, 100)
    given.place("buyer", "buy", 60, 100)
    happened = given.place("buyer", "buy", 60, 100)
    sold = [(t.seller_id, t.quantity_minor) for t in of_kind(happened, TradeExecuted)]
    assert sold == [("seller", 40), ("other", 20)]


def test_a_better_price_than_the_limit_is_paid_back_at_once() -> None:
    given = _given()
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
    given = _given()
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
    given = _given()
    given.place("buyer", "buy", 100, 100)
    happened = given.place("seller", "sell", 130, None)
    (cancelled,) = of_kind(happened, OrderCancelled)
    assert (cancelled.released_asset, cancelled.released_minor) == ("DUR", 30)
    assert given.balance("seller", "DUR") == (FUNDS - 100, 0)


@pytest.mark.parametrize(("side", "asset_id", "held"), [("buy", "CNY", 90), ("sell", "DUR", 60)])
def test_cancelling_releases_exactly_what_is_still_held(
    side: Side, asset_id: str, held: int
) -> None:
    given = _given()
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
    given = _given(burn_bps)
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
    given = _given(burn_bps=150)
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


def test_a_user_may_trade_with_themself_and_loses_only_the_burn() -> None:
    given = _given(burn_bps=100)
    given.place("buyer", "sell", 200, 100)
    (trade,) = of_kind(given.place("buyer", "buy", 200, 120), TradeExecuted)
    assert trade.buyer_id == trade.seller_id == "buyer"
    assert given.balance("buyer", "DUR") == (FUNDS - 2, 0)
    assert given.balance("buyer", "CNY") == (FUNDS, 0)


def test_an_order_settles_by_itself_what_it_needs_from_mining() -> None:
    given = _given()
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
    given = _given()
    given.grant("seller", 1)
    given.tick(3)
    (placed,) = given.place("seller", "sell", FUNDS, 100)
    assert isinstance(placed, OrderPlaced)


def test_mining_pays_no_order_in_another_asset() -> None:
    given = _given()
    given.grant("miner", 1)
    given.tick(3)
    refused = given.refuse(given.order("miner", "buy", 10, 100))
    assert refused.code == RejectionCode.INSUFFICIENT_FUNDS


def test_markets_do_not_see_each_others_books() -> None:
    given = _given()
    given.accept(market(base_asset="TOK"))
    given.place("seller", "sell", 100, 100)
    in_other = commands.PlaceOrder(
        user_id="buyer", client_order_id="x", market_id="TOK-CNY", side="buy",
        order_type="market", quantity_minor=100,
    )  # fmt: skip
    assert given.refuse(in_other).code == RejectionCode.NO_LIQUIDITY


def test_a_client_order_id_is_unique_per_user_only() -> None:
    given = _given()
    first = given.order("seller", "sell", 10, 100)
    given.accept(first)
    same = commands.PlaceOrder(
        user_id="other", client_order_id=first.client_order_id, market_id=first.market_id,
        side="sell", order_type="limit", price_minor=100, quantity_minor=10,
    )  # fmt: skip
    given.accept(same)
    assert len(given.state.orders) == 2


def test_numbers_beyond_64_bits_stay_exact() -> None:
    given = Scenario(burn_bps=9_999)
    given.deposit("seller", "DUR", 10**30)
    given.deposit("buyer", "CNY", 10**36)
    given.place("seller", "sell", 10**30, 10**8)
    happened = given.place("buyer", "buy", 10**30, 10**8)
    (trade,) = of_kind(happened, TradeExecuted)
    assert (trade.quote_minor, trade.burned_minor) == (10**36, 9_999 * 10**26)
    assert given.balance("buyer", "DUR") == (10**26, 0)
