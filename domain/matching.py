"""What a taker meets in the book: which makers, how much of each, and what self-trade prevention
does.

Reads the book, changes nothing. The taker's mode rules; a maker it must not meet is cancelled or
ends the walk, or both.
"""

import msgspec

from domain.book import Order
from domain.state import BPS, Market
from schemas.events import CancelReason, SelfTradePrevention, Side

# One order meets at most so many resting ones: a batch, a frame and an answer stay bounded.
STEPS_MAX = 1_000


class Fill(msgspec.Struct, frozen=True, gc=False):
    """One meeting of the taker with a maker, at the maker's price."""

    maker: Order
    price_minor: int
    quantity_minor: int


class Walk(msgspec.Struct, frozen=True, gc=False):
    """steps: fills and, for self-trade prevention, makers to cancel, in the order of the book.

    stopped: why the taker must not go on, whatever it still wants; None: it may rest.
    """

    steps: tuple[Fill | Order, ...]
    filled_minor: int
    stopped: CancelReason | None

    def fills(self) -> list[Fill]:
        return [step for step in self.steps if isinstance(step, Fill)]


class Taker(msgspec.Struct, frozen=True, gc=False):
    """quantity_minor or quote_budget_minor is None. limit_minor: worst price; None: any."""

    user_id: str
    side: Side
    limit_minor: int | None
    quantity_minor: int | None
    quote_budget_minor: int | None
    prevention: SelfTradePrevention


NO_WALK = Walk((), 0, None)


def walk(market: Market, taker: Taker) -> Walk:
    """Meet makers until the taker has enough, its limit or budget ends, or it meets itself."""
    opposite = market.book.opposite(taker.side)
    if taker.limit_minor is not None and not opposite.crosses(taker.limit_minor):
        return NO_WALK
    steps: list[Fill | Order] = []
    leaves, budget, filled = taker.quantity_minor, taker.quote_budget_minor, 0
    sign = 1 if taker.side == "buy" else -1
    worst = None if taker.limit_minor is None else taker.limit_minor * sign
    for price_minor, maker in opposite.queue():
        if leaves == 0 or (worst is not None and price_minor * sign > worst):
            break
        if len(steps) == STEPS_MAX:
            return Walk(tuple(steps), filled, "unfilled")
        quantity = maker.leaves_minor
        if leaves is not None and leaves < quantity:
            quantity = leaves
        if budget is not None:
            quantity = min(quantity, _affordable(market, price_minor, budget))
            if quantity == 0:
                break
        if maker.user_id == taker.user_id:
            if taker.prevention != "cancel_newest":
                steps.append(maker)
            if taker.prevention != "cancel_oldest":
                return Walk(tuple(steps), filled, "self_trade")
            continue
        steps.append(Fill(maker, price_minor, quantity))
        filled += quantity
        if leaves is not None:
            leaves -= quantity
        if budget is not None:
            budget -= market.quote_minor(price_minor, quantity)
    return Walk(tuple(steps), filled, None)


def _affordable(market: Market, price_minor: int, budget_minor: int) -> int:
    """Whole lots that a quote budget covers at a price, in base minor units."""
    lot = market.spec.lot_minor
    return budget_minor // market.quote_minor(price_minor, lot) * lot


def is_outside_band(market: Market, price_minor: int) -> bool:
    """Whether a limit price is too far from the last trade's, on either side."""
    last, band = market.last_price_minor, market.rules.band_bps
    if last is None or band is None:
        return False
    return abs(price_minor - last) * BPS > band * last


def band_edge_minor(market: Market, side: Side) -> int | None:
    """The worst price at which a market order may trade; None: any."""
    last, band = market.last_price_minor, market.rules.band_bps
    if last is None or band is None:
        return None
    if side == "buy":
        return last * (BPS + band) // BPS
    return max(-(-last * (BPS - band) // BPS), 1)
