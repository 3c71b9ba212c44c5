"""The one decide and the one evolve: every command and every event of the ledger passes here.

The same evolve serves the engine, the rebuild and the audit. decide never mutates; evolve never
refuses.
"""

from typing import assert_never

from domain import accounts, contributions, exchange, mining, opening
from domain.book import Order
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
    refused = opening.check_ids(command)
    if refused is not None:
        return refused
    match command:
        case commands.PlaceOrder():
            return exchange.decide_place(command, state, now_ns)
        case commands.CancelOrder():
            return exchange.decide_cancel(command, state, now_ns)
        case commands.DepositFunds():
            return opening.decide_deposit(command, state, now_ns)
        case commands.GrantContribution():
            return opening.decide_grant(command, state, now_ns)
        case commands.SettleAccrual():
            return opening.decide_settle(command, state, now_ns)
        case commands.OpenAccount():
            return opening.decide_account(command, state, now_ns)
        case commands.OpenMarket():
            return opening.decide_market(command, state, now_ns)
        case _:
            assert_never(command)


def tick(state: LedgerState, second: int) -> tuple[events.LedgerEvent, ...]:
    """Events of one second: expiries first, then its allocation. Evolves the state as it goes.

    second: the one after the last allocated; the state must be open.
    """
    assert state.mining is not None
    happened: list[events.LedgerEvent] = [
        *contributions.expire_due(state.contributions, state.mining, second)
    ]
    for event in happened:
        evolve(state, event)
    allocated = mining.allocate(state.mining, second)
    evolve(state, allocated)
    happened.append(allocated)
    return tuple(happened)


def evolve(state: LedgerState, event: events.LedgerEvent) -> LedgerState:
    """Apply one recorded event in place and return the state.

    Total: never refuses, reads no clock.
    """
    if isinstance(event, events.LedgerOpened):
        state.mining = mining.opened(event)
        state.asset_scales = {asset.asset_id: asset.scale for asset in event.assets}
    if state.mining is None:
        assert isinstance(event, events.EpochStarted), event
        state.at_ns = event.at_ns
        return state
    accounts.evolve(state.accounts, postings_of(event))
    state.at_ns = event.at_ns
    _evolve_parts(state, state.mining, event)
    return state


def _evolve_parts(state: LedgerState, pool: mining.Mining, event: events.LedgerEvent) -> None:
    match event:
        case events.MiningAllocated():
            mining.evolve_allocated(pool, event)
        case events.TradeExecuted():
            _evolve_trade(state, event)
        case events.OrderPlaced():
            _evolve_placed(state, event)
        case events.OrderCancelled():
            _close(state, state.orders[event.order_id])
        case events.AssetBurned():
            state.burned_minor[event.asset_id] = event.burned_total_minor
        case events.ContributionGranted():
            pool.weight_total += event.weight
            contributions.evolve_granted(state.contributions, event)
        case events.ContributionExpired():
            pool.weight_total -= event.weight
            contributions.evolve_expired(state.contributions, event)
        case events.AccrualSettled():
            contributions.evolve_settled(state.contributions, event)
        case events.FundsDeposited():
            state.references.add(event.reference)
        case events.AccountOpened():
            state.open_accounts.add(event.user_id)
        case events.MarketOpened():
            base_scale = state.asset_scales[event.base_asset]
            state.markets[event.market_id] = Market(event, base_scale)
        case events.EmissionScheduled():
            mining.evolve_scheduled(pool, event)
        case events.LedgerOpened() | events.EpochStarted():
            pass
        case _:
            assert_never(event)


def _evolve_placed(state: LedgerState, event: events.OrderPlaced) -> None:
    order = Order(
        order_id=event.order_id,
        user_id=event.user_id,
        market_id=event.market_id,
        side=event.side,
        price_minor=event.price_minor,
        leaves_minor=event.quantity_minor,
        held_asset=event.held_asset,
        held_minor=event.held_minor,
    )
    state.order_id_last = event.order_id
    state.client_orders[event.user_id, event.client_order_id] = event.order_id
    state.orders[event.order_id] = order
    # It enters the book at once; its own trades and cancellation, in the same batch, take it out
    # again.
    if event.price_minor is not None:
        state.markets[event.market_id].book.side(event.side).add(order, event.price_minor)


def _evolve_trade(state: LedgerState, event: events.TradeExecuted) -> None:
    state.trade_id_last = event.trade_id
    for order_id in (event.maker_order_id, event.taker_order_id):
        order = state.orders[order_id]
        order.leaves_minor -= event.quantity_minor
        if order.side == "sell":
            order.held_minor -= event.quantity_minor
        else:
            order.held_minor -= event.quote_minor
            if order_id == event.taker_order_id:
                order.held_minor -= event.refund_minor
        assert order.leaves_minor >= 0 <= order.held_minor, event
        if order.leaves_minor == 0:
            assert order.held_minor == 0, event
            _close(state, order)


def _close(state: LedgerState, order: Order) -> None:
    del state.orders[order.order_id]
    if order.price_minor is not None:
        side = state.markets[order.market_id].book.side(order.side)
        side.remove(order, order.price_minor)
