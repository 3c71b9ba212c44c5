"""One market's resting orders: price-time priority, integers only. Knows nothing of funds.

Invariant: the book is never crossed (best bid < best ask) between events of different commands.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from sys import intern

import msgspec

from schemas.events import OrderPlaced, SelfTradePrevention, Side


class Order(msgspec.Struct, gc=False):
    """An open order. leaves_minor: base quantity that has not traded yet."""

    order_id: int
    user_id: str
    market_id: str
    side: Side
    price_minor: int | None
    leaves_minor: int
    held_asset: str
    held_minor: int
    post_only: bool
    self_trade_prevention: SelfTradePrevention


def placed(event: OrderPlaced) -> Order:
    """The open order that a placement starts."""
    return Order(
        event.order_id,
        intern(event.user_id),
        intern(event.market_id),
        event.side,
        event.price_minor,
        event.quantity_minor,
        intern(event.held_asset),
        event.held_minor,
        event.post_only,
        event.self_trade_prevention,
    )


class BookSide:
    """One side: a queue per price level, and the levels' ranks sorted so that the last is the best.

    A rank is the price, negated for asks.
    """

    __slots__ = ("_levels", "_ranks", "_sign")

    def __init__(self, side: Side) -> None:
        self._sign = 1 if side == "buy" else -1
        self._ranks: list[int] = []
        self._levels: dict[int, dict[int, Order]] = {}

    def add(self, order: Order, price_minor: int) -> None:
        """Put an order last in its level's queue."""
        rank = price_minor * self._sign
        level = self._levels.get(rank)
        if level is None:
            self._levels[rank] = {order.order_id: order}
            insort(self._ranks, rank)
        else:
            level[order.order_id] = order

    def remove(self, order: Order, price_minor: int) -> None:
        """Take an order out, and its level when that was the last."""
        rank = price_minor * self._sign
        level = self._levels[rank]
        del level[order.order_id]
        if not level:
            del self._levels[rank]
            del self._ranks[bisect_left(self._ranks, rank)]

    def best_price_minor(self) -> int | None:
        return self._ranks[-1] * self._sign if self._ranks else None

    def crosses(self, limit_minor: int) -> bool:
        """Whether a taker of this side with that limit would trade."""
        return bool(self._ranks) and self._ranks[-1] >= limit_minor * self._sign

    def queue(self) -> Iterator[tuple[int, Order]]:
        """(price_minor, order) in the order in which a taker meets them."""
        for rank in reversed(self._ranks):
            price_minor = rank * self._sign
            for order in self._levels[rank].values():
                yield price_minor, order

    def levels(self) -> Iterator[tuple[int, list[Order]]]:
        """(price_minor, its orders, oldest first), best price first."""
        for rank in reversed(self._ranks):
            yield rank * self._sign, list(self._levels[rank].values())


class Book:
    """Both sides of one market."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids = BookSide("buy")
        self.asks = BookSide("sell")

    def side(self, side: Side) -> BookSide:
        return self.bids if side == "buy" else self.asks

    def opposite(self, side: Side) -> BookSide:
        return self.asks if side == "buy" else self.bids
