"""Logs to compare views on: random courses of the naive ledger, so that no domain code is in play.

A course may start shortly before a week's end, so that candles of every interval close in it.
"""

from collections.abc import Sequence
from random import Random

import msgspec

from schemas import commands as c
from schemas.events import AssetSpec, LedgerEvent, MarketRules, Side
from tests.model.naive_ledger import NaiveLedger
from tests.model.naive_state import NANOSECONDS, Event
from tests.model.random_world import START_SECOND, RandomWorld

# Monday, 2027-01-18, 00:00:00 UTC.
WEEK_OPENS = 1_800_230_400
LATEST_GENESIS_NS = 2 * START_SECOND * NANOSECONDS
CROWD = ("ann", "bob", "cat")
CROWDED_ORDERS = 3_800


def random_course(seed: object, commands: int) -> list[Event]:
    """The events of so many random commands and of the seconds between them, as JSON objects.

    Not of a genesis in the far future, which the random world tries too: calendars end before it.
    """
    log = _course(seed, commands)
    return log if log[0]["at_ns"] < LATEST_GENESIS_NS else random_course(f"{seed} again", commands)


def _course(seed: object, commands: int) -> list[Event]:
    random = Random(f"views {seed}")
    world, naive = RandomWorld(random, has_long_gaps=False), NaiveLedger()
    start = random.choice((START_SECOND, WEEK_OPENS - random.randint(1, 900)))
    now_ns = naive.now_ns = start * NANOSECONDS
    log: list[Event] = []
    for number in range(commands):
        wait_ns, command = world.draw(number, naive)
        now_ns += wait_ns
        while naive.is_open and naive.mining.next_second <= now_ns // NANOSECONDS:
            log += naive.tick(naive.mining.next_second)
        answer = naive.answer(command, now_ns)
        if isinstance(answer, list):
            log += answer
            now_ns = max(now_ns, *(event["at_ns"] for event in answer))
    return log


def crowded_course(seed: object) -> list[Event]:
    """One market with more price levels than depth shows, and more trades than tape and fills keep.

    Orders come and go everywhere in the book, so that levels move in and out of what is shown.
    """
    random, naive = Random(f"crowd {seed}"), NaiveLedger()
    now_ns = START_SECOND * NANOSECONDS
    log: list[Event] = []

    def take(command: c.Command) -> None:
        answer = naive.answer(command, now_ns)
        if isinstance(answer, list):
            log.extend(answer)

    for command in _crowded_market():
        take(command)
    for number in range(CROWDED_ORDERS):
        if random.random() < 0.1:
            now_ns += NANOSECONDS
            log += naive.tick(naive.mining.next_second)
        if naive.books.orders and random.random() < 0.2:
            order = random.choice(naive.books.orders)
            take(c.CancelOrder(user_id=order.user_id, order_id=order.order_id))
        else:
            take(_crowded_order(random, number))
    return log


def _crowded_market() -> list[c.Command]:
    found: list[c.Command] = [
        c.OpenLedger(
            genesis_second=START_SECOND + 1,
            mined_asset="DUR",
            pool_minor=1_000,
            assets=(AssetSpec(asset_id="DUR", scale=0), AssetSpec(asset_id="CNY", scale=0)),
            emission=(),
        ),
        c.OpenMarket(
            market_id="DUR-CNY",
            base_asset="DUR",
            quote_asset="CNY",
            tick_minor=1,
            lot_minor=1,
            rules=MarketRules(burn_bps=500, taker_fee_bps=5, open_orders_max=10_000),
        ),
    ]
    for user_id in CROWD:
        for asset_id in ("DUR", "CNY"):
            reference = f"{asset_id}-{user_id}"
            found.append(
                c.DepositFunds(
                    user_id=user_id, asset_id=asset_id, amount_minor=10**12, reference=reference
                )
            )
    return found


def _crowded_order(random: Random, number: int) -> c.PlaceOrder:
    """Half far away from the middle; the others trade with what is there."""
    side: Side = random.choice(("buy", "sell"))
    away = random.randint(1, 300) if number % 2 else random.randint(-60, 4)
    return c.PlaceOrder(
        user_id=random.choice(CROWD),
        client_order_id=f"c{number}",
        market_id="DUR-CNY",
        side=side,
        order_type="limit",
        self_trade_prevention=random.choice(("cancel_newest", "cancel_oldest", "cancel_both")),
        price_minor=1_000 - away if side == "buy" else 1_000 + away,
        quantity_minor=random.randint(1, 50),
    )


def as_events(log: list[Event]) -> list[LedgerEvent]:
    """The same log as the structs that folds take."""
    return [msgspec.convert(event, LedgerEvent) for event in log]


def as_json(log: Sequence[LedgerEvent]) -> list[Event]:
    """Structs as the JSON objects of the log."""
    return [msgspec.to_builtins(event) for event in log]
