"""What a replayed tape left behind, read from the views and held against the tape itself."""

from typing import TypeVar

import msgspec
import redis.asyncio

from ops.demo.tape import Tape
from ops.demo.warp import Warped, burned_minor
from schemas.amounts import format_amount
from schemas.views import (
    MINING_DB,
    POOL_KEY,
    TRADING_DB,
    PoolView,
    TickerView,
    ticker_key,
)

View = TypeVar("View", bound=msgspec.Struct)


class TapeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts in whole units. agrees: burns and seconds are what the tape implies."""

    market: str
    trades: int
    seconds: int
    events: int
    burned: str
    burned_expected: str
    allocated: str
    seconds_allocated: int
    last_price: str
    commit_seconds: float
    view_seconds: float
    agrees: bool

    def lines(self) -> list[str]:
        """For people."""
        mark = "agrees with" if self.agrees else "DIFFERS FROM"
        return [
            f"{self.trades:,} trades over {self.seconds:,} seconds of {self.market}: "
            f"{self.events:,} events committed in {self.commit_seconds} s, "
            f"all views there after {self.view_seconds} s",
            f"the ledger {mark} the tape: burned {self.burned} (expected {self.burned_expected}), "
            f"{self.seconds_allocated:,} seconds allocated {self.allocated}, "
            f"last price {self.last_price}",
        ]


async def summarise(
    tape: Tape, warped: Warped, redis_url: str, *, commit_seconds: float, view_seconds: float
) -> TapeSummary:
    """Read ticker and pool once the views are at the tape's end."""
    market_id = tape.market.market_id
    ticker = await _read(redis_url, TRADING_DB, ticker_key(market_id), TickerView)
    pool = await _read(redis_url, MINING_DB, POOL_KEY, PoolView)
    base, quote = tape.assets[0].scale, tape.assets[1].scale
    expected, seconds = burned_minor(tape), pool.second - pool.genesis_second + 1
    return TapeSummary(
        market=market_id,
        trades=warped.trades,
        seconds=warped.seconds,
        events=warped.position,
        burned=format_amount(ticker.burned_total, base),
        burned_expected=format_amount(expected, base),
        allocated=format_amount(pool.allocated_minor, pool.scale),
        seconds_allocated=seconds,
        last_price=format_amount(ticker.last_price, quote),
        commit_seconds=commit_seconds,
        view_seconds=view_seconds,
        agrees=(
            ticker.burned_total == expected
            and seconds == warped.seconds
            and ticker.last_price == tape.trades[-1].price_minor
        ),
    )


async def _read(redis_url: str, db: int, key: str, kind: type[View]) -> View:
    async with redis.asyncio.Redis.from_url(redis_url, db=db) as client:
        stored = await client.get(key)
    assert isinstance(stored, bytes), f"{key} is missing though its view is at the tape's end"
    return msgspec.json.decode(stored, type=kind)
