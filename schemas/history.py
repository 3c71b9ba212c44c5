"""Where to look an event up besides its stream: a placed order, a trade, and a user for trades.

Every other event of an order is in its user's history, which is the stream user:<id> and the trades
found here; the burn of a trade is the event after it. A key is a signed 64-bit integer, the kind in
its two highest bits. Orders and trades are numbered below 2^62; a user's key is a digest of the id,
so a reader compares the event's own fields.
"""

import hashlib
from functools import lru_cache

from schemas import events

_NUMBER_BITS = 62
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1
_ORDER, _TRADE, _USER, _STREAM = 0, 1, -2, -1
_USER_STREAM = "user:"


def order_key(order_id: int) -> int:
    return (_ORDER << _NUMBER_BITS) | order_id


def trade_key(trade_id: int) -> int:
    return (_TRADE << _NUMBER_BITS) | trade_id


@lru_cache(1 << 16)
def user_key(user_id: str) -> int:
    """Of the user's own stream and of events in other streams that are about the user."""
    return _digest_key(_USER, user_id)


def stream_key(stream_id: str) -> int:
    """Of every event, given by the store itself."""
    if stream_id.startswith(_USER_STREAM):
        return user_key(stream_id.removeprefix(_USER_STREAM))
    return _digest_key(_STREAM, stream_id)


def _digest_key(kind: int, name: str) -> int:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return (kind << _NUMBER_BITS) | (int.from_bytes(digest) & _NUMBER_MASK)


def history_keys(event: events.LedgerEvent) -> tuple[int, ...]:
    """Distinct keys of one event; none for most kinds."""
    if isinstance(event, events.OrderPlaced):
        return (order_key(event.order_id),)
    if isinstance(event, events.TradeExecuted):
        trade, buyer = trade_key(event.trade_id), user_key(event.buyer_id)
        if event.seller_id == event.buyer_id:
            return trade, buyer
        return trade, buyer, user_key(event.seller_id)
    return ()
