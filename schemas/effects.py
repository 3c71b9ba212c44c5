"""What an event means for one user: a line of the topic ledger.postings.

A user's effects all go to one partition, in the log's order, so per-user folds scale by partition.
"""

import zlib
from typing import Literal

import msgspec

from schemas.events import CancelReason, OrderType, Side, TimeInForce


class BalanceChange(msgspec.Struct, frozen=True, array_like=True):
    """Signed minor units added to the user's available and held accounts of one asset."""

    asset_id: str
    available_minor: int
    held_minor: int


class ContributionChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """weight_delta: signed. settled_minor: paid out by this event. entry_*: where accrual restarts.

    grant_id: of the grant that came, changed or went, if any; grant_weight: its weight from now on,
    0 when it is over. source: only of a grant that came; a change keeps it.
    """

    weight_delta: int = 0
    settled_minor: int = 0
    entry_index: int
    entry_fraction: int
    grant_id: str | None = None
    grant_weight: int = 0
    source: str | None = None
    expires_second: int | None = None


class OrderTerms(msgspec.Struct, frozen=True, array_like=True):
    """What was placed. price_minor: None for market orders."""

    client_order_id: str
    market_id: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    post_only: bool
    price_minor: int | None


class OrderChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """leaves_minor: what the order wants from now on, in base; 0 when it is over.

    terms: of an order that was just placed. cancelled: why it is over, unless it was filled.
    """

    order_id: int
    leaves_minor: int = 0
    terms: OrderTerms | None = None
    cancelled: CancelReason | None = None


class Fill(msgspec.Struct, frozen=True, array_like=True):
    """The user's side of a trade; its order is the effect's `order`.

    fee_minor: of what the side receives: base for a buy, quote for a sale.
    burned_minor: of the trade's quantity.
    """

    trade_id: int
    market_id: str
    side: Side
    role: Literal["maker", "taker"]
    price_minor: int
    quantity_minor: int
    quote_minor: int
    fee_minor: int
    burned_minor: int


class UserEffect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """event_type: tag of the event at `position`. balances: empty if the event moved nothing.

    order: what the event did to one of the user's orders; fill: the trade that did it.
    frozen_for: the reason, of an event that froze the account.
    """

    position: int
    at_ns: int
    user_id: str
    event_type: str
    balances: tuple[BalanceChange, ...] = ()
    contribution: ContributionChange | None = None
    order: OrderChange | None = None
    fill: Fill | None = None
    frozen_for: str | None = None


encode_effect = msgspec.json.Encoder().encode
effect_decoder = msgspec.json.Decoder(UserEffect)
decode_effect = effect_decoder.decode


def partition_of(user_id: str, partition_count: int) -> int:
    """The partition of a user's effects: CRC-32 of the UTF-8 id, modulo partition_count."""
    return zlib.crc32(user_id.encode()) % partition_count
