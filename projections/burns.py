"""Burns by the minute: of a market from its first trade's on, of an asset's reserve from its first
burn's on; a record for every minute, also an empty one.

The burn of a trade is taken from trade_executed, so that a minute's record and its candle agree at
every position; asset_burned adds the asset's total.
"""

from collections.abc import Iterator

from schemas.events import AssetBurned, TradeExecuted
from schemas.views import BurnMinute

MINUTE_SECONDS = 60


def open_minute(second: int, cumulative: int = 0) -> BurnMinute:
    """The empty record of the minute that `second` falls into."""
    return BurnMinute(open_second=second // MINUTE_SECONDS * MINUTE_SECONDS, cumulative=cumulative)


def add_trade(minute: BurnMinute, event: TradeExecuted, position: int) -> None:
    """Count one trade in the open minute, in place."""
    minute.burned += event.burned_minor
    minute.cumulative += event.burned_minor
    minute.trade_count += 1
    minute.last_position = position


def add_reserve_burn(minute: BurnMinute, event: AssetBurned, position: int) -> None:
    """Count one burn of the treasury in the open minute of its asset, in place."""
    minute.burned += event.amount_minor
    minute.cumulative += event.amount_minor
    minute.last_position = position


def close_due(minute: BurnMinute, second: int) -> Iterator[BurnMinute]:
    """Every minute up to the open one of `second`, oldest first; all but the last are closed."""
    while minute.open_second + MINUTE_SECONDS <= second:
        minute.closed = True
        yield minute
        minute = open_minute(minute.open_second + MINUTE_SECONDS, minute.cumulative)
    yield minute
