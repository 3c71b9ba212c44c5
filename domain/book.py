"""One market's resting orders: price-time priority, integers only. Knows nothing of funds.

Invariant: the book is never crossed (best bid < best ask) between events of different orders.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator

from schemas.events import Side


class Order:
    """An open order; leaves_minor is the base quantity that has not traded yet, held_minor what it
    holds.
    """

    __slots__ = (
        "held_asset",
        "held_minor",
        "leaves_minor",
        "market_id",
        "order_id",
        "price_minor",
        "side",
        "user_id",
    )

    def __init__(
        self,
        *,
        order_id: int,
        user_id: str,
        market_id: str,
        side: Side,
        price_minor: int | None,
        leaves_minor: int,
        held_asset: str,
        held_minor: int,
    ) -> None:
        self.order_id = order_id
        self.user_id = user_id
        self.market_id = market_id
        self.side = side
        self.price_minor = price_minor
        self.leaves_minor = leaves_minor
        self.held_asset = held_asset
        self.held_minor = held_minor


class BookSide:
    """One side. Levels are kept in a dict per price (first in, first out) and a sorted list of
    prices.

    The list is sorted so that its last element is the best price: asks are stored negated.
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

    def queue(self) -> Iterator[tuple[int, Order]]:
        """(price_minor, order) in the order in which a taker meets them."""
        for rank in reversed(self._ranks):
            price_minor = rank * self._sign
            for order in self._levels[rank].values():
                yield price_minor, order


class Book:
    """Both sides of one market."""

    __slots__ = ("_asks", "_bids")

    def __init__(self) -> None:
        self._bids = BookSide("buy")
        self._asks = BookSide("sell")

    def side(self, side: Side) -> BookSide:
        return self._bids if side == "buy" else self._asks

    def opposite(self, side: Side) -> BookSide:
        return self._asks if side == "buy" else self._bids
