"""Where to look an event up besides its stream: by order, by trade, and by user for trades.

A key is a signed 64-bit integer, the kind in its two highest bits. Orders and trades are numbered
below 2^62; a user's key is a digest of the id, so a reader compares the event's own fields.
"""

import hashlib

from schemas import events

_NUMBER_BITS = 62
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1
_ORDER, _TRADE, _USER = 0, 1, -2


def order_key(order_id: int) -> int:
    return (_ORDER << _NUMBER_BITS) | order_id


def trade_key(trade_id: int) -> int:
    return (_TRADE << _NUMBER_BITS) | trade_id


def user_key(user_id: str) -> int:
    """Of events outside the user's own stream."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=8).digest()
    return (_USER << _NUMBER_BITS) | (int.from_bytes(digest) & _NUMBER_MASK)


def history_keys(event: events.LedgerEvent) -> tuple[int, ...]:
    """Distinct keys of one event; none for most kinds."""
    match event:
        case events.OrderPlaced() | events.OrderReduced() | events.OrderCancelled():
            return (order_key(event.order_id),)
        case events.TradeExecuted():
            return (
                order_key(event.maker_order_id),
                order_key(event.taker_order_id),
                trade_key(event.trade_id),
                user_key(event.buyer_id),
                *(() if event.seller_id == event.buyer_id else (user_key(event.seller_id),)),
            )
        case events.AssetBurned() if event.trade_id is not None:
            return (trade_key(event.trade_id),)
        case _:
            return ()
