"""Double entry: what each event moves between accounts. Each event's postings sum to zero per
asset.

Chart of accounts: issuance, mining:pool, mining:accrued, treasury, fees, burn, external,
user:<id>:available, user:<id>:held. issuance and external may be negative (what came in from
outside the ledger), no other. No state is needed: each event names the owners and the assets it
moves.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from schemas import events

ISSUANCE = "issuance"
MINING_POOL = "mining:pool"
MINING_ACCRUED = "mining:accrued"
TREASURY = "treasury"
FEES = "fees"
BURN = "burn"
EXTERNAL = "external"
SYSTEM_ACCOUNTS = (ISSUANCE, MINING_POOL, MINING_ACCRUED, TREASURY, FEES, BURN, EXTERNAL)
MAY_BE_NEGATIVE = frozenset({ISSUANCE, EXTERNAL})


class SystemPosting(msgspec.Struct, frozen=True, gc=False):
    """A change of one of the ledger's own accounts; amount_minor is signed."""

    account: str
    asset_id: str
    amount_minor: int


class UserPosting(msgspec.Struct, frozen=True, gc=False):
    """A change of one user's two accounts of an asset; both amounts are signed."""

    user_id: str
    asset_id: str
    available_minor: int
    held_minor: int


Posting = SystemPosting | UserPosting
Postings = tuple[Posting, ...]


def postings_of(event: events.Event) -> Postings:
    """Postings of one event; empty for events that move nothing."""
    return _POSTINGS[type(event)](event)


def _opened(event: events.LedgerOpened) -> Postings:
    asset, pool, treasury = event.mined_asset, event.pool_minor, event.treasury_minor
    return (
        SystemPosting(ISSUANCE, asset, -(pool + treasury)),
        SystemPosting(MINING_POOL, asset, pool),
        SystemPosting(TREASURY, asset, treasury),
    )


def _allocated(event: events.MiningAllocated) -> Postings:
    reward = event.reward_minor
    if reward == 0:
        return ()
    return (
        SystemPosting(MINING_POOL, event.asset_id, -reward),
        SystemPosting(MINING_ACCRUED, event.asset_id, reward),
    )


def _settled(event: events.AccrualSettled) -> Postings:
    amount = event.amount_minor
    return (
        UserPosting(event.user_id, event.asset_id, amount, 0),
        SystemPosting(MINING_ACCRUED, event.asset_id, -amount),
    )


def _deposited(event: events.FundsDeposited) -> Postings:
    amount = event.amount_minor
    return (
        UserPosting(event.user_id, event.asset_id, amount, 0),
        SystemPosting(EXTERNAL, event.asset_id, -amount),
    )


def _withdrawn(event: events.FundsWithdrawn) -> Postings:
    amount = event.amount_minor
    return (
        UserPosting(event.user_id, event.asset_id, -amount, 0),
        SystemPosting(EXTERNAL, event.asset_id, amount),
    )


def _placed(event: events.OrderPlaced) -> Postings:
    held = event.held_minor
    return (UserPosting(event.user_id, event.held_asset, -held, held),)


def _released(event: events.OrderReduced | events.OrderCancelled) -> Postings:
    released = event.released_minor
    return (UserPosting(event.user_id, event.released_asset, released, -released),)


def _traded(event: events.TradeExecuted) -> Postings:
    # The burned part stays in the seller's held account until the asset_burned event takes it.
    base, quote = event.base_asset, event.quote_asset
    handed_over = event.quantity_minor - event.burned_minor
    paid, refund = event.quote_minor, event.refund_minor
    buyer_fee, seller_fee = event.buyer_fee_minor, event.seller_fee_minor
    postings = (
        UserPosting(event.buyer_id, quote, refund, -(paid + refund)),
        UserPosting(event.buyer_id, base, handed_over - buyer_fee, 0),
        UserPosting(event.seller_id, quote, paid - seller_fee, 0),
        UserPosting(event.seller_id, base, 0, -handed_over),
    )
    if buyer_fee or seller_fee:
        fees = (SystemPosting(FEES, base, buyer_fee), SystemPosting(FEES, quote, seller_fee))
        return postings + fees
    return postings


def _burned(event: events.AssetBurned) -> Postings:
    asset, amount = event.asset_id, event.amount_minor
    if event.user_id is None:
        return (SystemPosting(TREASURY, asset, -amount), SystemPosting(BURN, asset, amount))
    return (UserPosting(event.user_id, asset, 0, -amount), SystemPosting(BURN, asset, amount))


def _nothing(event: events.Event) -> Postings:
    return ()


# A table by type, not a match: this runs several times per order. A test holds it complete.
_POSTINGS: dict[type[events.Event], Callable[[Any], Postings]] = {
    events.EpochStarted: _nothing,
    events.LedgerOpened: _opened,
    events.EmissionScheduled: _nothing,
    events.MiningAllocated: _allocated,
    events.AccrualSettled: _settled,
    events.ContributionGranted: _nothing,
    events.ContributionAdjusted: _nothing,
    events.ContributionExpired: _nothing,
    events.AccountOpened: _nothing,
    events.AccountFrozen: _nothing,
    events.AccountUnfrozen: _nothing,
    events.FundsDeposited: _deposited,
    events.FundsWithdrawn: _withdrawn,
    events.MarketOpened: _nothing,
    events.MarketConfigured: _nothing,
    events.MarketHalted: _nothing,
    events.MarketResumed: _nothing,
    events.ReserveBurnConfigured: _nothing,
    events.OrderPlaced: _placed,
    events.OrderReduced: _released,
    events.OrderCancelled: _released,
    events.TradeExecuted: _traded,
    events.AssetBurned: _burned,
}
