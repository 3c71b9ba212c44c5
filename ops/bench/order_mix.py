"""A market's day in small: an open ledger with resting orders, and the orders that then arrive.

The stream is drawn once, from a seed, against a state that lives through it; a run then sends the
same commands to a fresh copy of the state they start from, so drawing costs no run any time.
"""

import random
from collections.abc import Callable

import msgspec

from domain.book import Order
from domain.ledger import decide, evolve, tick
from domain.mining import SECOND_NS
from domain.snapshot import dump
from domain.state import LedgerState
from schemas.codecs import encode_event
from schemas.commands import (
    CancelOrder,
    DepositFunds,
    GrantContribution,
    LedgerCommand,
    OpenLedger,
    PlaceOrder,
    ReplaceOrder,
)
from schemas.events import (
    LedgerEvent,
    MarketRules,
    OrderCancelled,
    OrderPlaced,
    Side,
    TimeInForce,
    TradeExecuted,
)
from schemas.genesis import Genesis
from schemas.rejections import Rejection
from schemas.snapshots import LedgerSnapshot, OrderRow

GENESIS_SECOND = 1_700_000_000
NOW_NS = GENESIS_SECOND * SECOND_NS
MARKET = "DUR-CNY"
RULES = MarketRules(burn_bps=10, maker_fee_bps=10, taker_fee_bps=20, open_orders_max=10_000)
FUNDS_MINOR = 10**16
TICK = LOT = 10_000
MID_TICKS = 100_000
DEPTH_TICKS = 500
AGGRESSION_TICKS = 50
LOTS_MAX = 100_000
POST_ONLY_SHARE = 0.2
ANY_PRICE = 0

SHARES = {
    "limit gtc, passive": 45,
    "limit gtc, marketable": 5,
    "limit ioc": 7,
    "limit fok": 1,
    "market by quantity": 4,
    "market by budget": 1,
    "cancel": 33,
    "replace by less": 2,
    "replace anew": 2,
}
"""Percent of the commands of a stream."""


class Place(msgspec.Struct, frozen=True):
    """An order as a bare matcher sees it. ticks: ANY_PRICE for a market order."""

    order_id: int
    is_buy: bool
    ticks: int
    lots: int
    time_in_force: TimeInForce


Step = Place | int
"""What a bare matcher is told: an order, or the id of one to cancel."""


class OrderStream(msgspec.Struct, frozen=True):
    """start: before the first command. commands: as JSON, as they arrive.

    log: stored payloads of what they led to. start_steps, steps: the same orders for a bare
    matcher; what was refused is left out.
    """

    start: LedgerSnapshot
    commands: bytes
    count: int
    start_steps: list[Step]
    steps: list[Step]
    log: list[bytes]
    notes: tuple[str, ...]


decode_commands = msgspec.json.Decoder(list[LedgerCommand]).decode


def apply_command(state: LedgerState, command: LedgerCommand) -> tuple[LedgerEvent, ...]:
    """The events of one command, evolved; none if it is refused."""
    decided = decide(command, state, max(NOW_NS, state.at_ns))
    if isinstance(decided, Rejection):
        return ()
    for event in decided:
        evolve(state, event)
    return decided


def opening(genesis_second: int = GENESIS_SECOND) -> tuple[LedgerCommand, LedgerCommand]:
    """The default genesis with fees in its market."""
    genesis = Genesis()
    ledger = OpenLedger(
        genesis_second=genesis_second,
        mined_asset=genesis.mined_asset,
        pool_minor=genesis.pool_minor,
        assets=genesis.assets,
        emission=genesis.emission,
    )
    return ledger, msgspec.structs.replace(genesis.markets[0], rules=RULES)


def open_ledger() -> LedgerState:
    """A ledger of that genesis at its first second."""
    state = LedgerState()
    for command in opening():
        assert apply_command(state, command), command
    tick(state, GENESIS_SECOND)
    return state


def user_name(number: int) -> str:
    return f"user-{number:07}"


def funding(users: int, first: int = 0) -> list[LedgerCommand]:
    """A deposit of each asset for each user; first: number of the first one."""
    return [
        DepositFunds(
            user_id=user_name(number),
            asset_id=asset_id,
            amount_minor=FUNDS_MINOR,
            reference=f"{asset_id}-{number}",
        )
        for number in range(first, first + users)
        for asset_id in ("DUR", "CNY")
    ]


def granting(users: int, first: int = 0) -> list[LedgerCommand]:
    """One contribution for each of these users."""
    return [
        GrantContribution(
            user_id=user_name(number), grant_id="g", source="bench", weight=1_000 + number % 997
        )
        for number in range(first, first + users)
    ]


