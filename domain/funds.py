"""Users' accounts: opening, freezing, deposits, withdrawals, and settling what was mined."""

from domain import contributions
from domain.checks import check_amount
from domain.state import LedgerState
from schemas import commands, events
from schemas.rejections import Rejection, RejectionCode

Decision = tuple[events.LedgerEvent, ...] | Rejection


def decide_account(command: commands.OpenAccount, state: LedgerState, now_ns: int) -> Decision:
    """One account per user id."""
    if command.user_id in state.open_accounts:
        return Rejection(RejectionCode.ACCOUNT_ALREADY_OPEN, {"user_id": command.user_id})
    return opened_if_missing(command.user_id, state, now_ns)


def opened_if_missing(
    user_id: str, state: LedgerState, now_ns: int
) -> tuple[events.AccountOpened, ...]:
    """The event that opens the account of a user who has none."""
    if user_id in state.open_accounts:
        return ()
    return (events.AccountOpened(at_ns=now_ns, user_id=user_id),)


def check_account(user_id: str, state: LedgerState) -> Rejection | None:
    """The account is there and not frozen."""
    if user_id not in state.open_accounts:
        return Rejection(RejectionCode.UNKNOWN_ACCOUNT, {"user_id": user_id})
    if user_id in state.frozen_accounts:
        return Rejection(RejectionCode.ACCOUNT_FROZEN, {"user_id": user_id})
    return None


def decide_freeze(command: commands.FreezeAccount, state: LedgerState, now_ns: int) -> Decision:
    """Freezes and cancels every open order, oldest first."""
    refused = check_account(command.user_id, state)
    if refused is not None:
        return refused
    frozen = events.AccountFrozen(at_ns=now_ns, user_id=command.user_id, reason=command.reason)
    return (frozen, *cancelled_orders(command.user_id, None, state, now_ns, "account_frozen"))


def decide_unfreeze(command: commands.UnfreezeAccount, state: LedgerState, now_ns: int) -> Decision:
    """Lifts a freeze; cancelled orders stay cancelled."""
    if command.user_id not in state.open_accounts:
        return Rejection(RejectionCode.UNKNOWN_ACCOUNT, {"user_id": command.user_id})
    if command.user_id not in state.frozen_accounts:
        return Rejection(RejectionCode.ACCOUNT_NOT_FROZEN, {"user_id": command.user_id})
    return (events.AccountUnfrozen(at_ns=now_ns, user_id=command.user_id),)


def cancelled_orders(
    user_id: str,
    market_id: str | None,
    state: LedgerState,
    now_ns: int,
    reason: events.CancelReason,
) -> list[events.OrderCancelled]:
    """Cancellations of a user's open orders in one market, or in all, oldest order first."""
    markets = state.markets if market_id is None else {market_id: state.markets[market_id]}
    orders = [order for m in markets.values() for order in m.orders.get(user_id, {}).values()]
    return [
        events.OrderCancelled(
            at_ns=now_ns,
            order_id=order.order_id,
            user_id=user_id,
            market_id=order.market_id,
            reason=reason,
            leaves_minor=order.leaves_minor,
            released_asset=order.held_asset,
            released_minor=order.held_minor,
        )
        for order in sorted(orders, key=lambda order: order.order_id)
    ]


def decide_deposit(command: commands.DepositFunds, state: LedgerState, now_ns: int) -> Decision:
    """Funds from outside; a reference is booked once. Frozen accounts take deposits."""
    refused = _check_transfer(command, state)
    if refused is not None:
        return refused
    deposited = events.FundsDeposited(
        at_ns=now_ns,
        user_id=command.user_id,
        asset_id=command.asset_id,
        amount_minor=command.amount_minor,
        reference=command.reference,
    )
    return (*opened_if_missing(command.user_id, state, now_ns), deposited)


def decide_withdraw(command: commands.WithdrawFunds, state: LedgerState, now_ns: int) -> Decision:
    """Funds to the outside, from what is available or mined; a reference is booked once."""
    refused = _check_transfer(command, state)
    if refused is not None:
        return refused
    settled = settled_for(
        command.user_id, command.asset_id, command.amount_minor, state, now_ns, freed_minor=0
    )
    if isinstance(settled, Rejection):
        return settled
    withdrawn = events.FundsWithdrawn(
        at_ns=now_ns,
        user_id=command.user_id,
        asset_id=command.asset_id,
        amount_minor=command.amount_minor,
        reference=command.reference,
    )
    return (*settled, withdrawn)


def _check_transfer(
    command: commands.DepositFunds | commands.WithdrawFunds, state: LedgerState
) -> Rejection | None:
    refused = check_amount("amount_minor", command.amount_minor)
    if refused is not None:
        return refused
    if command.asset_id not in state.asset_scales:
        return Rejection(RejectionCode.UNKNOWN_ASSET, {"asset_id": command.asset_id})
    # Before the account: whoever sends a booked one again hears that it is, whatever came after.
    if command.reference in state.references:
        return Rejection(RejectionCode.DUPLICATE_REFERENCE, {"reference": command.reference})
    if isinstance(command, commands.WithdrawFunds):
        return check_account(command.user_id, state)
    return None


def decide_settle(command: commands.SettleAccrual, state: LedgerState, now_ns: int) -> Decision:
    """Pay out what has accrued; refused when that is less than one minor unit."""
    assert state.mining is not None
    refused = check_account(command.user_id, state)
    if refused is not None:
        return refused
    settled = contributions.settle(state.contributions, state.mining, command.user_id, now_ns)
    if settled is None:
        return Rejection(RejectionCode.NOTHING_TO_SETTLE, {"user_id": command.user_id})
    return (settled,)


def settled_for(
    user_id: str,
    asset_id: str,
    needed_minor: int,
    state: LedgerState,
    now_ns: int,
    *,
    freed_minor: int,
) -> tuple[events.AccrualSettled, ...] | Rejection:
    """The settlement that lets the user pay needed_minor, none if there is enough already.

    freed_minor: what the same command releases of this asset before it pays.
    """
    available = state.accounts.available_minor(user_id, asset_id) + freed_minor
    if available >= needed_minor:
        return ()
    assert state.mining is not None
    if asset_id == state.mining.asset_id:
        settled = contributions.settle(state.contributions, state.mining, user_id, now_ns)
        if settled is not None and available + settled.amount_minor >= needed_minor:
            return (settled,)
    return Rejection(
        RejectionCode.INSUFFICIENT_FUNDS,
        {"asset_id": asset_id, "needed_minor": needed_minor, "available_minor": available},
    )
