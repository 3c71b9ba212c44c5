"""Whether a taker met the right makers: price-time priority, limits, budgets, self-trade
prevention, and the exact split of each trade.

Follows the events of one placement against a plain sorted list of the orders that rested before it.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

from domain.state import LedgerState
from schemas.events import (
    AssetBurned,
    LedgerEvent,
    MarketOpened,
    MarketRules,
    OrderCancelled,
    OrderPlaced,
    Side,
    TradeExecuted,
)


class Resting(NamedTuple):
    order_id: int
    user_id: str
    price_minor: int
    leaves_minor: int


class MarketBefore(NamedTuple):
    """A market as a taker found it. queues: of resting orders by side, best and oldest first."""

    spec: MarketOpened
    rules: MarketRules
    base_unit: int
    is_halted: bool
    last_price_minor: int | None
    queues: dict[Side, list[Resting]]


def market_before(
    state: LedgerState, market_id: str, *, without: int | None = None
) -> MarketBefore:
    """Copied from the open orders, not from the book. without: the order that makes place."""
    market = state.markets[market_id]
    sides: tuple[tuple[Side, int], ...] = (("buy", -1), ("sell", 1))
    queues = {
        side: sorted(
            (
                Resting(order.order_id, order.user_id, order.price_minor or 0, order.leaves_minor)
                for order in state.orders.values()
                if (order.market_id, order.side) == (market_id, side) and order.order_id != without
            ),
            key=lambda found: (sign * found.price_minor, found.order_id),
        )
        for side, sign in sides
    }
    unit = 10 ** state.asset_scales[market.spec.base_asset]
    last = market.last_price_minor
    return MarketBefore(market.spec, market.rules, unit, market.is_halted, last, queues)


class _Walk:
    """The meetings of one taker, followed event by event."""

    def __init__(self, before: MarketBefore, placed: OrderPlaced) -> None:
        self.before = before
        self.placed = placed
        self.waiting = list(before.queues["sell" if placed.side == "buy" else "buy"])
        self.left = placed.quantity_minor
        self.budget = placed.quote_budget_minor
        self.is_stopped = False

    def wanted_of(self, head: Resting) -> int:
        """How much of an order this taker may still take; 0: none."""
        if not self._is_acceptable(head.price_minor):
            return 0
        if self.budget is None:
            return min(self.left, head.leaves_minor)
        lot = self.before.spec.lot_minor
        lot_cost = Fraction(head.price_minor * lot, self.before.base_unit)
        return min(floor(self.budget / lot_cost) * lot, head.leaves_minor)

    def _is_acceptable(self, price: int) -> bool:
        limit, last = self.placed.price_minor, self.before.last_price_minor
        if limit is not None:
            return price <= limit if self.placed.side == "buy" else price >= limit
        band = self.before.rules.band_bps
        if band is None or last is None:
            return True
        if self.placed.side == "buy":
            return price <= last * (1 + Fraction(band, 10_000))
        return price >= last * (1 - Fraction(band, 10_000))

    def trade(self, event: TradeExecuted) -> None:
        head = self.waiting[0]
        assert (event.maker_order_id, event.price_minor) == (head.order_id, head.price_minor)
        assert event.taker_order_id == self.placed.order_id
        assert head.user_id != self.placed.user_id
        assert event.quantity_minor == self.wanted_of(head) > 0
        rest = head.leaves_minor - event.quantity_minor
        assert event.maker_leaves_minor == rest
        # A maker is met once: of one that is left over, the taker can pay no further lot.
        self.waiting.pop(0)
        self.left -= event.quantity_minor
        if self.budget is not None:
            self.budget -= event.quote_minor
        assert event.taker_leaves_minor == self.left
        _check_split(event, self.before, self.placed)

    def meet_itself(self, event: OrderCancelled) -> None:
        head = self.waiting.pop(0)
        assert (event.order_id, event.leaves_minor) == (head.order_id, head.leaves_minor)
        assert head.user_id == self.placed.user_id
        assert self.wanted_of(head) > 0
        assert self.placed.self_trade_prevention != "cancel_newest"
        self.is_stopped = self.placed.self_trade_prevention == "cancel_both"

    def end(self) -> None:
        """The walk stopped for a reason: nothing is left to take, or the taker met itself."""
        if self.is_stopped or not self.waiting or not self.wanted_of(self.waiting[0]):
            return
        assert self.waiting[0].user_id == self.placed.user_id
        assert self.placed.self_trade_prevention == "cancel_newest"
        self.is_stopped = True


def check_placement(before: MarketBefore, happened: Sequence[LedgerEvent]) -> None:
    """happened: the events of one accepted placement, from order_placed on."""
    placed, *steps = happened
    assert isinstance(placed, OrderPlaced)
    _check_admission(before, placed)
    walk = _Walk(before, placed)
    remainder: OrderCancelled | None = None
    for event in steps:
        assert remainder is None
        match event:
            case TradeExecuted():
                walk.trade(event)
            case OrderCancelled(order_id=placed.order_id):
                remainder = event
            case OrderCancelled():
                walk.meet_itself(event)
            case _:
                assert isinstance(event, AssetBurned)
    walk.end()
    if placed.time_in_force == "fok" or placed.quote_budget_minor is not None:
        assert walk.left == 0
    if placed.post_only or walk.left == placed.quantity_minor:
        assert not any(isinstance(event, TradeExecuted) for event in steps)
    rests = placed.order_type == "limit" and placed.time_in_force == "gtc" and not walk.is_stopped
    if walk.left == 0 or rests:
        assert remainder is None
    else:
        assert remainder is not None
        assert remainder.leaves_minor == walk.left
        assert remainder.reason == ("self_trade" if walk.is_stopped else "unfilled")


def _check_admission(before: MarketBefore, placed: OrderPlaced) -> None:
    rules, price = before.rules, placed.price_minor
    assert not before.is_halted
    assert placed.quantity_minor > 0 == placed.quantity_minor % before.spec.lot_minor
    if price is None:
        assert (placed.quote_budget_minor or rules.min_notional_minor) >= rules.min_notional_minor
        return
    assert price % before.spec.tick_minor == 0
    assert Fraction(price * placed.quantity_minor, before.base_unit) >= rules.min_notional_minor
    if rules.band_bps is not None and before.last_price_minor is not None:
        distance = Fraction(abs(price - before.last_price_minor), before.last_price_minor)
        assert distance <= Fraction(rules.band_bps, 10_000)
    if placed.time_in_force == "gtc":
        others = [
            o for queue in before.queues.values() for o in queue if o.user_id == placed.user_id
        ]
        assert len(others) < rules.open_orders_max


def _check_split(trade: TradeExecuted, before: MarketBefore, placed: OrderPlaced) -> None:
    rules, quantity = before.rules, trade.quantity_minor
    assert trade.quote_minor == Fraction(trade.price_minor * quantity, before.base_unit)
    assert trade.burned_minor == floor(Fraction(quantity * rules.burn_bps, 10_000))
    buys = placed.side == "buy"
    buyer_bps = rules.taker_fee_bps if buys else rules.maker_fee_bps
    seller_bps = rules.maker_fee_bps if buys else rules.taker_fee_bps
    received = quantity - trade.burned_minor
    assert trade.buyer_fee_minor == ceil(Fraction(received * buyer_bps, 10_000))
    assert trade.seller_fee_minor == ceil(Fraction(trade.quote_minor * seller_bps, 10_000))
    refund = Fraction(0)
    if buys and placed.price_minor is not None:
        refund = Fraction((placed.price_minor - trade.price_minor) * quantity, before.base_unit)
    assert trade.refund_minor == refund
