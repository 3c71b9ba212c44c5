"""Double entry: what each event moves between accounts. Every event's postings sum to zero per
asset.

Chart of accounts: issuance, mining:pool, mining:accrued, burn, external, user:<id>:available,
user:<id>:held. issuance and external may be negative (what came in from outside the ledger), no
other. No state is needed: each event names the accounts' owners and the assets it moves.
"""

from typing import NamedTuple, assert_never

from schemas import events

ISSUANCE = "issuance"
MINING_POOL = "mining:pool"
MINING_ACCRUED = "mining:accrued"
BURN = "burn"
EXTERNAL = "external"
SYSTEM_ACCOUNTS = (ISSUANCE, MINING_POOL, MINING_ACCRUED, BURN, EXTERNAL)
MAY_BE_NEGATIVE = frozenset({ISSUANCE, EXTERNAL})


class SystemPosting(NamedTuple):
    """A change of one of the ledger's own accounts; amount_minor is signed."""

    account: str
    asset_id: str
    amount_minor: int


class UserPosting(NamedTuple):
    """A change of one user's two accounts of an asset; both amounts are signed."""

    user_id: str
    asset_id: str
    available_minor: int
    held_minor: int


Posting = SystemPosting | UserPosting


def postings_of(event: events.LedgerEvent) -> tuple[Posting, ...]:
    """Postings of one event, user postings first; empty for events that move nothing."""
    match event:
        case events.MiningAllocated():
            return _allocation(event)
        case events.TradeExecuted():
            return _trade(event)
        case events.OrderPlaced():
            held = event.held_minor
            return (UserPosting(event.user_id, event.held_asset, -held, held),)
        case events.OrderCancelled():
            released = event.released_minor
            return (UserPosting(event.user_id, event.released_asset, released, -released),)
        case events.AssetBurned():
            amount = event.amount_minor
            return (
                UserPosting(event.user_id, event.asset_id, 0, -amount),
                SystemPosting(BURN, event.asset_id, amount),
            )
        case events.FundsDeposited():
            amount = event.amount_minor
            return (
                UserPosting(event.user_id, event.asset_id, amount, 0),
                SystemPosting(EXTERNAL, event.asset_id, -amount),
            )
        case events.AccrualSettled():
            amount = event.amount_minor
            return (
                UserPosting(event.user_id, event.asset_id, amount, 0),
                SystemPosting(MINING_ACCRUED, event.asset_id, -amount),
            )
        case events.LedgerOpened():
            return (
                SystemPosting(ISSUANCE, event.mined_asset, -event.pool_minor),
                SystemPosting(MINING_POOL, event.mined_asset, event.pool_minor),
            )
        case (
            events.EpochStarted()
            | events.EmissionScheduled()
            | events.ContributionGranted()
            | events.ContributionExpired()
            | events.AccountOpened()
            | events.MarketOpened()
        ):
            return ()
        case _:
            assert_never(event)


def _allocation(event: events.MiningAllocated) -> tuple[Posting, ...]:
    if event.reward_minor == 0:
        return ()
    return (
        SystemPosting(MINING_POOL, event.asset_id, -event.reward_minor),
        SystemPosting(MINING_ACCRUED, event.asset_id, event.reward_minor),
    )


def _trade(event: events.TradeExecuted) -> tuple[Posting, ...]:
    # The burned part stays in the seller's held account until the asset_burned event takes it.
    received, quote, refund = (
        event.quantity_minor - event.burned_minor,
        event.quote_minor,
        event.refund_minor,
    )
    return (
        UserPosting(event.buyer_id, event.quote_asset, refund, -(quote + refund)),
        UserPosting(event.buyer_id, event.base_asset, received, 0),
        UserPosting(event.seller_id, event.quote_asset, quote, 0),
        UserPosting(event.seller_id, event.base_asset, 0, -received),
    )
