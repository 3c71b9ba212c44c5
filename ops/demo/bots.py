"""The live demo's crowd: brings its users onto the ledger, then lets them mine and trade for good.

Ready after the first trade. A restarted crowd goes on where the killed one stopped: deposits and
grants have fixed ids, open orders are in a journal.
"""

import asyncio
import logging
import random
import time
from decimal import Decimal

from ops.config import Config
from ops.datadir import open_data_dir
from ops.demo.bot_users import (
    MAKERS,
    MINERS,
    TAKERS,
    Floor,
    Maker,
    Tally,
    enrol_miners,
    run_booster,
    run_miner,
    run_taker,
)
from ops.demo.ledger_api import LedgerApi
from ops.demo.quote_journal import QuoteJournal
from ops.demo.quotes import FairPrice
from ops.notify import Notifier
from ops.wiring import stop_on_signals
from schemas.wire import Market, Problem

ANCHOR = Decimal(10)
STATUS_S = 1.0
JOURNAL_NAME = "demo-orders.json"

log = logging.getLogger("durian")


async def run_bots(config: Config, seed: int | None = None) -> None:
    """Mine and trade until SIGTERM. seed: makes the choices, not their timing, repeatable."""
    rng, tally = random.Random(seed), Tally()
    notifier = Notifier(config.notify_socket)
    data_dir = open_data_dir(config.data_dir)
    async with LedgerApi(config, rng=rng, on_trouble=tally.wait_for) as api:
        crowd = asyncio.create_task(
            _crowd(api, QuoteJournal(data_dir.run / JOURNAL_NAME), rng=rng, tally=tally)
        )
        telling = asyncio.create_task(_tell(tally, notifier))
        stop_on_signals(lambda: crowd.cancel() and None)
        try:
            await asyncio.wait([crowd, telling], return_when=asyncio.FIRST_COMPLETED)
        finally:
            notifier.stopping()
            telling.cancel()
    if not crowd.cancelled():
        crowd.result()


async def _crowd(
    api: LedgerApi, journal: QuoteJournal, *, rng: random.Random, tally: Tally
) -> None:
    market = (await api.markets())[0]
    floor = Floor(
        api=api,
        market=market,
        fair=await _fair_price(api, market, rng),
        rng=rng,
        tally=tally,
        run=f"{time.time_ns() // 1_000_000:x}",
    )
    makers = {user: Maker(user, floor, journal) for user in MAKERS}
    left_over = journal.left_over()
    await asyncio.gather(enrol_miners(floor), _fund_traders(floor))
    await asyncio.gather(*(maker.clear(left_over.get(user, ())) for user, maker in makers.items()))
    log.info("%d miners and %d traders on %s", len(MINERS), len(MAKERS + TAKERS), market.market)
    async with asyncio.TaskGroup() as group:
        for maker in makers.values():
            group.create_task(maker.run())
        for user in TAKERS:
            group.create_task(run_taker(user, floor))
        for user in MINERS:
            group.create_task(run_miner(user, floor))
        group.create_task(run_booster(floor))


async def _fair_price(api: LedgerApi, market: Market, rng: random.Random) -> FairPrice:
    ticker = await api.ticker(market.market)
    last = ANCHOR if isinstance(ticker, Problem) else Decimal(ticker.last)
    return FairPrice(rng, anchor=ANCHOR, last=last, now_s=time.monotonic())


async def _fund_traders(floor: Floor) -> None:
    assets = (floor.market.base_asset, floor.market.quote_asset)
    await asyncio.gather(
        *(
            floor.fund(user, asset, f"demo-{user}-{asset}")
            for user in (*MAKERS, *TAKERS)
            for asset in assets
        )
    )


async def _tell(tally: Tally, notifier: Notifier) -> None:
    waiting = asyncio.create_task(tally.first_trade.wait())
    try:
        while not waiting.done():
            notifier.status(tally.line() if tally.trouble else "opening the market")
            await asyncio.wait([waiting], timeout=STATUS_S)
        notifier.ready(tally.line())
        while True:
            await asyncio.sleep(STATUS_S)
            notifier.status(tally.line())
    finally:
        waiting.cancel()