class OrderDesk:
    """Draws commands for a state that it takes through them.

    Open orders are picked evenly: the last takes the place of the one that is found closed.
    """

    def __init__(self, state: LedgerState, users: int, seed: int, first: int = 0) -> None:
        self.state = state
        self.random = random.Random(seed)
        self._users = [user_name(number) for number in range(first, first + users)]
        self._placed: list[int] = list(state.orders)
        self._names = 0

    def draw(self, kind: str) -> LedgerCommand:
        """One command; the kinds are those of SHARES."""
        if kind in ("cancel", "replace by less", "replace anew"):
            return self._change(kind)
        return self._place(kind)

    def send(self, command: LedgerCommand) -> tuple[LedgerEvent, ...]:
        happened = apply_command(self.state, command)
        for event in happened:
            if isinstance(event, OrderPlaced):
                self._placed.append(event.order_id)
        return happened

    def rest(self, orders: int) -> list[LedgerEvent]:
        """Place passive orders until so many are open; the events of that."""
        log: list[LedgerEvent] = []
        while len(self.state.orders) < orders:
            log += self.send(self.draw("limit gtc, passive"))
        return log

    def _place(self, kind: str) -> PlaceOrder:
        draw = self.random
        side: Side = draw.choice(("buy", "sell"))
        lots = draw.randint(1, LOTS_MAX)
        price: int | None = self._price(side, passive="passive" in kind) * TICK
        budget = None
        if kind.startswith("market"):
            price = None
            budget = lots * MID_TICKS * TICK * LOT // 10**8 if "budget" in kind else None
        return PlaceOrder(
            user_id=draw.choice(self._users),
            client_order_id=self._name(),
            market_id=MARKET,
            side=side,
            order_type="market" if price is None else "limit",
            time_in_force="ioc" if "ioc" in kind else "fok" if "fok" in kind else "gtc",
            post_only="passive" in kind and draw.random() < POST_ONLY_SHARE,
            price_minor=price,
            quantity_minor=None if budget else lots * LOT,
            quote_budget_minor=budget,
        )

    def _price(self, side: Side, *, passive: bool) -> int:
        # Near the middle more often than far away, as in a real book.
        away = 1 + int(DEPTH_TICKS * self.random.random() ** 2)
        distance = -away if passive else self.random.randint(1, AGGRESSION_TICKS)
        return MID_TICKS + (distance if side == "buy" else -distance)

    def _change(self, kind: str) -> CancelOrder | ReplaceOrder:
        order = self._open_order()
        if kind == "cancel":
            return CancelOrder(user_id=order.user_id, order_id=order.order_id)
        price, quantity = order.price_minor, max(order.leaves_minor // 2 // LOT, 1) * LOT
        assert price is not None
        if kind == "replace anew":
            price = self._price(order.side, passive=True) * TICK
        return ReplaceOrder(
            user_id=order.user_id,
            order_id=order.order_id,
            new_client_order_id=self._name(),
            price_minor=price,
            quantity_minor=quantity,
        )

    def _open_order(self) -> Order:
        placed = self._placed
        while True:
            at = self.random.randrange(len(placed))
            order = self.state.orders.get(placed[at])
            if order is not None:
                return order
            placed[at] = placed[-1]
            placed.pop()

    def _name(self) -> str:
        self._names += 1
        return f"c-{self._names}"


def order_stream(
    *, users: int, resting: int, count: int, seed: int, progress: Callable[[int], None]
) -> OrderStream:
    """`resting` passive orders to start from, then `count` commands in the shares of SHARES."""
    state = open_ledger()
    for command in funding(users):
        assert apply_command(state, command), command
    desk = OrderDesk(state, users, seed)
    desk.rest(resting)
    start = dump(state)
    sent: list[LedgerCommand] = []
    log: list[LedgerEvent] = []
    refused = 0
    for kind in desk.random.choices(list(SHARES), list(SHARES.values()), k=count):
        command = desk.draw(kind)
        happened = desk.send(command)
        sent.append(command)
        log.extend(happened)
        refused += not happened
        progress(len(sent))
    trades = sum(isinstance(event, TradeExecuted) for event in log)
    shares = ", ".join(f"{share} % {kind}" for kind, share in SHARES.items())
    notes = (
        f"Orders: {count:,} commands of {users:,} users, seed {seed}: {shares}.",
        f"{trades / count:.2f} trades and {len(log) / count:.2f} events per command, "
        f"{refused / count:.1%} refused; {len(start.orders):,} resting orders before, "
        f"{len(state.orders):,} after.",
    )
    return OrderStream(
        start=start,
        commands=msgspec.json.encode(sent),
        count=count,
        start_steps=[_resting(order) for order in start.orders],
        steps=[step for event in log for step in _steps(event)],
        log=[encode_event(event) for event in log],
        notes=notes,
    )


def _resting(order: OrderRow) -> Place:
    assert order.price_minor is not None
    ticks, lots = order.price_minor // TICK, order.leaves_minor // LOT
    return Place(order.order_id, order.side == "buy", ticks, lots, "gtc")


def _steps(event: LedgerEvent) -> tuple[Step, ...]:
    match event:
        case OrderPlaced(price_minor=None):
            lots = event.quantity_minor // LOT
            return (Place(event.order_id, event.side == "buy", ANY_PRICE, lots, "ioc"),)
        case OrderPlaced(price_minor=int(price)):
            ticks, lots = price // TICK, event.quantity_minor // LOT
            is_buy = event.side == "buy"
            return (Place(event.order_id, is_buy, ticks, lots, event.time_in_force),)
        case OrderCancelled(reason="requested" | "replaced"):
            return (event.order_id,)
        case _:
            return ()
