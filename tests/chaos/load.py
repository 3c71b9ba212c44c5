"""Load on the ledger: hundreds of keyed commands in flight by way of two gateways' clients.

Every worker sends one command after another and sends it again, under its key, until it is
answered; every answer is recorded. Commands come from a seed and from what was answered before.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator

import msgspec

from gateway.engine_client import EngineClient, Locate
from gateway.errors import EngineUnavailable
from schemas.commands import (
    CancelAllOrders,
    CancelOrder,
    DepositFunds,
    GrantContribution,
    LedgerCommand,
    PlaceOrder,
    SettleAccrual,
    WithdrawFunds,
)
from schemas.events import OrderPlaced
from schemas.frames import Accepted, Refused, StateDigest
from schemas.rejections import RejectionCode

MARKET = "DUR-CNY"
USERS = 40
FUNDS_MINOR = 10**15
TICK = LOT = 10_000
MID_TICKS = 1_000
OPEN_ORDERS_KEPT = 400
# A worker that found no engine, or one that is overloaded, asks again after about this long.
PAUSE_S = 0.02
TWICE_SHARE = 0.03
# When nobody is being hurt: enough to notice, little enough to fold thousands of faults' logs.
CALM_S = 2.0


class Acknowledged(msgspec.Struct, frozen=True, gc=False):
    """One answered command. sent_at (first), acked_at: time.monotonic()."""

    worker: int
    key: str
    command: LedgerCommand
    reply: Accepted | Refused
    sent_at: float
    acked_at: float


class Load:
    """Start it with `running()`; answers collects what was acknowledged, oldest first."""

    def __init__(self, seed: str, locate: Locate, *, workers: int) -> None:
        self.answers: list[Acknowledged] = []
        self.disagreements: list[str] = []
        self.in_flight = 0
        self._seed = seed
        self._clients = [EngineClient(locate=locate) for _ in range(2)]
        self._workers = workers
        self._numbers = itertools.count(1)
        self._going = asyncio.Event()
        self._hot = asyncio.Event()
        self._idle = asyncio.Event()
        self._open_orders: list[tuple[str, int]] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for client in self._clients:
                await stack.enter_async_context(client.running())
            await self._fund()
            self._going.set()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._work(n)) for n in range(self._workers)]
                yield
                for task in tasks:
                    task.cancel()

    # -- pace ---------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Every worker sends as fast as it is answered."""
        self._hot.set()

    def calm(self) -> None:
        self._hot.clear()

    async def settle(self, deadline_s: float) -> bool:
        """Send nothing new and wait until all in flight is answered; False after the deadline."""
        self._going.clear()
        if self.in_flight:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline_s):
                    await self._idle.wait()
        return not self.in_flight

    def go_on(self) -> None:
        self._going.set()

    async def digest(self) -> StateDigest:
        """The leader's word on its own state. Raises EngineUnavailable."""
        return await self._clients[0].digest()

    # -- commands -----------------------------------------------------------------------------

    async def ask(self, command: LedgerCommand, key: str, *, via: int = 0) -> Accepted | Refused:
        """The answer, however often it takes; overloaded is no answer."""
        while True:
            with contextlib.suppress(EngineUnavailable):
                reply = await self._clients[via].submit(command, key=key)
                if not _is_overloaded(reply):
                    return reply
            await asyncio.sleep(PAUSE_S)

    async def _fund(self) -> None:
        for user in range(USERS):
            for asset in ("DUR", "CNY"):
                await self._acknowledge(
                    -1,
                    DepositFunds(
                        user_id=f"u{user}",
                        asset_id=asset,
                        amount_minor=FUNDS_MINOR,
                        reference=f"fund-{asset}-{user}",
                    ),
                )
            await self._acknowledge(
                -1,
                GrantContribution(
                    user_id=f"u{user}", grant_id=f"g{user}", source="chaos", weight=1 + user
                ),
            )

    async def _work(self, worker: int) -> None:
        chance = random.Random(f"{self._seed}:{worker}")
        while True:
            await self._going.wait()
            await self._acknowledge(worker, self._draw(chance), twice=chance.random() < TWICE_SHARE)
            if not self._hot.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(chance.uniform(0.5, 1.5) * CALM_S):
                        await self._hot.wait()

    async def _acknowledge(
        self, worker: int, command: LedgerCommand, *, twice: bool = False
    ) -> None:
        key = f"key-{next(self._numbers)}"
        via = next(self._numbers) % 2
        self.in_flight += 1
        sent_at = time.monotonic()
        if twice:
            # Two gateways at once, as a client does whose first one seemed to be dead.
            reply, other = await asyncio.gather(
                self.ask(command, key, via=0), self.ask(command, key, via=1)
            )
            if not same_answer(reply, other) or not (reply.is_repeat or other.is_repeat):
                self.disagreements.append(f"{key}, sent twice at once: {reply} and {other}")
        else:
            reply = await self.ask(command, key, via=via)
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()
        self._learn(reply)
        self.answers.append(Acknowledged(worker, key, command, reply, sent_at, time.monotonic()))

    def _learn(self, reply: Accepted | Refused) -> None:
        if isinstance(reply, Accepted):
            self._open_orders += [
                (event.user_id, event.order_id)
                for event in reply.events
                if isinstance(event, OrderPlaced)
            ]
            del self._open_orders[:-OPEN_ORDERS_KEPT]

    def _draw(self, chance: random.Random) -> LedgerCommand:
        user_id, number = f"u{chance.randrange(USERS)}", next(self._numbers)
        match chance.choices(range(6), (45, 20, 15, 10, 5, 5))[0]:
            case 0:
                return _order(chance, user_id, number)
            case 1 if self._open_orders:
                owner, order_id = chance.choice(self._open_orders)
                return CancelOrder(user_id=owner, order_id=order_id)
            case 2:
                # No id of its own: only the key keeps it from happening twice.
                return SettleAccrual(user_id=user_id)
            case 3:
                return WithdrawFunds(
                    user_id=user_id,
                    asset_id="CNY",
                    amount_minor=chance.choice((1, 10 * FUNDS_MINOR)),
                    reference=f"out-{number}",
                )
            case 4:
                return CancelAllOrders(user_id=user_id)
            case _:
                return DepositFunds(
                    user_id=user_id, asset_id="CNY", amount_minor=1, reference=f"in-{number}"
                )


def _order(chance: random.Random, user_id: str, number: int) -> PlaceOrder:
    return PlaceOrder(
        user_id=user_id,
        client_order_id=f"order-{number}",
        market_id=MARKET,
        side=chance.choice(("buy", "sell")),
        order_type="limit",
        price_minor=(MID_TICKS + chance.randint(-20, 20)) * TICK,
        quantity_minor=chance.randint(1, 50) * LOT,
    )


def _is_overloaded(reply: Accepted | Refused) -> bool:
    return isinstance(reply, Refused) and reply.rejection.code is RejectionCode.OVERLOADED


def same_answer(one: Accepted | Refused, other: Accepted | Refused) -> bool:
    """Equal but for the request's id and for whether it is a repeat."""
    if isinstance(one, Accepted) and isinstance(other, Accepted):
        return one.last_position == other.last_position and one.events == other.events
    if isinstance(one, Refused) and isinstance(other, Refused):
        return one.rejection == other.rejection
    return False
