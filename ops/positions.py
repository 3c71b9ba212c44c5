"""How far each view has folded: the checkpoints in Redis, and waiting for them."""

import asyncio
import time
from collections.abc import Callable

from ops.errors import StackNotReady
from projections.redis_views import RedisViews
from schemas.records import POSTINGS_PARTITIONS
from schemas.views import ACCOUNTS, MARKET, MINING

POLL_SECONDS = 0.05
_PARTITIONS = {MARKET: 1, MINING: 1, ACCOUNTS: POSTINGS_PARTITIONS}


async def view_positions(redis_url: str) -> dict[str, int]:
    """Log position of every projection, by name; the lowest of its partitions, 0 if it has none."""
    positions = {}
    for projection, partitions in _PARTITIONS.items():
        store = RedisViews(projection, redis_url)
        try:
            stored = [await store.checkpoint(partition) for partition in range(partitions)]
        finally:
            await store.close()
        positions[projection] = min(checkpoint.position for checkpoint in stored)
    return positions


async def wait_for_views(
    redis_url: str,
    position: int,
    *,
    timeout_s: float,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Return when every projection has folded the log up to position.

    progress is told the lowest position. Raises StackNotReady after timeout_s without any progress.
    """
    lowest, moved_at = -1, time.monotonic()
    while lowest < position:
        positions = await view_positions(redis_url)
        if min(positions.values()) > lowest:
            lowest, moved_at = min(positions.values()), time.monotonic()
            progress(lowest)
        elif time.monotonic() - moved_at > timeout_s:
            raise StackNotReady(f"views stand still at {positions}, the log is at {position}")
        await asyncio.sleep(POLL_SECONDS)
