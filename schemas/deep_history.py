"""Rows of the deep history in PostgreSQL, under the specification's record names. Written by
projection history only.

Rows are never changed. `position` is the log position that made the row; of a minute it is the
first event beyond it, which closed it. Amounts are minor units, times engine time; `*_second` is a
Unix second. Weights, indexes and fractions are as in schemas.accrual.
"""

from typing import Final

import msgspec

from schemas.events import BurnSource

TRANSACTIONS: Final = "mining_transactions"
BURNS: Final = "burn_records"
KLINES: Final = "minute_klines"
WEIGHTS: Final = "weight_changes"
MARKS: Final = "index_marks"
MINUTE_SECONDS: Final = 60


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """One change of one user's balance of one asset (mining_transactions).

    type: tag of the event. An event may make two rows of a user, one for each asset.
    order_id: the user's own order, of a trade too. price, quantity, burned: of the trade.
    """

    position: int
    at_ns: int
    user_id: str
    type: str
    asset_id: str
    available_minor: int
    held_minor: int
    market_id: str | None = None
    order_id: int | None = None
    trade_id: int | None = None
    reference: str | None = None
    price_minor: int | None = None
    quantity_minor: int | None = None
    burned_minor: int | None = None


class BurnRow(msgspec.Struct, frozen=True, gc=False):
    """One closed minute's burns (burn_records), also if there was none.

    source trade: of a market, from the minute of its first trade on. source reserve: of the
    treasury's asset, from its first burn on; market_id is None and trade_count 0. cumulative_minor:
    of the market or the reserve, this minute included.
    """

    position: int
    open_second: int
    source: BurnSource
    market_id: str | None
    asset_id: str
    burned_minor: int
    trade_count: int
    cumulative_minor: int


class KlineRow(msgspec.Struct, frozen=True, gc=False):
    """One closed minute's candle (minute_klines): schemas.views.Candle, and whose it is.

    Dense from the minute of the market's first trade on.
    """

    position: int
    open_second: int
    market_id: str
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote_volume: int
    trade_count: int
    taker_buy_volume: int
    taker_buy_quote_volume: int
    burned: int
    first_position: int
    last_position: int


class WeightChange(msgspec.Struct, frozen=True, gc=False):
    """A user's contribution after one event (weight_changes).

    from_second: the first second that is allocated with it. settled_minor: paid out so far.
    """

    position: int
    from_second: int
    user_id: str
    weight: int
    entry_index: int
    entry_fraction: int
    settled_minor: int


class IndexMark(msgspec.Struct, frozen=True, gc=False):
    """The mining pool after the minute's last second (index_marks).

    position: of that second's allocation. allocated_minor: since genesis.
    """

    position: int
    open_second: int
    index: int
    allocated_minor: int


class AllocationSpan(msgspec.Struct, frozen=True, kw_only=True):
    """Where the log holds the allocations of a period of seconds, and what weighed in it.

    first, last: positions; all of the period, as far as the history reaches, is allocated between
    them. is_over: the period's last minute is in it. changes: of one
    user, oldest first; of each second the last one, and the last one before the period.
    """

    first: int
    last: int
    is_over: bool
    changes: tuple[WeightChange, ...]


class MiningRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One user's mining in one minute that is over. Computed, never stored.

    weight: that the minute's last second was allocated with. accrued_minor: allocated to the user
    in the minute. settled_minor: of it or of earlier minutes, paid out in the minute.
    cumulative_minor: accrued since genesis, this minute included.
    """

    open_second: int
    weight: int
    accrued_minor: int
    settled_minor: int
    cumulative_minor: int
