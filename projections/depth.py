"""The depth of one market: its resting orders, and their sum by price.

Only limit orders that are good till cancelled rest. One that was just placed and crosses the
other side is taking: its trades follow, so it is kept aside until nothing crosses it any more. So
what is shown is never crossed, wherever the log is cut.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable

import msgspec

from projections.batch import Batch, Publication
from schemas import publications, views
from schemas.events import OrderCancelled, OrderPlaced, OrderReduced, Side, TradeExecuted
from schemas.views import BookOrder, DepthLevel, DepthView, MarketView

encode = msgspec.json.Encoder().encode


class TakingOrder(msgspec.Struct, array_like=True):
    """An order that was just placed and still crosses the book."""

    order_id: int
    order: BookOrder
    cancels_both: bool


class DepthState(msgspec.Struct, kw_only=True):
    """What the resting orders do not tell. position: of the last event that changed them."""

    position: int = 0
    taking: TakingOrder | None = None


class Levels:
    """One side: quantity and number of orders by price. A rank is the price, negated for asks, so
    that the highest rank is the best price.
    """

    __slots__ = ("_best", "_levels", "_ranks", "_shown", "_shown_max", "_sign")

    def __init__(self, side: Side, *, shown_max: int = views.DEPTH_LEVELS_MAX) -> None:
        self._shown_max = shown_max
        self._sign = 1 if side == "buy" else -1
        self._ranks: list[int] = []
        self._levels: dict[int, list[int]] = {}
        # The levels to show, put together when asked for; and those that were shown the last time.
        self._best: tuple[DepthLevel, ...] | None = None
        self._shown: tuple[DepthLevel, ...] = ()

    def add(self, price: int, quantity: int) -> None:
        """One more order at a price."""
        rank = price * self._sign
        level = self._levels.get(rank)
        if level is None:
            self._levels[rank] = [quantity, 1]
            insort(self._ranks, rank)
        else:
            level[0] += quantity
            level[1] += 1
        self._best = None

    def shrink(self, price: int, quantity: int) -> None:
        """An order at a price wants less."""
        self._levels[price * self._sign][0] -= quantity
        self._best = None

    def remove(self, price: int, quantity: int) -> None:
        """An order that still wanted so much is gone from a price."""
        rank = price * self._sign
        level = self._levels[rank]
        level[0] -= quantity
        level[1] -= 1
        if level[1] == 0:
            assert level[0] == 0, (price, level)
            del self._levels[rank]
            del self._ranks[bisect_left(self._ranks, rank)]
        self._best = None

    def crosses(self, price: int) -> bool:
        """Whether an order of the other side with that limit would trade."""
        return bool(self._ranks) and self._ranks[-1] >= price * self._sign

    def best(self) -> tuple[DepthLevel, ...]:
        """The levels to show, best price first."""
        if self._best is None:
            ranks = reversed(self._ranks[-self._shown_max :])
            found = [DepthLevel(rank * self._sign, *self._levels[rank]) for rank in ranks]
            self._best = tuple(found)
        return self._best

    def show(self) -> list[tuple[int, int]]:
        """(price, quantity) of each level that is not as last shown; a quantity of 0: it left."""
        before, best = self._shown, self.best()
        if best is before:
            return []
        self._shown = best
        old = {level.price: level.quantity for level in before}
        new = {level.price: level.quantity for level in best}
        came = [item for item in new.items() if old.get(item[0]) != item[1]]
        return came + [(price, 0) for price in old if price not in new]


class Depth:
    """Folds one market's orders. orders: those that rest, by id."""

    __slots__ = (
        "_asks",
        "_bids",
        "_changed",
        "_is_changed",
        "_new",
        "_orders",
        "_published",
        "_state",
    )

    def __init__(self, state: DepthState, orders: Iterable[tuple[int, BookOrder]] = ()) -> None:
        self._state = state
        self._orders: dict[int, BookOrder] = dict(orders)
        self._bids, self._asks = Levels("buy"), Levels("sell")
        for order in self._orders.values():
            self._side(order.side).add(order.price, order.leaves)
        for side in (self._bids, self._asks):
            side.show()
        self._published = state.position
        self._is_changed = False
        # Since the last drain: orders to write (None: to delete), and which of them are not stored.
        self._changed: dict[int, BookOrder | None] = {}
        self._new: set[int] = set()

    def place(self, event: OrderPlaced, position: int) -> None:
        """Let a new order rest, or keep it aside while it is taking."""
        price = event.price_minor
        if price is None or event.time_in_force != "gtc":
            return
        order = BookOrder(side=event.side, price=price, leaves=event.quantity_minor)
        if not self._opposite(event.side).crosses(price):
            self._rest(event.order_id, order, position)
            return
        cancels_both = event.self_trade_prevention == "cancel_both"
        self._take(TakingOrder(event.order_id, order, cancels_both))

    def trade(self, event: TradeExecuted, position: int) -> None:
        """Take from the maker, and see whether the taker rests now."""
        maker_id, leaves = event.maker_order_id, event.maker_leaves_minor
        if leaves:
            self._shrink(maker_id, leaves, position)
        else:
            self._remove(maker_id, position)
        taking = self._state.taking
        if taking is not None and taking.order_id == event.taker_order_id:
            taking.order.leaves = event.taker_leaves_minor
            self._settle(taking, position)

    def reduce(self, event: OrderReduced, position: int) -> None:
        self._shrink(event.order_id, event.leaves_minor, position)

    def cancel(self, event: OrderCancelled, position: int) -> None:
        """Take an order out, if it rests; the taker may rest after its own maker is gone."""
        if event.order_id in self._orders:
            self._remove(event.order_id, position)
        taking = self._state.taking
        if taking is None:
            return
        own_maker_gone = event.reason == "self_trade" and taking.cancels_both
        if event.order_id == taking.order_id or own_maker_gone:
            # Its own cancellation is, or is sure to be, the end of it.
            self._take(None)
        else:
            self._settle(taking, position)

    def drain(self, batch: Batch, market: MarketView, *, quiet: bool) -> bool:
        """Write the orders and levels that changed; publish the levels, unless quiet.

        Whether the state changed.
        """
        state, market_id = self._state, market.market_id
        place = (views.TRADING_DB, views.book_key(market_id))
        for order_id, order in self._changed.items():
            batch.put_field(place, str(order_id), encode(order) if order else None)
        self._changed.clear()
        self._new.clear()
        changed, self._is_changed = self._is_changed, False
        if state.position == self._published:
            return changed
        bids, asks = self._bids.show(), self._asks.show()
        view = self.view(market_id)
        batch.put((views.TRADING_DB, views.depth_key(market_id)), encode(view))
        previous, self._published = self._published, state.position
        if not quiet:
            change = publications.depth_change(bids, asks, market, previous=previous)
            batch.publish(Publication(f"depth.{market_id}", state.position, encode(change)))
        return True

    def view(self, market_id: str) -> DepthView:
        """Each side's best levels, as they are now."""
        return DepthView(
            market_id=market_id,
            bids=self._bids.best(),
            asks=self._asks.best(),
            position=self._state.position,
        )

    def _settle(self, taking: TakingOrder, position: int) -> None:
        order = taking.order
        if order.leaves == 0:
            self._take(None)
        elif not self._opposite(order.side).crosses(order.price):
            self._take(None)
            self._rest(taking.order_id, order, position)
        else:
            self._take(taking)

    def _take(self, taking: TakingOrder | None) -> None:
        self._state.taking = taking
        self._is_changed = True

    def _rest(self, order_id: int, order: BookOrder, position: int) -> None:
        self._side(order.side).add(order.price, order.leaves)
        self._orders[order_id] = self._changed[order_id] = order
        self._new.add(order_id)
        self._state.position = position

    def _shrink(self, order_id: int, leaves: int, position: int) -> None:
        order = self._orders[order_id]
        self._side(order.side).shrink(order.price, order.leaves - leaves)
        order.leaves = leaves
        self._changed[order_id] = order
        self._state.position = position

    def _remove(self, order_id: int, position: int) -> None:
        order = self._orders.pop(order_id)
        self._side(order.side).remove(order.price, order.leaves)
        if order_id in self._new:
            self._new.remove(order_id)
            del self._changed[order_id]
        else:
            self._changed[order_id] = None
        self._state.position = position

    def _side(self, side: Side) -> Levels:
        return self._bids if side == "buy" else self._asks

    def _opposite(self, side: Side) -> Levels:
        return self._asks if side == "buy" else self._bids
