"""Clients of the views while something is done to them: what failed, went back, or was late.

`python -m ops.bench.view_readers REDIS_URL MARKET` reads through gateway.views, as fast as one
process can, until its stdin ends; then it prints Seen as JSON.
"""

import asyncio
import sys
import time

import msgspec
import uvloop

from gateway.errors import ViewsUnavailable
from gateway.views import Views
from ops.bench.order_mix import user_name
from schemas.views import INTERVAL_SECONDS

SECOND_NS = 1_000_000_000
USERS = 50
TRADES_READ = 20
INTERVAL = "1m"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """reads: of all kinds. failed: answered by an error or without a view that must be there.

    backwards: older than what an earlier read of the same view had seen. trade_ages_ms: of the
    newest trade on the tape, read by read.
    """

    reads: int
    failed: int
    backwards: int
    trade_ages_ms: list[float]
    faults: list[str]


class _Readers:
    def __init__(self, views: Views, market_id: str) -> None:
        self._views = views
        self._market_id = market_id
        self._positions: dict[str, int] = {}
        self.reads = self.failed = self.backwards = 0
        self.ages: list[float] = []
        self.faults: list[str] = []

    async def run(self, stopping: asyncio.Event) -> None:
        reads = (self._pool, self._tape, self._candle, self._accounts)
        while not stopping.is_set():
            for read in reads:
                self.reads += 1
                try:
                    await read()
                except (ViewsUnavailable, LookupError) as exc:
                    self.failed += 1
                    self.faults.append(f"{read.__name__}: {exc!r}")

    def _saw(self, view: str, position: int) -> None:
        if position < self._positions.get(view, 0):
            self.backwards += 1
            self.faults.append(f"{view}: {position} after {self._positions[view]}")
        self._positions[view] = position

    async def _pool(self) -> None:
        pool, _ = await self._views.pool()
        if pool is None:
            raise LookupError("no pool")
        self._saw("pool", pool.position)

    async def _tape(self) -> None:
        trades, _ = await self._views.trades(self._market_id, TRADES_READ)
        self._saw("trades", trades[-1].position)
        self.ages.append((time.time_ns() - trades[-1].at_ns) / 1e6)

    async def _candle(self) -> None:
        width = INTERVAL_SECONDS[INTERVAL]
        opened = time.time_ns() // SECOND_NS // width * width
        # The open minute and the one before it: a new one opens with its first second.
        candles, _ = await self._views.candles(
            self._market_id, INTERVAL, (opened - 2 * width, opened - width, opened)
        )
        # The open one has none before its first trade.
        self._saw("candle", max(candle.last_position for candle in candles))

    async def _accounts(self) -> None:
        user_id = user_name(self.reads % USERS)
        state = await self._views.account(user_id)
        if not state.account.balances:
            raise LookupError(f"{user_id} has no balances")
        self._saw(user_id, state.account.position)


async def _main(redis_url: str, market_id: str) -> Seen:
    views, stopping = Views(redis_url), asyncio.Event()
    readers = _Readers(views, market_id)
    reading = asyncio.create_task(readers.run(stopping))
    await asyncio.to_thread(sys.stdin.read)
    stopping.set()
    await reading
    await views.close()
    return Seen(
        reads=readers.reads,
        failed=readers.failed,
        backwards=readers.backwards,
        trade_ages_ms=readers.ages,
        faults=readers.faults[:20],
    )


def main() -> None:
    redis_url, market_id = sys.argv[1:]
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_main(redis_url, market_id))))


if __name__ == "__main__":
    main()
