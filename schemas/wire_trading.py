"""Wire shapes of the trading service that schemas.wire does not have: orders as they stand, fills,
transactions, depth.

Amounts are decimal strings in whole units, times Unix milliseconds, as everywhere on the wire.
"""

import enum
from typing import Literal

import msgspec

from schemas.events import CancelReason, OrderType, Side, TimeInForce
from schemas.wire import CancelResult, OrderResult, OrderStatus, RequestBody
from schemas.wire_values import Amount, OwnId, UserRef


class OrderState(enum.StrEnum):
    """Which orders of a list are wanted."""

    OPEN = "open"
    CLOSED = "closed"
    ALL = "all"


class ReplaceOrderBody(RequestBody, frozen=True, kw_only=True):
    """A resting order's new price and the quantity that it shall still want.

    client_order_id: of the order that takes its place, if one does; the Idempotency-Key if absent.
    """

    price: Amount
    quantity: Amount
    client_order_id: OwnId | None = None
    user_id: UserRef | None = None


class ReplaceResult(msgspec.Struct, frozen=True, kw_only=True):
    """kept_place: the order shrank and keeps its id and its place in the queue; order is null then.

    Otherwise replaced_order_id is over and `order` is what became of the one in its place.
    released of released_asset went back to available from the order that was there.
    """

    replaced_order_id: int
    kept_place: bool
    leaves_quantity: str
    released_asset: str
    released: str
    order: OrderResult | None
    position: int


class CancelAllResult(msgspec.Struct, frozen=True, kw_only=True):
    """items: by order id."""

    items: tuple[CancelResult, ...]
    position: int


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One trade from the side of one of its two users.

    fee: of fee_asset, taken out of what the side received. burned: of the trade's quantity, in base
    units; the buyer received quantity less burned and fee.
    """

    trade_id: int
    order_id: int
    market: str
    side: Side
    role: Literal["maker", "taker"]
    time: int
    price: str
    quantity: str
    quote_quantity: str
    fee: str
    fee_asset: str
    burned: str
    position: int


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One order as it stands.

    quantity: filled and leaves together, so it falls when the order is shrunk. price: null of
    market orders. time: of its placement. position: of the last event that changed it.
    cancel_reason: why it ended, of cancelled ones. average_price: as in the answer to the order.
    """

    order_id: int
    client_order_id: str
    market: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    post_only: bool
    status: OrderStatus
    cancel_reason: CancelReason | None
    price: str | None
    quantity: str
    filled_quantity: str
    leaves_quantity: str
    filled_quote: str
    average_price: str | None
    time: int
    position: int


class OrderWithFills(msgspec.Struct, frozen=True, kw_only=True):
    """fills: the newest 1,000, oldest first."""

    user_id: str
    order: Order
    fills: tuple[Fill, ...]


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a user's balance of one asset; an event may make two, one for each asset.

    type: of the event. available, held: what was added to either, negative if taken away.
    order_id: the user's own order, of trades too. price, quantity, burned: of trades only.
    """

    position: int
    time: int
    type: str
    asset: str
    available: str
    held: str
    market: str | None
    order_id: int | None
    trade_id: int | None
    reference: str | None
    price: str | None
    quantity: str | None
    burned: str | None


class MarketDepth(msgspec.Struct, frozen=True, kw_only=True):
    """The best levels of each side as [price, quantity], best first.

    position: of the last event that changed the book.
    """

    market: str
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]
    position: int


class BurnTotal(msgspec.Struct, frozen=True, kw_only=True):
    """What was ever burned of an asset: total is by_trades and by_reserve together.

    position: of its last burn, 0 if there was none.
    """

    asset: str
    total: str
    by_trades: str
    by_reserve: str
    position: int
