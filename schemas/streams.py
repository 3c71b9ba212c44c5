"""Which stream of the log an event belongs to; versions count 1, 2, 3 … within a stream.

The stream `mining` holds only mining_allocated, one per second from genesis: its version is the
second's number since genesis, so the position of any second is one primary-key read.
"""

from typing import assert_never

from schemas import events

LEDGER_STREAM = "ledger"
MINING_STREAM = "mining"


def stream_id(event: events.LedgerEvent) -> str:
    """ledger, mining, user:<user_id> or market:<market_id>."""
    match event:
        case events.MiningAllocated():
            return MINING_STREAM
        case events.AssetBurned():
            return f"market:{event.market_id}" if event.market_id else LEDGER_STREAM
        case (
            events.EpochStarted()
            | events.LedgerOpened()
            | events.EmissionScheduled()
            | events.ReserveBurnConfigured()
        ):
            return LEDGER_STREAM
        case (
            events.MarketOpened()
            | events.MarketConfigured()
            | events.MarketHalted()
            | events.MarketResumed()
            | events.TradeExecuted()
        ):
            return f"market:{event.market_id}"
        case (
            events.AccountOpened()
            | events.AccountFrozen()
            | events.AccountUnfrozen()
            | events.FundsDeposited()
            | events.FundsWithdrawn()
            | events.AccrualSettled()
            | events.ContributionGranted()
            | events.ContributionAdjusted()
            | events.ContributionExpired()
            | events.OrderPlaced()
            | events.OrderReduced()
            | events.OrderCancelled()
        ):
            return f"user:{event.user_id}"
        case _:
            assert_never(event)
