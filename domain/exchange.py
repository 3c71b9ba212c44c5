"""Orders: validation, funds, matching by price and time. Decides only; domain.ledger evolves.

A taker meets the best opposite price first and, within a price, the oldest order; it trades at the
maker's price. Each trade burns floor(quantity x burn_bps / 10000) of the base asset out of what the
seller hands over.
"""

from typing import NamedTuple

from domain import contributions
from domain.book import Order
from domain.state import LedgerState, Market
from schemas.commands import CancelOrder, PlaceOrder
from schemas.events import (
    AccrualSettled,
    AssetBurned,
    LedgerEvent,
    OrderCancelled,
    OrderPlaced,
    TradeExecuted,
)
from schemas.rejections import Rejection, RejectionCode

QUANTITY_MINOR_MAX = 10**36
PRICE_MINOR_MAX = 10**36


class Fill(NamedTuple):
    """One meeting of the taker with a maker."""

    maker: Order
    price_minor: int
    quantity_minor: int


def decide_place(
    command: PlaceOrder, state: LedgerState, now_ns: int
) -> tuple[LedgerEvent, ...] | Rejection:
    """Events of one order from placement to its trades; a limit GTC remainder stays on the book."""
    refused = _check_order(command, state)
    if refused is not None:
        return refused
    market = state.markets[command.market_id]
    fills = _fills(command, market)
    filled = sum(fill.quantity_minor for fill in fills)
    if command.time_in_force == "fok" and filled < command.quantity_minor:
        return Rejection(RejectionCode.WOULD_NOT_FILL, {"fillable_minor": filled})
    if command.order_type == "market" and filled == 0:
        return Rejection(RejectionCode.NO_LIQUIDITY, {"market_id": command.market_id})
    placed = _placed(command, state, market, fills, now_ns)
    settled = _fund(placed, state, now_ns)
    if isinstance(settled, Rejection):
        return settled
    events: list[LedgerEvent] = [*settled, placed]
    _append_trades(events, placed, fills, state, market)
    leaves = command.quantity_minor - filled
    rests = command.order_type == "limit" and command.time_in_force == "gtc"
    if leaves and not rests:
        events.append(_unfilled(placed, leaves, market))
    return tuple(events)


def decide_cancel(
    command: CancelOrder, state: LedgerState, now_ns: int
) -> tuple[LedgerEvent, ...] | Rejection:
    """Release what an open order of this user still holds."""
    order = state.orders.get(command.order_id)
    if order is None or order.user_id != command.user_id:
        return Rejection(RejectionCode.UNKNOWN_ORDER, {"order_id": command.order_id})
    return (
        OrderCancelled(
            at_ns=now_ns,
            order_id=order.order_id,
            user_id=order.user_id,
            market_id=order.market_id,
            reason="requested",
            leaves_minor=order.leaves_minor,
            released_asset=order.held_asset,
            released_minor=order.held_minor,
        ),
    )


def _check_order(command: PlaceOrder, state: LedgerState) -> Rejection | None:
    price, quantity = command.price_minor, command.quantity_minor
    if not 0 < quantity <= QUANTITY_MINOR_MAX:
        return Rejection(RejectionCode.INVALID_AMOUNT, {"quantity_minor": quantity})
    if price is not None and not 0 < price <= PRICE_MINOR_MAX:
        return Rejection(RejectionCode.INVALID_AMOUNT, {"price_minor": price})
    if (price is None) != (command.order_type == "market"):
        return Rejection(RejectionCode.INVALID_ORDER, {"price_minor": "limit orders only"})
    market = state.markets.get(command.market_id)
    if market is None:
        return Rejection(RejectionCode.UNKNOWN_MARKET, {"market_id": command.market_id})
    if price is not None and price % market.spec.tick_minor:
        return Rejection(RejectionCode.PRICE_OFF_TICK, {"tick_minor": market.spec.tick_minor})
    if quantity % market.spec.lot_minor:
        return Rejection(RejectionCode.QUANTITY_OFF_LOT, {"lot_minor": market.spec.lot_minor})
    if command.user_id not in state.open_accounts:
        return Rejection(RejectionCode.UNKNOWN_ACCOUNT, {"user_id": command.user_id})
    placed = state.client_orders.get((command.user_id, command.client_order_id))
    if placed is not None:
        return Rejection(RejectionCode.DUPLICATE_CLIENT_ORDER_ID, {"order_id": placed})
    return None


def _fills(command: PlaceOrder, market: Market) -> list[Fill]:
    fills: list[Fill] = []
    leaves, limit = command.quantity_minor, command.price_minor
    for price_minor, maker in market.book.opposite(command.side).queue():
        if leaves == 0 or (limit is not None and not _crosses(command.side, limit, price_minor)):
            break
        quantity = min(leaves, maker.leaves_minor)
        fills.append(Fill(maker, price_minor, quantity))
        leaves -= quantity
    return fills


