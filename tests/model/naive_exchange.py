"""Orders, naively: the book is a list that is sorted whenever it is looked at.

A placement is planned on paper first (`plan`), checked, and only then carried out. Holds nothing
itself: the cash book and the open orders are in naive_state.Books.
"""

from dataclasses import dataclass, field
from typing import Literal

from schemas.commands import PlaceOrder
from schemas.events import CancelReason, Side
from tests.model.naive_state import Books, NaiveMarket, NaiveOrder, is_amount

BPS = 10_000
MEETINGS_MAX = 1_000


@dataclass
class Plan:
    """What a taker would do. steps: (what happens to the maker, the maker, quantity).

    stopped: why the rest may not stay. left: still wanted at the end; of a budget order 0.
    """

    steps: list[tuple[Literal["trade", "cancel"], NaiveOrder, int]] = field(default_factory=list)
    stopped: CancelReason | None = None
    left: int = 0

    @property
    def filled(self) -> int:
        return sum(quantity for what, _, quantity in self.steps if what == "trade")

    def cost(self, market: NaiveMarket) -> int:
        trades = [(maker, quantity) for what, maker, quantity in self.steps if what == "trade"]
        return sum(market.quote(maker.price or 0, quantity) for maker, quantity in trades)


def has_bad_amounts(order: PlaceOrder) -> bool:
    given = (order.price_minor, order.quantity_minor, order.quote_budget_minor)
    return not all(amount is None or is_amount(amount) for amount in given)


def has_bad_fields(order: PlaceOrder) -> bool:
    """Field combinations that no order type allows."""
    by_price, by_quantity, by_budget = (
        amount is not None
        for amount in (order.price_minor, order.quantity_minor, order.quote_budget_minor)
    )
    if order.order_type == "limit":
        misses = not by_price or not by_quantity or by_budget
        return misses or (order.post_only and order.time_in_force != "gtc")
    misses = by_price or by_quantity == by_budget
    return misses or order.post_only or (by_budget and order.time_in_force == "fok")


def is_outside_band(market: NaiveMarket, price: int) -> bool:
    band, last = market.rules.band_bps, market.last_price
    if band is None or last is None:
        return False
    return abs(price - last) * BPS > band * last


def worst_price(market: NaiveMarket, order: PlaceOrder) -> int | None:
    """The last price at which the order may trade; None: any."""
    band, last = market.rules.band_bps, market.last_price
    if order.order_type == "limit":
        return order.price_minor
    if band is None or last is None:
        return None
    if order.side == "buy":
        return last * (BPS + band) // BPS
    return max(1, _ceil(last * (BPS - band), BPS))


def would_meet(limit: int | None, side: Side, maker: NaiveOrder) -> bool:
    assert maker.price is not None
    if limit is None:
        return True
    return maker.price <= limit if side == "buy" else maker.price >= limit


def plan(books: Books, market: NaiveMarket, order: PlaceOrder) -> Plan:
    """The walk along the opposite side, without touching anything."""
    limit = worst_price(market, order)
    budget, wanted = order.quote_budget_minor, order.quantity_minor or 0
    walk = Plan(left=wanted)
    for maker in books.queue(market, "sell" if order.side == "buy" else "buy"):
        assert maker.price is not None
        if not would_meet(limit, order.side, maker):
            break
        if budget is None:
            quantity = min(maker.leaves, walk.left)
        else:
            lot = market.spec.lot_minor
            quantity = min(maker.leaves, budget // market.quote(maker.price, lot) * lot)
        if quantity == 0:
            break
        if len(walk.steps) == MEETINGS_MAX:
            walk.stopped = "unfilled"
            break
        if maker.user_id == order.user_id:
            if order.self_trade_prevention != "cancel_newest":
                walk.steps.append(("cancel", maker, 0))
            if order.self_trade_prevention != "cancel_oldest":
                walk.stopped = "self_trade"
                break
            continue
        walk.steps.append(("trade", maker, quantity))
        if budget is None:
            walk.left -= quantity
        else:
            budget -= market.quote(maker.price, quantity)
    return walk


def fee(received: int, bps: int) -> int:
    return _ceil(received * bps, BPS)


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
