"""What a replayed tape left behind, read from the views and held against the tape itself."""

from typing import TypeVar

import msgspec

from ops.demo.tape import Tape
from ops.demo.warp import Warped, burned_minor
from projections.redis_views import RedisViews
from schemas.amounts import format_amount
from schemas.views import (
    HOME_DB,
    MARKET,
    MINING,
    POOL_KEY,
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
    ticker = await _read(MARKET, redis_url, ticker_key(market_id), TickerView)
    pool = await _read(MINING, redis_url, POOL_KEY, PoolView)
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


async def _read(projection: str, redis_url: str, key: str, kind: type[View]) -> View:
    store = RedisViews(projection, redis_url)
    try:
        live = store.reader((await store.checkpoint(0)).generation)
        (stored,) = await live.strings(HOME_DB[projection], [key])
    finally:
        await store.close()
    assert stored is not None, f"{key} is missing though its view is at the tape's end"
    return msgspec.json.decode(stored, type=kind)
