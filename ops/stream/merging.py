"""How a channel's state follows from its snapshot and the publications after it; pure.

A publication of a state channel holds the top-level fields that changed since the one before, in
`prices` the entries that changed; of depth the levels that changed. Of account and balance it is
the whole state. trades and burns have no state: each of their publications is a thing of its own.
"""

from decimal import Decimal
from typing import Any

from schemas.publications import Kline, MiningPool, Pulse, Ticker

PULSE, DEPTH, ACCOUNT, BALANCE = "pulse", "depth", "account", "balance"
ORDERED = frozenset({"trades", "burns"})
# What a whole publication holds; a pulse's second is its offset and may be left out.
WHOLE_FIELDS: dict[str, frozenset[str]] = {
    PULSE: frozenset(Pulse.__struct_fields__) - {"second"},
    "mining": frozenset(MiningPool.__struct_fields__),
    "ticker": frozenset(Ticker.__struct_fields__),
    "kline": frozenset(Kline.__struct_fields__),
}
PRIVATE = frozenset({ACCOUNT, BALANCE})

Levels = list[list[str]]


def kind_of(channel: str) -> str:
    """The word before the first dot: what decides how a channel is merged."""
    return channel.partition(".")[0]


def is_whole(kind: str, data: Any) -> bool:
    """Whether a publication says everything, whatever came before it."""
    fields = WHOLE_FIELDS.get(kind)
    return fields is None or (isinstance(data, dict) and fields <= data.keys())


def merged(kind: str, state: Any, data: Any, offset: int) -> Any:
    """The state after a publication; nothing given is changed. None: the kind has no state."""
    if kind in ORDERED:
        return None
    if kind == DEPTH:
        return {
            "bids": _folded(state["bids"], data["bids"], best_first=True),
            "asks": _folded(state["asks"], data["asks"], best_first=False),
        }
    if kind not in WHOLE_FIELDS:
        return data
    old = state or {}
    new = {**old, **data}
    if kind == PULSE:
        new["second"] = offset
        new["prices"] = {**old.get("prices", {}), **data.get("prices", {})}
    return new


def _folded(levels: Levels, changes: Levels, *, best_first: bool) -> Levels:
    by_price = {price: quantity for price, quantity in levels}
    for price, quantity in changes:
        if quantity == "0":
            by_price.pop(price, None)
        else:
            by_price[price] = quantity
    ranked = sorted(by_price, key=Decimal, reverse=best_first)
    return [[price, by_price[price]] for price in ranked]
