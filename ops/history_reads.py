"""The gateway's port to the deep history: the queries of projections.history, its faults in the
gateway's words.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

from gateway import errors
from gateway.ports import DeepHistory, TransactionPage
from ops.config import Config
from projections.errors import ViewsUnavailable
from projections.history.queries import HistoryQueries
from schemas.deep_history import AllocationSpan, BurnRow, MiningRecord


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns the faults of projections into the gateway's."""
    try:
        yield
    except ViewsUnavailable as exc:
        raise errors.ViewsUnavailable(str(exc)) from exc


class HistoryReads:
    """gateway.ports.DeepHistory."""

    def __init__(self, queries: HistoryQueries) -> None:
        self._queries = queries

    async def position(self) -> int:
        with translated():
            return await self._queries.position()

    async def transactions(
        self,
        user_id: str,
        *,
        before: int,
        limit: int,
        asset_id: str | None = None,
        kind: str | None = None,
    ) -> TransactionPage:
        with translated():
            if asset_id is None and kind is None:
                rows = await self._queries.transactions(user_id, before=before, limit=limit)
                return TransactionPage(rows, rows[-1].position if len(rows) >= limit else None)
            found = await self._queries.some_transactions(
                user_id, before=before, limit=limit, asset_id=asset_id, kind=kind
            )
            return TransactionPage(*found)

    async def reserve_burns(
        self, asset_id: str, *, from_second: int | None, to_second: int, limit: int
    ) -> Sequence[BurnRow]:
        with translated():
            return await self._queries.reserve_burns(
                asset_id, from_second=from_second, to_second=to_second, limit=limit
            )

    async def mining_records(
        self, user_id: str, *, from_second: int, to_second: int, limit: int
    ) -> Sequence[MiningRecord]:
        with translated():
            return await self._queries.mining_records(
                user_id, from_second=from_second, to_second=to_second, limit=limit
            )

    async def allocation_span(
        self, user_id: str, *, from_second: int, to_second: int
    ) -> AllocationSpan:
        with translated():
            return await self._queries.allocation_span(
                user_id, from_second=from_second, to_second=to_second
            )


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
