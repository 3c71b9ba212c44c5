"""The one decide, the one tick and the one evolve: every command, second and event passes here.

The same evolve serves the engine, the rebuild and the audit. decide never mutates; evolve never
refuses, reads no clock, and changes the state in place.
"""

from collections.abc import Callable
from sys import intern
from typing import Any

from domain import (
    accounts,
    burning,
    contributions,
    exchange,
    funds,
    granting,
    mining,
    opening,
    trading,
)
from domain.checks import check_ids
from domain.postings import postings_of
from domain.state import LedgerState, Market
from schemas import commands, events
from schemas.rejections import Rejection, RejectionCode

Decision = tuple[events.LedgerEvent, ...] | Rejection


def decide(command: commands.LedgerCommand, state: LedgerState, now_ns: int) -> Decision:
    """Accept or refuse one command; the first failing rule wins. Appends nothing itself.

    now_ns: engine time, not before state.at_ns.
    """
    if isinstance(command, commands.OpenLedger):
        return opening.decide_ledger(command, state)
    if state.mining is None:
        return Rejection(RejectionCode.LEDGER_NOT_OPEN)
    refused = check_ids(command)
    if refused is not None:
        return refused
    return _DECIDE[type(command)](command, state, now_ns)


_DECIDE: dict[type[commands.Command], Callable[[Any, LedgerState, int], Decision]] = {
    commands.OpenMarket: opening.decide_market,
    commands.ConfigureMarket: opening.decide_configure,
    commands.HaltMarket: opening.decide_halt,
    commands.ResumeMarket: opening.decide_resume,
    commands.ScheduleEmission: opening.decide_emission,
    commands.ConfigureReserveBurn: opening.decide_reserve_burn,
    commands.OpenAccount: funds.decide_account,
    commands.FreezeAccount: funds.decide_freeze,
    commands.UnfreezeAccount: funds.decide_unfreeze,
    commands.DepositFunds: funds.decide_deposit,
    commands.WithdrawFunds: funds.decide_withdraw,
    commands.SettleAccrual: funds.decide_settle,
    commands.GrantContribution: granting.decide_grant,
    commands.AdjustContribution: granting.decide_adjust,
    commands.PlaceOrder: exchange.decide_place,
    commands.ReplaceOrder: exchange.decide_replace,
    commands.CancelOrder: exchange.decide_cancel,
    commands.CancelAllOrders: exchange.decide_cancel_all,
}


def tick(state: LedgerState, second: int) -> tuple[events.LedgerEvent, ...]:
    """Events of one second: expiries, the reserve burn of a new minute, then the allocation.

    Evolves the state as it goes. second: the one after the last allocated; the ledger is open.
    """
    assert state.mining is not None
    happened: list[events.LedgerEvent] = [
        *contributions.expire_due(state.contributions, state.mining, second)
    ]
    burned = burning.reserve_burn(state, second)
    if burned is not None:
        happened.append(burned)
    for event in happened:
        evolve(state, event)
    allocated = mining.allocate(state.mining, second)
    evolve(state, allocated)
    happened.append(allocated)
    return tuple(happened)


def evolve(state: LedgerState, event: events.LedgerEvent) -> LedgerState:
    """Apply one recorded event in place and return the state. Total over the events of a log."""
    accounts.evolve(state.accounts, postings_of(event))
    state.at_ns = event.at_ns
    _EVOLVE[type(event)](state, event)
    return state


def _pool(state: LedgerState) -> mining.Mining:
    assert state.mining is not None
    return state.mining


def _ledger_opened(state: LedgerState, event: events.LedgerOpened) -> None:
    state.mining = mining.opened(event)
    state.asset_scales = {asset.asset_id: asset.scale for asset in event.assets}


def _allocated(state: LedgerState, event: events.MiningAllocated) -> None:
    mining.evolve_allocated(_pool(state), event)
    contributions.forget_expiries(state.contributions, event.second)
    trading.forget_client_orders(state, event.second)


def _scheduled(state: LedgerState, event: events.EmissionScheduled) -> None:
    mining.evolve_scheduled(_pool(state), event)


def _granted(state: LedgerState, event: events.ContributionGranted) -> None:
    _pool(state).weight_total += event.weight
    contributions.evolve_granted(state.contributions, event)


def _adjusted(state: LedgerState, event: events.ContributionAdjusted) -> None:
    _pool(state).weight_total += event.weight - event.weight_before
    contributions.evolve_adjusted(state.contributions, event)


def _expired(state: LedgerState, event: events.ContributionExpired) -> None:
    _pool(state).weight_total -= event.weight
    contributions.evolve_expired(state.contributions, event)


def _settled(state: LedgerState, event: events.AccrualSettled) -> None:
    contributions.evolve_settled(state.contributions, event)


def _account_opened(state: LedgerState, event: events.AccountOpened) -> None:
    state.open_accounts.add(intern(event.user_id))


def _frozen(state: LedgerState, event: events.AccountFrozen) -> None:
    state.frozen_accounts.add(event.user_id)


def _unfrozen(state: LedgerState, event: events.AccountUnfrozen) -> None:
    state.frozen_accounts.remove(event.user_id)


def _transferred(state: LedgerState, event: events.FundsDeposited | events.FundsWithdrawn) -> None:
    state.references.add(event.reference)


def _market_opened(state: LedgerState, event: events.MarketOpened) -> None:
    state.markets[event.market_id] = Market(event, state.asset_scales[event.base_asset])


def _configured(state: LedgerState, event: events.MarketConfigured) -> None:
    state.markets[event.market_id].rules = event.rules


def _halted(state: LedgerState, event: events.MarketHalted) -> None:
    state.markets[event.market_id].is_halted = True


def _resumed(state: LedgerState, event: events.MarketResumed) -> None:
    state.markets[event.market_id].is_halted = False


def _reserve_configured(state: LedgerState, event: events.ReserveBurnConfigured) -> None:
    state.reserve_burn_minor = event.amount_minor


def _burned(state: LedgerState, event: events.AssetBurned) -> None:
    state.burned_minor[event.asset_id] = event.burned_total_minor


def _epoch_started(state: LedgerState, event: events.EpochStarted) -> None:
    """Marks the log; the ledger itself does not change."""


# Tables by type, not a match: evolve runs for every event of every replay. A test holds it
# complete.
_EVOLVE: dict[type[events.Event], Callable[[LedgerState, Any], None]] = {
    events.EpochStarted: _epoch_started,
    events.LedgerOpened: _ledger_opened,
    events.EmissionScheduled: _scheduled,
    events.MiningAllocated: _allocated,
    events.AccrualSettled: _settled,
    events.ContributionGranted: _granted,
    events.ContributionAdjusted: _adjusted,
    events.ContributionExpired: _expired,
    events.AccountOpened: _account_opened,
    events.AccountFrozen: _frozen,
    events.AccountUnfrozen: _unfrozen,
    events.FundsDeposited: _transferred,
    events.FundsWithdrawn: _transferred,
    events.MarketOpened: _market_opened,
    events.MarketConfigured: _configured,
    events.MarketHalted: _halted,
    events.MarketResumed: _resumed,
    events.ReserveBurnConfigured: _reserve_configured,
    events.OrderPlaced: trading.evolve_placed,
    events.OrderReduced: trading.evolve_reduced,
    events.OrderCancelled: trading.evolve_cancelled,
    events.TradeExecuted: trading.evolve_trade,
    events.AssetBurned: _burned,
}
