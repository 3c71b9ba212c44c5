"""What the naive model remembers, as plain lists: nothing indexed, nothing kept in step.

A balance is the sum of a list, what is held is recomputed from the open orders. Shares no code with
domain/; commands and rejection codes are data from schemas/.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from schemas.commands import OpenMarket
from schemas.events import MarketRules, SelfTradePrevention, Side
from schemas.rejections import RejectionCode

NANOSECONDS = 10**9
AMOUNT_MAX = 10**36
SECOND_MAX = 2**40
Event = dict[str, Any]


class Refused(Exception):
    """Raised before anything changed; carries the answer."""

    def __init__(self, code: RejectionCode) -> None:
        super().__init__(code.value)
        self.code = code


def refuse_first(**found: bool) -> None:
    """Raise the code that comes first in the table among those whose condition holds."""
    table = list(RejectionCode)
    codes = [RejectionCode(name) for name, applies in found.items() if applies]
    if codes:
        raise Refused(min(codes, key=table.index))


def is_amount(amount: int, least: int = 1) -> bool:
    return least <= amount <= AMOUNT_MAX


def event(kind: str, at_ns: int, **fields: Any) -> Event:
    return {"type": kind, "v": 1, "at_ns": at_ns, **fields}


@dataclass
class NaiveMarket:
    spec: OpenMarket
    rules: MarketRules
    unit: int
    is_halted: bool = False
    trade_prices: list[int] = field(default_factory=list)

    @property
    def last_price(self) -> int | None:
        return self.trade_prices[-1] if self.trade_prices else None

    def quote(self, price: int, quantity: int) -> int:
        value, rest = divmod(price * quantity, self.unit)
        assert rest == 0, (price, quantity)
        return value


@dataclass
class NaiveOrder:
    """price: None for market orders, which never stay open."""

    order_id: int
    user_id: str
    client_order_id: str
    market: NaiveMarket
    side: Side
    price: int | None
    leaves: int
    post_only: bool
    self_trade_prevention: SelfTradePrevention
    placed_second: int
    closed_second: int | None = None

    @property
    def name(self) -> tuple[str, str]:
        return self.user_id, self.client_order_id

    @property
    def held_asset(self) -> str:
        spec = self.market.spec
        return spec.base_asset if self.side == "sell" else spec.quote_asset

    @property
    def held(self) -> int:
        if self.side == "sell":
            return self.leaves
        return 0 if self.price is None else self.market.quote(self.price, self.leaves)


@dataclass
class Entry:
    """One line of a cash book. owner: a user, or one of the ledger's own accounts in brackets."""

    owner: str
    asset_id: str
    amount: int


class Books:
    """The cash book, the open orders and the markets."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], list[Entry]] = {}
        self.orders: list[NaiveOrder] = []
        self.markets: list[NaiveMarket] = []

    def write(self, owner: str, asset_id: str, amount: int) -> None:
        page = self.entries.setdefault((owner, asset_id), [])
        page.append(Entry(owner, asset_id, amount))

    def total(self, owner: str, asset_id: str) -> int:
        return sum(entry.amount for entry in self.entries.get((owner, asset_id), ()))

    def held(self, user_id: str, asset_id: str) -> int:
        mine = (order for order in self.orders if order.user_id == user_id)
        return sum(order.held for order in mine if order.held_asset == asset_id)

    def available(self, user_id: str, asset_id: str) -> int:
        return self.total(user_id, asset_id) - self.held(user_id, asset_id)

    def market(self, market_id: str) -> NaiveMarket | None:
        return next((m for m in self.markets if m.spec.market_id == market_id), None)

    def open_orders(self, user_id: str, market: NaiveMarket | None = None) -> list[NaiveOrder]:
        """By rising order id; market: None means all."""
        mine = [o for o in self.orders if o.user_id == user_id and market in (None, o.market)]
        return sorted(mine, key=lambda order: order.order_id)

    def queue(self, market: NaiveMarket, side: Side) -> list[NaiveOrder]:
        """One side of a market's book, in the order in which a taker meets it."""
        return sorted(self._side(market, side), key=_priority)

    def _side(self, market: NaiveMarket, side: Side) -> Iterator[NaiveOrder]:
        return (o for o in self.orders if o.market is market and o.side == side)


def _priority(order: NaiveOrder) -> tuple[int, int]:
    assert order.price is not None
    return (order.price if order.side == "sell" else -order.price, order.order_id)
