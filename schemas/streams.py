"""Which stream of the log an event belongs to; versions count 1, 2, 3 … within a stream.

The stream `mining` holds only mining_allocated, one per second from genesis: its version is the
second's number since genesis, so the position of any second is one index read.
"""

from typing import Any

from schemas import events

LEDGER_STREAM = "ledger"
MINING_STREAM = "mining"


def stream_id(event: events.LedgerEvent) -> str:
    """ledger, mining, user:<user_id> or market:<market_id>."""
    kind = type(event)
    fixed = _FIXED.get(kind)
    if fixed is not None:
        return fixed
    found: Any = event
    if kind in _OF_MARKET and found.market_id is not None:
        return f"market:{found.market_id}"
    return f"user:{found.user_id}" if kind in _OF_USER else LEDGER_STREAM


# Tables by type, not a match: this runs for every event that is stored. A test holds them complete.
_FIXED: dict[type[events.Event], str] = {
    events.MiningAllocated: MINING_STREAM,
    events.EpochStarted: LEDGER_STREAM,
    events.LedgerOpened: LEDGER_STREAM,
    events.EmissionScheduled: LEDGER_STREAM,
    events.ReserveBurnConfigured: LEDGER_STREAM,
}
# A burn of the reserve is of no market.
_OF_MARKET: frozenset[type[events.Event]] = frozenset(
    {
        events.MarketOpened,
        events.MarketConfigured,
        events.MarketHalted,
        events.MarketResumed,
        events.TradeExecuted,
        events.AssetBurned,
    }
)
_OF_USER: frozenset[type[events.Event]] = frozenset(
    {
        events.AccountOpened,
        events.AccountFrozen,
        events.AccountUnfrozen,
        events.FundsDeposited,
        events.FundsWithdrawn,
        events.AccrualSettled,
        events.ContributionGranted,
        events.ContributionAdjusted,
        events.ContributionExpired,
        events.OrderPlaced,
        events.OrderReduced,
        events.OrderCancelled,
    }
)
