"""The ledger's state: what all events so far add up to. Changed only by domain.ledger.evolve."""

from collections import deque

import msgspec

from domain.accounts import Accounts
from domain.book import Book, Order
from domain.contributions import Contributions
from domain.mining import Mining
from schemas.events import MarketOpened, MarketRules

BPS = 10_000


class Market:
    """spec: as opened. rules: as last configured. last_price_minor: of its newest trade, if any.

    orders: every open order of the market, by user and id, oldest first.
    """

    __slots__ = (
        "base_unit",
        "book",
        "is_halted",
        "last_price_minor",
        "orders",
        "rules",
        "spec",
    )

    def __init__(self, spec: MarketOpened, base_scale: int) -> None:
        self.spec = spec
        self.rules: MarketRules = spec.rules
        self.base_unit: int = 10**base_scale
        self.book = Book()
        self.is_halted = False
        self.last_price_minor: int | None = None
        self.orders: dict[str, dict[int, Order]] = {}

    def quote_minor(self, price_minor: int, quantity_minor: int) -> int:
        """price x quantity in quote minor units; exact for any multiple of tick and lot."""
        quote, remainder = divmod(price_minor * quantity_minor, self.base_unit)
        assert remainder == 0, (price_minor, quantity_minor)
        return quote

    def burn_minor(self, quantity_minor: int) -> int:
        """Part of a trade's quantity that is burned, rounded down."""
        return quantity_minor * self.rules.burn_bps // BPS


class ClientOrder(msgspec.Struct, frozen=True, gc=False):
    """A client's name for an order, remembered since that second."""

    second: int
    user_id: str
    client_order_id: str


class LedgerState:
    """Empty until ledger_opened.

    client_orders: (user_id, client_order_id) -> order_id, for as long as client_order_ages has it.
    references: of deposits and withdrawals, for ever.
    """

    __slots__ = (
        "accounts",
        "asset_scales",
        "at_ns",
        "burned_minor",
        "client_order_ages",
        "client_orders",
        "contributions",
        "frozen_accounts",
        "markets",
        "mining",
        "open_accounts",
        "order_id_last",
        "orders",
        "references",
        "reserve_burn_minor",
        "trade_id_last",
    )

    def __init__(self) -> None:
        self.at_ns = 0
        self.mining: Mining | None = None
        self.asset_scales: dict[str, int] = {}
        self.accounts = Accounts()
        self.open_accounts: set[str] = set()
        self.frozen_accounts: set[str] = set()
        self.references: set[str] = set()
        self.contributions = Contributions()
        self.markets: dict[str, Market] = {}
        self.orders: dict[int, Order] = {}
        self.client_orders: dict[tuple[str, str], int] = {}
        self.client_order_ages: deque[ClientOrder] = deque()
        self.burned_minor: dict[str, int] = {}
        self.reserve_burn_minor = 0
        self.order_id_last = 0
        self.trade_id_last = 0
