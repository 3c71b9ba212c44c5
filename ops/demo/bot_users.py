"""The demo's users one by one: market makers, takers, miners and the operator who grants weight.

Each is a loop over the public HTTP API that ends only by cancellation. None remembers anything a
restart could miss: ids carry the run they belong to, and makers keep a journal.
"""

import asyncio
import logging
import random
import time
from decimal import Decimal

import msgspec

from ops.demo.ledger_api import LedgerApi
from ops.demo.quote_journal import QuoteJournal
from ops.demo.quotes import FairPrice, Quote, Slot, floor_to, ladder, replacements
from schemas.events import Side
from schemas.rejections import RejectionCode
from schemas.wire import DepositBody, Market, OrderResult, PlaceOrderBody, Problem
from schemas.wire_mining import GrantBody

MAKERS = tuple(f"maker-{number}" for number in range(1, 4))
TAKERS = tuple(f"taker-{number}" for number in range(1, 4))
MINERS = tuple(f"miner-{number:02}" for number in range(1, 13))
SOURCES = ("phone", "node", "referral", "staking", "course")

MAKER_STEP_S = (1.0, 2.0)
TAKER_ORDERS_PER_S = 0.8
TAKER_QUANTITY = (1.0, 0.9)  # mean and deviation of the size's logarithm
MINER_STEP_S = (10.0, 40.0)
MINER_SELL_SHARE = (0.3, 0.9)
SETTLE_CHANCE = 0.3
BOOST_STEP_S = (3.0, 9.0)
BOOST_LIFE_S = (20, 90)
BOOST_WEIGHT = (40, 400)
TAKER_ORDER_MIN = Decimal("0.05")
FUNDS_QUOTE = Decimal(500_000)
FUNDS_BASE = Decimal(50_000)

log = logging.getLogger("durian")


class Tally:
    """What happened so far, for the status line. first_trade: set once the market is alive."""

    def __init__(self) -> None:
        self.orders = 0
        self.trades = 0
        self.price = ""
        self.trouble = ""
        self.first_trade = asyncio.Event()

    def count(self, result: OrderResult) -> None:
        self.orders += 1
        self.trades += len(result.trades)
        if result.trades:
            self.price = result.trades[-1].price.rstrip("0").rstrip(".")
            self.first_trade.set()

    def wait_for(self, trouble: str) -> None:
        self.trouble = trouble

    def line(self) -> str:
        if self.trouble:
            return f"waiting for {self.trouble}"
        return f"{self.orders:,} orders, {self.trades:,} trades, last price {self.price or 'none'}"


class Floor:
    """What all demo users share. run: makes this run's ids different from every other run's."""

    def __init__(
        self,
        *,
        api: LedgerApi,
        market: Market,
        fair: FairPrice,
        rng: random.Random,
        tally: Tally,
        run: str,
    ) -> None:
        self.api = api
        self.market = market
        self.rng = rng
        self.tally = tally
        self.tick = Decimal(market.tick_size)
        self.lot = Decimal(market.lot_size)
        self.fair = fair
        self._run = run
        self._ids = 0

    def next_id(self, user: str) -> str:
        self._ids += 1
        return f"demo-{user}-{self._run}-{self._ids}"

    async def fund(self, user: str, asset: str, reference: str) -> None:
        """Book a deposit once per reference; an earlier run's is as good."""
        amount = FUNDS_BASE if asset == self.market.base_asset else FUNDS_QUOTE
        body = DepositBody(user_id=user, asset=asset, amount=f"{amount:f}", reference=reference)
        answer = await self.api.deposit(body)
        if isinstance(answer, Problem) and answer.code != RejectionCode.DUPLICATE_REFERENCE:
            log.warning("deposit for %s refused: %s %s", user, answer.code, answer.details)

    async def place(self, user: str, body: PlaceOrderBody) -> OrderResult | Problem:
        """Send one order and count it; a user who ran out of money gets more."""
        answer = await self.api.place(user, body)
        if isinstance(answer, OrderResult):
            self.tally.count(answer)
        elif answer.code == RejectionCode.INSUFFICIENT_FUNDS:
            sells = body.side == "sell"
            asset = self.market.base_asset if sells else self.market.quote_asset
            await self.fund(user, asset, self.next_id(user))
        elif answer.code not in (
            RejectionCode.NO_LIQUIDITY,
            RejectionCode.DUPLICATE_CLIENT_ORDER_ID,
        ):
            log.warning("order of %s refused: %s %s", user, answer.code, answer.details)
        return answer

    async def take(self, user: str, side: Side, quantity: Decimal) -> None:
        body = PlaceOrderBody(
            market=self.market.market,
            side=side,
            type="market",
            time_in_force="ioc",
            quantity=f"{quantity:f}",
            client_order_id=self.next_id(user),
        )
        await self.place(user, body)


