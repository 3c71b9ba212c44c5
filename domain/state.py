"""The ledger's state: what all events so far add up to. Changed only by domain.ledger.evolve."""

from domain.accounts import Accounts
from domain.book import Book, Order
from domain.contributions import Contributions
from domain.mining import Mining
from schemas.events import MarketOpened


class Market:
    """spec: as opened. quote_unit: minor base units per whole, divides price x quantity exactly."""

    __slots__ = ("book", "quote_unit", "spec")

    def __init__(self, spec: MarketOpened, base_scale: int) -> None:
        self.spec = spec
        self.quote_unit: int = 10**base_scale
        self.book = Book()

    def quote_minor(self, price_minor: int, quantity_minor: int) -> int:
        """price x quantity in quote minor units; exact for any multiple of tick and lot."""
        quote, remainder = divmod(price_minor * quantity_minor, self.quote_unit)
        assert remainder == 0, (price_minor, quantity_minor)
        return quote

    def burn_minor(self, quantity_minor: int) -> int:
        """Part of a trade's quantity that is burned, rounded down."""
        return quantity_minor * self.spec.burn_bps // 10_000


class LedgerState:
    """Empty until ledger_opened. client_orders: (user_id, client_order_id) -> order_id."""

    __slots__ = (
        "accounts",
        "asset_scales",
        "at_ns",
        "burned_minor",
        "client_orders",
        "contributions",
        "markets",
        "mining",
        "open_accounts",
        "order_id_last",
        "orders",
        "references",
        "trade_id_last",
    )

    def __init__(self) -> None:
        self.at_ns = 0
        self.mining: Mining | None = None
        self.asset_scales: dict[str, int] = {}
        self.accounts = Accounts()
        self.open_accounts: set[str] = set()
        self.references: set[str] = set()
        self.contributions = Contributions()
        self.markets: dict[str, Market] = {}
        self.orders: dict[int, Order] = {}
        self.client_orders: dict[tuple[str, str], int] = {}
        self.burned_minor: dict[str, int] = {}
        self.order_id_last = 0
        self.trade_id_last = 0
