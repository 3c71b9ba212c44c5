"""What an event changes in users' balances, as rows: double entry's user side, and why."""

from collections.abc import Callable
from typing import Any, NamedTuple

from domain.postings import UserPosting, postings_of
from schemas import events
from schemas.deep_history import Transaction


class Reason(NamedTuple):
    """What a row says besides the amounts."""

    market_id: str | None = None
    order_id: int | None = None
    trade_id: int | None = None
    reference: str | None = None
    price_minor: int | None = None
    quantity_minor: int | None = None
    burned_minor: int | None = None


def transactions_of(position: int, event: events.LedgerEvent) -> list[Transaction]:
    """One row for each change of a user's balance, in the order of the postings; often none."""
    reason_of = _REASONS.get(type(event))
    if reason_of is None:
        return []
    at_ns, kind = event.at_ns, str(event.__struct_config__.tag)
    return [
        Transaction(
            position,
            at_ns,
            posting.user_id,
            kind,
            posting.asset_id,
            posting.available_minor,
            posting.held_minor,
            *reason_of(event, posting.user_id),
        )
        for posting in postings_of(event)
        if isinstance(posting, UserPosting)
    ]


def _settled(event: events.AccrualSettled, user_id: str) -> Reason:
    return Reason()


def _paid(event: events.FundsDeposited | events.FundsWithdrawn, user_id: str) -> Reason:
    return Reason(reference=event.reference)


def _ordered(
    event: events.OrderPlaced | events.OrderReduced | events.OrderCancelled, user_id: str
) -> Reason:
    return Reason(event.market_id, event.order_id)


def _traded(event: events.TradeExecuted, user_id: str) -> Reason:
    taker_id = event.buyer_id if event.taker_side == "buy" else event.seller_id
    return Reason(
        event.market_id,
        event.taker_order_id if user_id == taker_id else event.maker_order_id,
        event.trade_id,
        None,
        event.price_minor,
        event.quantity_minor,
        event.burned_minor,
    )


def _burned(event: events.AssetBurned, user_id: str) -> Reason:
    return Reason(event.market_id, None, event.trade_id, None, None, None, event.amount_minor)


# Every event that moves a user's balance; a test holds it complete.
_REASONS: dict[type[events.Event], Callable[[Any, str], Reason]] = {
    events.AccrualSettled: _settled,
    events.FundsDeposited: _paid,
    events.FundsWithdrawn: _paid,
    events.OrderPlaced: _ordered,
    events.OrderReduced: _ordered,
    events.OrderCancelled: _ordered,
    events.TradeExecuted: _traded,
    events.AssetBurned: _burned,
}
