"""What an event means for each user it touches: the lines of ledger.postings. Needs no state."""

from collections.abc import Callable
from typing import Any

import msgspec

from domain.postings import UserPosting, postings_of
from schemas import events
from schemas.effects import (
    BalanceChange,
    ContributionChange,
    Fill,
    OrderChange,
    OrderTerms,
    UserEffect,
)

Balances = dict[str, list[BalanceChange]]


def effects_of(position: int, event: events.LedgerEvent) -> list[UserEffect]:
    """One effect per touched user, in the order in which the event names them; often none."""
    effects = _EFFECTS.get(type(event))
    return [] if effects is None else effects(position, event)


def _balances(event: events.LedgerEvent) -> Balances:
    changes: Balances = {}
    for posting in postings_of(event):
        if isinstance(posting, UserPosting):
            change = BalanceChange(posting.asset_id, posting.available_minor, posting.held_minor)
            of_user = changes.get(posting.user_id)
            if of_user is None:
                changes[posting.user_id] = [change]
            else:
                of_user.append(change)
    return changes


def _effect(
    position: int,
    event: Any,
    user_id: str,
    balances: list[BalanceChange],
    *,
    contribution: ContributionChange | None = None,
    order: OrderChange | None = None,
    fill: Fill | None = None,
) -> UserEffect:
    return UserEffect(
        position=position,
        at_ns=event.at_ns,
        user_id=user_id,
        event_type=event.__struct_config__.tag,
        balances=tuple(balances),
        contribution=contribution,
        order=order,
        fill=fill,
    )


def _moved(position: int, event: events.LedgerEvent) -> list[UserEffect]:
    return [
        _effect(position, event, user_id, balances)
        for user_id, balances in _balances(event).items()
    ]


def _named(position: int, event: Any) -> list[UserEffect]:
    return [_effect(position, event, event.user_id, [])]


def _frozen(position: int, event: events.AccountFrozen) -> list[UserEffect]:
    effect = _effect(position, event, event.user_id, [])
    return [msgspec.structs.replace(effect, frozen_for=event.reason)]


def _contributed(position: int, event: Any, change: ContributionChange) -> list[UserEffect]:
    balances = _balances(event).get(event.user_id, [])
    return [_effect(position, event, event.user_id, balances, contribution=change)]


def _settled(position: int, event: events.AccrualSettled) -> list[UserEffect]:
    change = ContributionChange(
        settled_minor=event.amount_minor,
        entry_index=event.entry_index,
        entry_fraction=event.entry_fraction,
    )
    return _contributed(position, event, change)


def _granted(position: int, event: events.ContributionGranted) -> list[UserEffect]:
    change = ContributionChange(
        weight_delta=event.weight,
        entry_index=event.entry_index,
        entry_fraction=event.entry_fraction,
        grant_id=event.grant_id,
        grant_weight=event.weight,
        source=event.source,
        expires_second=event.expires_second,
    )
    return _contributed(position, event, change)


def _adjusted(position: int, event: events.ContributionAdjusted) -> list[UserEffect]:
    change = ContributionChange(
        weight_delta=event.weight - event.weight_before,
        entry_index=event.entry_index,
        entry_fraction=event.entry_fraction,
        grant_id=event.grant_id,
        grant_weight=event.weight,
        expires_second=event.expires_second,
    )
    return _contributed(position, event, change)


def _expired(position: int, event: events.ContributionExpired) -> list[UserEffect]:
    change = ContributionChange(
        weight_delta=-event.weight,
        entry_index=event.entry_index,
        entry_fraction=event.entry_fraction,
        grant_id=event.grant_id,
    )
    return _contributed(position, event, change)


def _ordered(position: int, event: Any, change: OrderChange) -> list[UserEffect]:
    balances = _balances(event)[event.user_id]
    return [_effect(position, event, event.user_id, balances, order=change)]


def _placed(position: int, event: events.OrderPlaced) -> list[UserEffect]:
    terms = OrderTerms(
        event.client_order_id,
        event.market_id,
        event.side,
        event.order_type,
        event.time_in_force,
        event.post_only,
        event.price_minor,
    )
    change = OrderChange(order_id=event.order_id, leaves_minor=event.quantity_minor, terms=terms)
    return _ordered(position, event, change)


def _reduced(position: int, event: events.OrderReduced) -> list[UserEffect]:
    change = OrderChange(order_id=event.order_id, leaves_minor=event.leaves_minor)
    return _ordered(position, event, change)


def _cancelled(position: int, event: events.OrderCancelled) -> list[UserEffect]:
    change = OrderChange(order_id=event.order_id, cancelled=event.reason)
    return _ordered(position, event, change)


def _traded(position: int, event: events.TradeExecuted) -> list[UserEffect]:
    # Self-trade prevention: buyer and seller are never the same user.
    balances = _balances(event)
    buyer, seller = event.buyer_id, event.seller_id
    return [
        _filled(position, event, "buy", buyer, balances[buyer]),
        _filled(position, event, "sell", seller, balances[seller]),
    ]


def _filled(
    position: int,
    event: events.TradeExecuted,
    side: events.Side,
    user_id: str,
    balances: list[BalanceChange],
) -> UserEffect:
    if side == event.taker_side:
        order_id, leaves = event.taker_order_id, event.taker_leaves_minor
    else:
        order_id, leaves = event.maker_order_id, event.maker_leaves_minor
    fill = Fill(
        event.trade_id,
        event.market_id,
        side,
        "taker" if side == event.taker_side else "maker",
        event.price_minor,
        event.quantity_minor,
        event.quote_minor,
        event.buyer_fee_minor if side == "buy" else event.seller_fee_minor,
        event.burned_minor,
    )
    order = OrderChange(order_id=order_id, leaves_minor=leaves)
    return _effect(position, event, user_id, balances, order=order, fill=fill)


# A table by type, not a match: this runs for every event in relay and rebuild. Events that are not
# in it touch no user; a test holds that against the postings.
_EFFECTS: dict[type[events.Event], Callable[[int, Any], list[UserEffect]]] = {
    events.AccrualSettled: _settled,
    events.ContributionGranted: _granted,
    events.ContributionAdjusted: _adjusted,
    events.ContributionExpired: _expired,
    events.AccountOpened: _named,
    events.AccountFrozen: _frozen,
    events.AccountUnfrozen: _named,
    events.FundsDeposited: _moved,
    events.FundsWithdrawn: _moved,
    events.OrderPlaced: _placed,
    events.OrderReduced: _reduced,
    events.OrderCancelled: _cancelled,
    events.TradeExecuted: _traded,
    events.AssetBurned: _moved,
}