class Maker:
    """Keeps a ladder on both sides of the book, and clears what an earlier run left there."""

    def __init__(self, user: str, floor: Floor, journal: QuoteJournal) -> None:
        self._user = user
        self._floor = floor
        self._journal = journal
        self._quotes: tuple[Quote, ...] = ()

    async def run(self) -> None:
        while True:
            await self.step(time.monotonic())
            await asyncio.sleep(self._floor.rng.uniform(*MAKER_STEP_S))

    async def clear(self, quotes: tuple[Quote, ...]) -> None:
        """Take an earlier run's orders off the book; those of unknown fate are sent again first."""
        for quote in quotes:
            order_id = quote.order_id or await self._send(quote)
            if order_id is not None:
                await self._floor.api.cancel(self._user, order_id)
        self._journal.note(self._user, ())

    async def step(self, now_s: float) -> None:
        """Replace what went stale: first the cancels, so that a maker never meets itself."""
        floor = self._floor
        slots = ladder(floor.fair.at(now_s), tick=floor.tick, lot=floor.lot, rng=floor.rng)
        stale, open_slots = replacements(self._quotes, slots, now_s)
        drafts = [self._draft(slot, now_s) for slot in open_slots]
        if not drafts:
            return
        self._journal.note(self._user, (*self._quotes, *drafts))
        for quote in stale:
            if quote.order_id is not None:
                await floor.api.cancel(self._user, quote.order_id)
        gone = {quote.client_order_id for quote in stale}
        placed = []
        for draft in drafts:
            order_id = await self._send(draft)
            if order_id is not None:
                placed.append(msgspec.structs.replace(draft, order_id=order_id))
        kept = (quote for quote in self._quotes if quote.client_order_id not in gone)
        self._quotes = (*kept, *placed)

    def _draft(self, slot: Slot, now_s: float) -> Quote:
        return Quote(
            client_order_id=self._floor.next_id(self._user),
            side=slot.side,
            level=slot.level,
            price=slot.price,
            quantity=slot.quantity,
            placed_s=now_s,
        )

    async def _send(self, quote: Quote) -> int | None:
        """The order's id; None if the ledger refused it."""
        body = PlaceOrderBody(
            market=self._floor.market.market,
            side=quote.side,
            type="limit",
            price=f"{quote.price:f}",
            quantity=f"{quote.quantity:f}",
            client_order_id=quote.client_order_id,
        )
        answer = await self._floor.place(self._user, body)
        if isinstance(answer, OrderResult):
            return answer.order_id
        if answer.code == RejectionCode.DUPLICATE_CLIENT_ORDER_ID:
            return int(answer.details["order_id"])
        return None


async def run_taker(user: str, floor: Floor) -> None:
    """Market orders at random times, sizes and sides, leaning with the trend."""
    rng = floor.rng
    while True:
        await asyncio.sleep(rng.expovariate(TAKER_ORDERS_PER_S))
        side: Side = "buy" if rng.random() < floor.fair.mood() else "sell"
        size = Decimal(repr(rng.lognormvariate(*TAKER_QUANTITY)))
        await floor.take(user, side, max(floor_to(size, floor.lot), TAKER_ORDER_MIN, floor.lot))


async def run_miner(user: str, floor: Floor) -> None:
    """Now and then settles, or sells part of what was mined (the ledger then settles by itself)."""
    rng, api = floor.rng, floor.api
    while True:
        await asyncio.sleep(rng.uniform(*MINER_STEP_S))
        if rng.random() < SETTLE_CHANCE:
            await api.settle(user)
            continue
        share = await api.share(user)
        if isinstance(share, Problem) or share.asset != floor.market.base_asset:
            continue
        owned = Decimal(share.accrued) + sum(
            Decimal(balance.available)
            for balance in await api.balances(user)
            if balance.asset == share.asset
        )
        part = Decimal(repr(rng.uniform(*MINER_SELL_SHARE)))
        quantity = floor_to(owned * part, floor.lot)
        if quantity > 0:
            await floor.take(user, "sell", quantity)


async def run_booster(floor: Floor) -> None:
    """Short grants that come and go, so that the total weight never stands still for long."""
    rng = floor.rng
    while True:
        await asyncio.sleep(rng.uniform(*BOOST_STEP_S))
        user = rng.choice(MINERS)
        body = GrantBody(
            user_id=user,
            source=rng.choice(SOURCES),
            weight=rng.randint(*BOOST_WEIGHT),
            grant_id=floor.next_id(user),
            expires_second=int(time.time()) + rng.randint(*BOOST_LIFE_S),
        )
        await _grant(floor, body)


async def enrol_miners(floor: Floor) -> None:
    """Every miner's lasting grant: the same weights and ids in every run, so granted once."""
    weights = random.Random("durian demo miners")
    bodies = [
        GrantBody(
            user_id=user,
            source=SOURCES[number % len(SOURCES)],
            weight=round(weights.lognormvariate(5.5, 0.8)),
            grant_id="demo-lasting",
        )
        for number, user in enumerate(MINERS)
    ]
    await asyncio.gather(*(_grant(floor, body) for body in bodies))


async def _grant(floor: Floor, body: GrantBody) -> None:
    answer = await floor.api.grant(body)
    if isinstance(answer, Problem) and answer.code not in (
        RejectionCode.DUPLICATE_GRANT,
        RejectionCode.INVALID_EXPIRY,  # an outage outlasted the grant
    ):
        log.warning("grant for %s refused: %s %s", body.user_id, answer.code, answer.details)