def _crosses(taker_side: str, limit_minor: int, maker_price_minor: int) -> bool:
    if taker_side == "buy":
        return maker_price_minor <= limit_minor
    return maker_price_minor >= limit_minor


def _placed(
    command: PlaceOrder, state: LedgerState, market: Market, fills: list[Fill], now_ns: int
) -> OrderPlaced:
    # A limit order holds its worst case; a market buy holds exactly what its fills cost.
    if command.side == "sell":
        held_asset, held = market.spec.base_asset, command.quantity_minor
    elif command.price_minor is not None:
        held_asset = market.spec.quote_asset
        held = market.quote_minor(command.price_minor, command.quantity_minor)
    else:
        held_asset = market.spec.quote_asset
        held = sum(market.quote_minor(f.price_minor, f.quantity_minor) for f in fills)
    return OrderPlaced(
        at_ns=now_ns,
        order_id=state.order_id_last + 1,
        client_order_id=command.client_order_id,
        user_id=command.user_id,
        market_id=command.market_id,
        side=command.side,
        order_type=command.order_type,
        time_in_force=command.time_in_force,
        price_minor=command.price_minor,
        quantity_minor=command.quantity_minor,
        held_asset=held_asset,
        held_minor=held,
    )


def _fund(
    placed: OrderPlaced, state: LedgerState, now_ns: int
) -> tuple[AccrualSettled, ...] | Rejection:
    """The settlement that lets the order be paid for, if it needs one."""
    available = state.accounts.available_minor(placed.user_id, placed.held_asset)
    if available >= placed.held_minor:
        return ()
    if state.mining is not None and placed.held_asset == state.mining.asset_id:
        settled = contributions.settle(state.contributions, state.mining, placed.user_id, now_ns)
        if settled is not None and available + settled.amount_minor >= placed.held_minor:
            return (settled,)
    return Rejection(
        RejectionCode.INSUFFICIENT_FUNDS,
        {
            "asset_id": placed.held_asset,
            "needed_minor": placed.held_minor,
            "available_minor": available,
        },
    )


def _append_trades(
    events: list[LedgerEvent],
    placed: OrderPlaced,
    fills: list[Fill],
    state: LedgerState,
    market: Market,
) -> None:
    leaves = placed.quantity_minor
    burned_total = state.burned_minor.get(market.spec.base_asset, 0)
    for number, fill in enumerate(fills, start=state.trade_id_last + 1):
        leaves -= fill.quantity_minor
        trade = _trade(placed, fill, market, trade_id=number, taker_leaves_minor=leaves)
        events.append(trade)
        if trade.burned_minor:
            burned_total += trade.burned_minor
            events.append(
                AssetBurned(
                    at_ns=trade.at_ns,
                    asset_id=trade.base_asset,
                    user_id=trade.seller_id,
                    market_id=trade.market_id,
                    trade_id=trade.trade_id,
                    amount_minor=trade.burned_minor,
                    burned_total_minor=burned_total,
                )
            )


def _trade(
    placed: OrderPlaced, fill: Fill, market: Market, *, trade_id: int, taker_leaves_minor: int
) -> TradeExecuted:
    buying = placed.side == "buy"
    quote = market.quote_minor(fill.price_minor, fill.quantity_minor)
    # Only a taking limit buy can hold more than it pays; a resting one trades at its own price.
    refund = 0
    if buying and placed.price_minor is not None:
        refund = market.quote_minor(placed.price_minor, fill.quantity_minor) - quote
    return TradeExecuted(
        at_ns=placed.at_ns,
        trade_id=trade_id,
        market_id=placed.market_id,
        base_asset=market.spec.base_asset,
        quote_asset=market.spec.quote_asset,
        price_minor=fill.price_minor,
        quantity_minor=fill.quantity_minor,
        quote_minor=quote,
        burned_minor=market.burn_minor(fill.quantity_minor),
        refund_minor=refund,
        taker_side=placed.side,
        buyer_id=placed.user_id if buying else fill.maker.user_id,
        seller_id=fill.maker.user_id if buying else placed.user_id,
        maker_order_id=fill.maker.order_id,
        taker_order_id=placed.order_id,
        maker_leaves_minor=fill.maker.leaves_minor - fill.quantity_minor,
        taker_leaves_minor=taker_leaves_minor,
    )


def _unfilled(placed: OrderPlaced, leaves_minor: int, market: Market) -> OrderCancelled:
    if placed.side == "sell":
        released = leaves_minor
    elif placed.price_minor is not None:
        released = market.quote_minor(placed.price_minor, leaves_minor)
    else:
        released = 0
    return OrderCancelled(
        at_ns=placed.at_ns,
        order_id=placed.order_id,
        user_id=placed.user_id,
        market_id=placed.market_id,
        reason="unfilled",
        leaves_minor=leaves_minor,
        released_asset=placed.held_asset,
        released_minor=released,
    )
