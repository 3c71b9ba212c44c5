"""Depth: what rests and what only takes, levels by price, what a batch writes and publishes."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from projections.batch import Batch
from projections.depth import Depth, DepthState, Levels
from schemas import views
from schemas.events import (
    OrderCancelled,
    OrderPlaced,
    OrderReduced,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TradeExecuted,
)
from schemas.publications import DepthChange
from schemas.views import BookOrder, DepthLevel, DepthView, MarketView
from tests.fixtures.ledger_logs import MARKET, trade_event

VIEW = MarketView(
    market_id=MARKET, base_asset="DUR", quote_asset="CNY", base_scale=2, quote_scale=1,
    tick_minor=1, lot_minor=1, burn_bps=0,
)  # fmt: skip
BOOK = (views.TRADING_DB, views.book_key(MARKET))
DEPTH = (views.TRADING_DB, views.depth_key(MARKET))


def _placed(
    order_id: int,
    side: Side,
    price: int | None,
    quantity: int,
    *,
    time_in_force: TimeInForce = "gtc",
    prevention: SelfTradePrevention = "cancel_newest",
) -> OrderPlaced:
    return OrderPlaced(
        at_ns=0, order_id=order_id, client_order_id="", user_id="u", market_id=MARKET, side=side,
        order_type="market" if price is None else "limit", time_in_force=time_in_force,
        post_only=False, self_trade_prevention=prevention, price_minor=price,
        quantity_minor=quantity, quote_budget_minor=None, held_asset="", held_minor=0,
    )  # fmt: skip


def _traded(taker: int, maker: int, *, taker_leaves: int, maker_leaves: int) -> TradeExecuted:
    return msgspec.structs.replace(
        trade_event(second=0, price=1, quantity=1),
        taker_order_id=taker,
        maker_order_id=maker,
        taker_leaves_minor=taker_leaves,
        maker_leaves_minor=maker_leaves,
    )


def _cancelled(order_id: int, reason: str = "requested") -> OrderCancelled:
    return OrderCancelled(
        at_ns=0, order_id=order_id, user_id="u", market_id=MARKET,
        reason=reason, leaves_minor=0, released_asset="", released_minor=0,  # type: ignore[arg-type]
    )  # fmt: skip


def _reduced(order_id: int, leaves: int) -> OrderReduced:
    return OrderReduced(
        at_ns=0, order_id=order_id, user_id="u", market_id=MARKET, leaves_minor=leaves,
        released_asset="", released_minor=0,
    )  # fmt: skip


def _drained(depth: Depth) -> tuple[Batch, bool]:
    batch = Batch()
    return batch, depth.drain(batch, VIEW, quiet=False)


def _book() -> Depth:
    """Bids of 100 at 10 (two orders) and 99, asks at 12 and 13."""
    depth = Depth(DepthState())
    for position, order in enumerate(
        (
            _placed(1, "buy", 100, 10),
            _placed(2, "buy", 100, 5),
            _placed(3, "buy", 99, 7),
            _placed(4, "sell", 120, 4),
            _placed(5, "sell", 130, 6),
        ),
        1,
    ):
        depth.place(order, position)
    return depth


def _shown(depth: Depth) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int]:
    view = depth.view(MARKET)
    bids, asks = (
        [(level.price, level.quantity) for level in side] for side in (view.bids, view.asks)
    )
    return bids, asks, view.position


def test_levels_sum_their_orders_best_first() -> None:
    assert _book().view(MARKET) == DepthView(
        market_id=MARKET,
        bids=(DepthLevel(100, 15, 2), DepthLevel(99, 7, 1)),
        asks=(DepthLevel(120, 4, 1), DepthLevel(130, 6, 1)),
        position=5,
    )


def test_market_ioc_and_fok_orders_never_rest() -> None:
    depth = _book()
    depth.place(_placed(6, "buy", None, 9, time_in_force="ioc"), 6)
    depth.place(_placed(7, "buy", 110, 9, time_in_force="ioc"), 7)
    depth.place(_placed(8, "buy", 110, 9, time_in_force="fok"), 8)
    depth.cancel(_cancelled(7), 9)
    assert _shown(depth)[2] == 5


def test_taking_order_is_shown_when_it_crosses_nothing_any_more() -> None:
    depth = _book()
    depth.place(_placed(6, "buy", 125, 9), 6)
    assert _shown(depth) == ([(100, 15), (99, 7)], [(120, 4), (130, 6)], 5)
    depth.trade(_traded(6, 4, taker_leaves=5, maker_leaves=0), 7)
    assert _shown(depth) == ([(125, 5), (100, 15), (99, 7)], [(130, 6)], 7)


def test_taking_order_that_still_crosses_stays_aside() -> None:
    depth = _book()
    depth.place(_placed(6, "sell", 99, 30), 6)
    depth.trade(_traded(6, 1, taker_leaves=20, maker_leaves=0), 7)
    assert _shown(depth)[0] == [(100, 5), (99, 7)]
    assert _shown(depth)[1] == [(120, 4), (130, 6)]
    # It met its limit of matches: the rest is cancelled, and was never in the book.
    depth.cancel(_cancelled(6, "unfilled"), 8)
    assert _shown(depth) == ([(100, 5), (99, 7)], [(120, 4), (130, 6)], 7)
    assert _drained(depth)[1]


def test_filled_taker_leaves_nothing() -> None:
    depth = _book()
    depth.place(_placed(6, "buy", 120, 4), 6)
    depth.trade(_traded(6, 4, taker_leaves=0, maker_leaves=0), 7)
    assert _shown(depth) == ([(100, 15), (99, 7)], [(130, 6)], 7)


def test_maker_that_trades_in_part_keeps_its_place() -> None:
    depth = _book()
    depth.trade(_traded(99, 1, taker_leaves=0, maker_leaves=3), 6)
    assert _shown(depth)[0] == [(100, 8), (99, 7)]


def test_taker_rests_after_its_own_makers_are_cancelled() -> None:
    depth = _book()
    depth.place(_placed(6, "buy", 130, 9, prevention="cancel_oldest"), 6)
    depth.cancel(_cancelled(4, "self_trade"), 7)
    assert _shown(depth)[0] == [(100, 15), (99, 7)]
    depth.cancel(_cancelled(5, "self_trade"), 8)
    assert _shown(depth) == ([(130, 9), (100, 15), (99, 7)], [], 8)


def test_taker_that_ends_with_its_own_maker_is_never_shown() -> None:
    depth = _book()
    depth.place(_placed(6, "buy", 120, 9, prevention="cancel_both"), 6)
    depth.cancel(_cancelled(4, "self_trade"), 7)
    assert _shown(depth) == ([(100, 15), (99, 7)], [(130, 6)], 7)
    depth.cancel(_cancelled(6, "self_trade"), 8)
    assert _shown(depth)[2] == 7


def test_reduced_and_cancelled_orders_leave_their_level() -> None:
    depth = _book()
    depth.reduce(_reduced(1, 2), 6)
    assert _shown(depth)[0] == [(100, 7), (99, 7)]
    depth.cancel(_cancelled(3), 7)
    assert _shown(depth) == ([(100, 7)], [(120, 4), (130, 6)], 7)


def test_a_batch_writes_only_the_orders_that_changed() -> None:
    depth = _book()
    batch, changed = _drained(depth)
    assert changed
    assert batch.fields[BOOK]["1"] == b'["buy",100,10]'
    assert sorted(batch.fields[BOOK]) == ["1", "2", "3", "4", "5"]
    depth.reduce(_reduced(2, 1), 6)
    depth.cancel(_cancelled(3), 7)
    depth.place(_placed(6, "buy", 98, 1), 8)
    depth.cancel(_cancelled(6), 9)
    batch, changed = _drained(depth)
    assert batch.fields[BOOK] == {"2": b'["buy",100,1]', "3": None}
    batch, changed = _drained(depth)
    assert not (changed or batch.fields or batch.strings or batch.publications)


def test_one_publication_a_batch_names_the_changed_levels_and_the_one_before() -> None:
    depth = _book()
    (first,) = _drained(depth)[0].publications
    assert (first.channel, first.offset) == (f"depth.{MARKET}", 5)
    change = msgspec.json.decode(first.data, type=DepthChange)
    assert change.previous == 0
    assert change.bids == (("10.0", "0.15"), ("9.9", "0.07"))
    depth.cancel(_cancelled(3), 6)
    depth.place(_placed(6, "buy", 101, 20), 9)
    (second,) = _drained(depth)[0].publications
    change = msgspec.json.decode(second.data, type=DepthChange)
    assert (change.previous, second.offset) == (5, 9)
    assert (change.bids, change.asks) == ((("10.1", "0.20"), ("9.9", "0")), ())


def test_quiet_depth_writes_all_the_same() -> None:
    loud, quiet = Batch(), Batch()
    _book().drain(loud, VIEW, quiet=False)
    _book().drain(quiet, VIEW, quiet=True)
    assert quiet.publications == []
    assert (quiet.strings, quiet.fields) == (loud.strings, loud.fields)


def test_a_restored_book_goes_on_where_it_was() -> None:
    depth = _book()
    state = DepthState(position=5)
    rows = [
        (int(order_id), msgspec.json.decode(row, type=BookOrder))
        for order_id, row in _drained(depth)[0].fields[BOOK].items()
        if row
    ]
    restored = Depth(state, rows)
    assert not _drained(restored)[1]
    for book in (depth, restored):
        book.cancel(_cancelled(4), 6)
    assert _drained(depth)[0].publications == _drained(restored)[0].publications


def test_an_order_that_is_still_taking_survives_a_restart() -> None:
    depth = Depth(state := DepthState())
    depth.place(_placed(1, "sell", 120, 4), 1)
    _drained(depth)
    depth.place(_placed(2, "buy", 120, 9), 2)
    batch, changed = _drained(depth)
    assert changed
    assert DEPTH not in batch.strings
    stored = msgspec.json.decode(msgspec.json.encode(state), type=DepthState)
    restored = Depth(stored, [(1, BookOrder(side="sell", price=120, leaves=4))])
    restored.trade(_traded(2, 1, taker_leaves=5, maker_leaves=0), 3)
    assert _shown(restored) == ([(120, 5)], [], 3)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 3)), max_size=60), st.integers(1, 5))
def test_levels_that_move_in_or_out_of_sight_are_in_the_changes(
    orders: list[tuple[int, int]], cut: int
) -> None:
    """Only three levels are shown; what was placed is taken out again from the oldest on."""
    levels, client = Levels("buy", shown_max=3), dict[int, int]()
    steps = [(price, quantity, True) for price, quantity in orders]
    steps += [(price, quantity, False) for price, quantity in orders]
    for number, (price, quantity, is_new) in enumerate(steps, 1):
        (levels.add if is_new else levels.remove)(price, quantity)
        if number % cut == 0:
            for changed, left in levels.show():
                client[changed] = left
                if left == 0:
                    del client[changed]
            assert client == {level.price: level.quantity for level in levels.best()}
            assert len(client) <= 3
