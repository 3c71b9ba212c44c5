"""What ours is held against: the obvious way to do it, and the fastest known one if it is there.

Both matchers only match: no funds, no fees, no burns, no events. liquibook (C++, PyPI) is no
dependency of ours; whoever has it installed gets its row.
"""

import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any

from ops.bench.order_mix import ANY_PRICE, Place, Step


class ListMatcher:
    """Two plain lists; the best order is searched each time, as is one to be cancelled."""

    def __init__(self) -> None:
        # Bids, then asks: [order_id, ticks, lots] each, in order of arrival.
        self._sides: tuple[list[list[int]], list[list[int]]] = ([], [])
        self.fills = 0

    def place(self, order: Place) -> None:
        sign = 1 if order.is_buy else -1
        others, lots = self._sides[order.is_buy], order.lots
        while lots and others:
            best = min(others, key=lambda other: (other[1] * sign, other[0]))
            if order.ticks != ANY_PRICE and best[1] * sign > order.ticks * sign:
                break
            quantity = min(lots, best[2])
            lots -= quantity
            best[2] -= quantity
            self.fills += 1
            if best[2] == 0:
                others.remove(best)
        if lots and order.time_in_force == "gtc":
            self._sides[not order.is_buy].append([order.order_id, order.ticks, lots])

    def cancel(self, order_id: int) -> None:
        for orders in self._sides:
            for order in orders:
                if order[0] == order_id:
                    orders.remove(order)
                    return


class LiquibookMatcher:
    """The same calls on liquibook's depth book, fills told to a listener."""

    def __init__(self) -> None:
        library: Any = importlib.import_module("liquibook")
        counted = [0]

        class Fills(library.OrderListener):  # type: ignore[misc]  # the library has no types
            def on_fill(self, *_: object) -> None:
                counted[0] += 1

            def _ignore(self, *_: object) -> None:
                """The library insists on an answer to each of its calls."""

            on_accept = on_reject = on_cancel = on_cancel_reject = _ignore
            on_replace = on_replace_reject = _ignore

        self._library = library
        self._listener = Fills()  # the book keeps no reference
        self._counted = counted
        self._conditions = {
            "gtc": library.oc_no_conditions,
            "ioc": library.oc_immediate_or_cancel,
            "fok": library.oc_fill_or_kill,
        }
        self._book = library.DepthOrderBook()
        self._book.set_order_listener(self._listener)
        self._orders: dict[int, Any] = {}

    @property
    def fills(self) -> int:
        return self._counted[0]

    def place(self, order: Place) -> None:
        added = self._library.SimpleOrder(order.is_buy, order.ticks, order.lots)
        self._orders[order.order_id] = added
        self._book.add(added, self._conditions[order.time_in_force])

    def cancel(self, order_id: int) -> None:
        order = self._orders.pop(order_id, None)
        if order is not None:
            self._book.cancel(order)


Matcher = ListMatcher | LiquibookMatcher


def has_liquibook() -> bool:
    return importlib.util.find_spec("liquibook") is not None


def match(matcher: Matcher, steps: Iterable[Step]) -> None:
    """Send steps to a matcher, one after another."""
    for step in steps:
        if isinstance(step, Place):
            matcher.place(step)
        else:
            matcher.cancel(step)


def split_by_rows(balances: list[int], weights: list[int], reward_minor: int) -> int:
    """One second's reward, user by user, rounded down; the dust that is left."""
    weight_total = sum(weights)
    left = reward_minor
    for user, weight in enumerate(weights):
        amount = reward_minor * weight // weight_total
        balances[user] += amount
        left -= amount
    return left
