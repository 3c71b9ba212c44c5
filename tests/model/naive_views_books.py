"""Orders a second time: what each still wants is what was asked for less its trades.

The book is drawn anew after every event of the market, from all orders ever placed in it.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.model.naive_views import Log, Row

LEVELS_MAX = 100


@dataclass(eq=False)
class Order:
    """placed: its event. trades: those of it, oldest first. position: its last event's."""

    placed: Row
    leaves: int
    position: int
    trades: list[Row] = field(default_factory=list)
    is_open: bool = True

    @property
    def may_rest(self) -> bool:
        return (self.placed["order_type"], self.placed["time_in_force"]) == ("limit", "gtc")

    def row(self) -> list[Any]:
        """As its user sees it while it is open."""
        filled = sum(trade["quantity_minor"] for trade in self.trades)
        names = ("order_id", "client_order_id", "market_id", "side", "order_type", "time_in_force")
        return [
            *(self.placed[name] for name in names),
            self.placed["post_only"],
            self.placed["price_minor"],
            filled + self.leaves,
            self.leaves,
            filled,
            sum(trade["quote_minor"] for trade in self.trades),
            self.placed["at_ns"],
            self.position,
            None,
        ]


class Orders:
    """placed: every order so far, oldest first."""

    def __init__(self, log: Log) -> None:
        self.placed: list[Order] = []
        for row in log.rows:
            self.take(row)

    def take(self, row: Row) -> None:
        match row["type"]:
            case "order_placed":
                self.placed.append(Order(row, row["quantity_minor"], row["position"]))
            case "trade_executed":
                for order_id in (row["maker_order_id"], row["taker_order_id"]):
                    order = self._order(order_id)
                    order.trades.append(row)
                    order.leaves -= row["quantity_minor"]
                    order.is_open = order.leaves > 0
                    order.position = row["position"]
            case "order_reduced":
                order = self._order(row["order_id"])
                order.leaves, order.position = row["leaves_minor"], row["position"]
            case "order_cancelled":
                order = self._order(row["order_id"])
                order.is_open, order.position = False, row["position"]
            case _:
                pass

    def _order(self, order_id: int) -> Order:
        return next(o for o in reversed(self.placed) if o.placed["order_id"] == order_id)


def depth(log: Log, market_id: str) -> Row | None:
    """None as long as nothing ever rested."""
    orders, drawn, position = Orders(Log([])), _Book([], []), 0
    here: list[Order] = []
    for row in log.rows:
        orders.take(row)
        if row.get("market_id") != market_id:
            continue
        if row["type"] == "order_placed":
            newest = orders.placed[-1]
            here.append(newest)
        here = [order for order in here if order.is_open]
        book = _resting(here, newest, row) if here else _Book([], [])
        if book != drawn:
            drawn, position = book, row["position"]
    return {"market_id": market_id, **_levels(drawn), "position": position} if position else None


@dataclass
class _Book:
    """(price, order id, leaves) of each resting order."""

    bids: list[tuple[int, int, int]]
    asks: list[tuple[int, int, int]]


def _resting(here: list[Order], newest: Order, last: Row) -> _Book:
    """The newest order is not in the book while it trades: as long as it crosses the other side.

    Nor when it met an order of its own user, both are to be cancelled, and the older one just was.
    """
    resting = [order for order in here if order.may_rest]
    if newest in resting and (_crosses(newest, resting) or _is_doomed(newest, last)):
        resting.remove(newest)
    rows = [
        (o.placed["side"], (o.placed["price_minor"], o.placed["order_id"], o.leaves))
        for o in resting
    ]
    return _Book(
        [row for side, row in rows if side == "buy"], [row for side, row in rows if side == "sell"]
    )


def _crosses(newest: Order, resting: list[Order]) -> bool:
    price, side = newest.placed["price_minor"], newest.placed["side"]
    others = [o.placed["price_minor"] for o in resting if o.placed["side"] != side]
    return any(other <= price if side == "buy" else other >= price for other in others)


def _is_doomed(newest: Order, last: Row) -> bool:
    if newest.placed["self_trade_prevention"] != "cancel_both":
        return False
    return (last["type"], last.get("reason")) == ("order_cancelled", "self_trade")


def _levels(book: _Book) -> Row:
    sides = {"bids": (book.bids, True), "asks": (book.asks, False)}
    levels: Row = {}
    for name, (orders, highest_first) in sides.items():
        rows = []
        for price in sorted({price for price, _, _ in orders}, reverse=highest_first):
            here = [leaves for at, _, leaves in orders if at == price]
            rows.append([price, sum(here), len(here)])
        levels[name] = rows[:LEVELS_MAX]
    return levels
