"""What the contribution and mining services say alike: the pool or its absence, shares of it, ranks
as cursors.
"""

from typing import Annotated, Any, Final

import msgspec

from gateway.endpoint import Call
from gateway.errors import Refusal
from schemas.amounts import format_amount
from schemas.rejections import RejectionCode
from schemas.views import PoolView
from schemas.wire_mining import PoolShare

PERCENT_DECIMALS: Final = 6
RANK_MAX: Final = 1 << 31

RankCursor = Annotated[
    int, msgspec.Meta(ge=0, le=RANK_MAX, description="next_cursor of the page before: a rank.")
]


async def opened_pool(call: Call[Any, Any]) -> PoolView:
    """The pool as of its last second. Raises Refusal(ledger_not_open) before genesis."""
    pool, _ = await call.resources.views.pool()
    if pool is None:
        raise Refusal(RejectionCode.LEDGER_NOT_OPEN, "The ledger has no second yet.")
    return pool


def weight_total(pool: PoolView | None) -> int:
    return pool.weight_total if pool else 0


def pool_share(weight: int, total: int) -> PoolShare | None:
    """None while nobody has a weight.

    The user and the pool are views of two projections, so weight may pass total for a moment.
    """
    if total <= 0:
        return None
    percent = weight * 100 * 10**PERCENT_DECIMALS // total
    return PoolShare(
        weight=str(weight),
        weight_total=str(total),
        percent=format_amount(percent, PERCENT_DECIMALS),
    )


def rank_after(start: int, limit: int, count: int) -> str | None:
    """The cursor behind a page of ranks; None if it reaches the last of `count`."""
    return str(start + limit) if start + limit < count else None
