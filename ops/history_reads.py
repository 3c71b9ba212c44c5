"""The gateway's port to the deep history: the queries of projections.history, its faults in the
gateway's words.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence

from gateway import errors
from gateway.ports import DeepHistory
from ops.config import Config
from projections.errors import ViewsUnavailable
from projections.history.queries import HistoryQueries
from schemas.deep_history import MiningRecord


class HistoryReads:
    """gateway.ports.DeepHistory."""

    def __init__(self, queries: HistoryQueries) -> None:
        self._queries = queries

    async def mining_records(
        self, user_id: str, *, from_second: int, to_second: int, limit: int
    ) -> Sequence[MiningRecord]:
        try:
            return await self._queries.mining_records(
                user_id, from_second=from_second, to_second=to_second, limit=limit
            )
        except ViewsUnavailable as exc:
            raise errors.ViewsUnavailable(str(exc)) from exc


@contextlib.asynccontextmanager
async def history_reads(config: Config) -> AsyncIterator[DeepHistory | None]:
    """None if no history is configured. PostgreSQL may be away: only its readers notice."""
    if not config.history_url:
        yield None
        return
    queries = HistoryQueries(config.history_url)
    await queries.open()
    try:
        yield HistoryReads(queries)
    finally:
        await queries.close()
