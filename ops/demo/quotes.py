"""What market makers want on the book: a fair price that wanders, and a ladder of orders around it.

Pure but for the random numbers it is given: time and the market's steps come as arguments.
"""

import math
import random
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec

from schemas.events import Side

LEVELS = 5
SPREAD_FIRST = Decimal("0.0004")
SPREAD_STEP = Decimal("0.0007")
TOLERANCE_FIRST = Decimal("0.0004")
LIFE_FIRST_S = 3.0
QUANTITY_FIRST = Decimal(4)
QUANTITY_STEP = Decimal(3)

VOLATILITY = 0.0008
TREND_SPREAD = 0.00015
TREND_SECONDS = (20.0, 90.0)
PULL = 0.0004
STEP_SECONDS_MAX = 5.0


class FairPrice:
    """A random walk of the price's logarithm with trends that change, pulled back to an anchor.

    The pull keeps a demo that runs for weeks within a few tens of percent of where it began.
    """

    def __init__(self, rng: random.Random, *, anchor: Decimal, last: Decimal, now_s: float) -> None:
        self._rng = rng
        self._anchor = math.log(anchor)
        self._log = math.log(last)
        self._at_s = now_s
        self._trend = 0.0
        self._trend_until_s = now_s

    def at(self, now_s: float) -> Decimal:
        """The price now; now_s: any clock in seconds that does not go back."""
        # After a pause the market goes on from where it was instead of leaping.
        passed_s = min(now_s - self._at_s, STEP_SECONDS_MAX)
        self._at_s = now_s
        if now_s >= self._trend_until_s:
            self._trend = self._rng.gauss(0.0, TREND_SPREAD)
            self._trend_until_s = now_s + self._rng.uniform(*TREND_SECONDS)
        shock = self._rng.gauss(0.0, VOLATILITY) * math.sqrt(passed_s)
        drift = self._trend + PULL * (self._anchor - self._log)
        self._log += shock + drift * passed_s
        return Decimal(repr(math.exp(self._log)))

    def mood(self) -> float:
        """How likely a taker is to buy, 0.35 to 0.65: trends are made by those who follow them."""
        return 0.5 + max(-0.15, min(0.15, self._trend / TREND_SPREAD * 0.08))


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """One order of a maker. order_id: None until the ledger has answered; placed_s: monotonic."""

    client_order_id: str
    side: Side
    level: int
    price: Decimal
    quantity: Decimal
    order_id: int | None = None
    placed_s: float = 0.0


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a maker's ladder and what should stand there."""

    side: Side
    level: int
    price: Decimal
    quantity: Decimal


def floor_to(amount: Decimal, step: Decimal) -> Decimal:
    """The highest multiple of step that is not above amount, with step's decimals."""
    return (amount / step).to_integral_value(ROUND_FLOOR) * step


def ceil_to(amount: Decimal, step: Decimal) -> Decimal:
    return (amount / step).to_integral_value(ROUND_CEILING) * step


def ladder(
    fair: Decimal, *, tick: Decimal, lot: Decimal, rng: random.Random, levels: int = LEVELS
) -> list[Slot]:
    """Bids and asks around a fair price, never crossed, larger the further away they are."""
    slots = []
    for level in range(levels):
        away = SPREAD_FIRST + SPREAD_STEP * level
        size = (QUANTITY_FIRST + QUANTITY_STEP * level) * Decimal(repr(rng.uniform(0.5, 1.5)))
        quantity = max(floor_to(size, lot), lot)
        bid = max(floor_to(fair * (1 - away), tick), tick)
        ask = max(ceil_to(fair * (1 + away), tick), bid + tick)
        slots.append(Slot(side="buy", level=level, price=bid, quantity=quantity))
        slots.append(Slot(side="sell", level=level, price=ask, quantity=quantity))
    return slots


def is_stale(quote: Quote, slot: Slot, now_s: float) -> bool:
    """Whether an order is to be replaced: too old, or too far from where it should stand.

    Old ones may have been filled meanwhile, which a maker only learns when it cancels them.
    """
    if now_s - quote.placed_s > LIFE_FIRST_S * (1 + quote.level):
        return True
    tolerance = slot.price * TOLERANCE_FIRST * (1 + quote.level)
    return abs(quote.price - slot.price) > tolerance


def replacements(
    quotes: Sequence[Quote], slots: Sequence[Slot], now_s: float
) -> tuple[list[Quote], list[Slot]]:
    """Quotes to cancel, and slots to fill afterwards, so that each slot has one fresh quote."""
    standing = {(quote.side, quote.level): quote for quote in quotes}
    wanted = {(slot.side, slot.level): slot for slot in slots}
    stale = [
        quote
        for place, quote in standing.items()
        if place not in wanted or is_stale(quote, wanted[place], now_s)
    ]
    kept = {(quote.side, quote.level) for quote in quotes} - {(q.side, q.level) for q in stale}
    return stale, [slot for place, slot in wanted.items() if place not in kept]
