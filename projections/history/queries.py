"""Reads of the deep history for its users: what the API asks, each answered by an index.

Reads the views in schema public, which show the live generation. Pages are cut by position or
second, never inside one event or minute.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

from psycopg_pool import AsyncConnectionPool

from projections.history.mining_records import mining_records
from projections.history.schema import GENERATIONS_TABLE
from projections.history.store import LIVE, REACHING, translated, weight_change
from schemas.deep_history import (
    MINUTE_SECONDS,
    AllocationSpan,
    BurnRow,
    IndexMark,
    KlineRow,
    MiningRecord,
    Transaction,
    WeightChange,
)

CONNECTIONS_MAX = 4
ANSWER_MS_MAX = 5_000
CONNECTION_SECONDS_MAX = 3.0
POSITION_MAX = (1 << 63) - 1
# An event changes at most two assets of one user.
_ROWS_PER_EVENT = 2

_POSITION = f"SELECT position FROM {GENERATIONS_TABLE} WHERE state = '{LIVE}'"
_TRANSACTIONS = (
    "SELECT position, at_ns, user_id, type, asset_id, available_minor, held_minor, market_id,"
    " order_id, trade_id, reference, price_minor, quantity_minor, burned_minor"
    " FROM public.mining_transactions WHERE user_id = %s AND position < %s"
    " ORDER BY position DESC, asset_id LIMIT %s"
)
# How many rows a page of some of them looks through.
LOOKED_THROUGH_MAX = 10_000
_TRANSACTION_COLUMNS = _TRANSACTIONS.partition(" FROM ")[0].removeprefix("SELECT ")
# One statement, so that where the part ends and what is in it are of one moment.
_SOME_TRANSACTIONS = (
    f"WITH part AS (SELECT {_TRANSACTION_COLUMNS} FROM public.mining_transactions"
    " WHERE user_id = %(user)s AND position < %(before)s"
    f" ORDER BY position DESC, asset_id LIMIT {LOOKED_THROUGH_MAX})"
    " SELECT ends.lowest, ends.looked, wanted.* FROM"
    " (SELECT min(position) AS lowest, count(*) AS looked FROM part) AS ends LEFT JOIN"
    " (SELECT * FROM part WHERE (%(asset)s::text IS NULL OR asset_id = %(asset)s)"
    " AND (%(kind)s::text IS NULL OR type = %(kind)s)"
    " ORDER BY position DESC, asset_id LIMIT %(limit)s) AS wanted ON true"
    " ORDER BY wanted.position DESC, wanted.asset_id"
)
_KLINES = (
    "SELECT position, open_second, market_id, open, high, low, close, volume, quote_volume,"
    " trade_count, taker_buy_volume, taker_buy_quote_volume, burned, first_position, last_position"
    " FROM public.minute_klines WHERE market_id = %s AND open_second >= %s AND open_second < %s"
    " ORDER BY open_second LIMIT %s"
)
_BURNS = (
    "SELECT position, open_second, source, market_id, asset_id, burned_minor, trade_count,"
    " cumulative_minor FROM public.burn_records WHERE {whose}"
    " AND open_second >= %s AND open_second < %s ORDER BY open_second LIMIT %s"
)
_NEWEST_BURNS = (
    "SELECT position, open_second, source, market_id, asset_id, burned_minor, trade_count,"
    " cumulative_minor FROM public.burn_records WHERE market_id IS NULL AND asset_id = %s"
    " AND open_second < %s ORDER BY open_second DESC LIMIT %s"
)
_MARKS = (
    "SELECT position, open_second, index, allocated_minor FROM public.index_marks"
    " WHERE open_second >= %s AND open_second < %s ORDER BY open_second LIMIT %s"
)
_CHANGES = (
    "(SELECT position, from_second, user_id, weight, entry_index, entry_fraction, settled_minor"
    " FROM public.weight_changes WHERE user_id = %(user)s AND from_second < %(from)s"
    " ORDER BY from_second DESC, position DESC LIMIT 1)"
    " UNION ALL"
    " (SELECT DISTINCT ON (from_second / {width})"
    " position, from_second, user_id, weight, entry_index, entry_fraction, settled_minor"
    " FROM public.weight_changes WHERE user_id = %(user)s"
    " AND from_second >= %(from)s AND from_second < %(to)s"
    " ORDER BY from_second / {width}, from_second DESC, position DESC)"
)
# The last change of each minute, or of each second, and the last one before them all.
_CHANGES_BY_MINUTE = _CHANGES.format(width=MINUTE_SECONDS)
_CHANGES_BY_SECOND = _CHANGES.format(width=1)
# One statement, so that all three are of one moment.
_SPAN = (
    "SELECT (SELECT position FROM public.index_marks WHERE open_second <= %(before)s"
    " ORDER BY open_second DESC LIMIT 1),"
    " (SELECT position FROM public.index_marks WHERE open_second = %(last)s),"
    f" ({_POSITION})"
)
Row = TypeVar("Row")


class HistoryQueries:
    """A few connections as the reader. open() before use, close() at the end.

    Every read raises ViewsUnavailable if PostgreSQL does not answer.
    """

    def __init__(self, url: str) -> None:
        self._pool = AsyncConnectionPool(
            url,
            min_size=0,
            max_size=CONNECTIONS_MAX,
            timeout=CONNECTION_SECONDS_MAX,
            open=False,
            kwargs={
                **REACHING,
                "autocommit": True,
                "options": f"-c statement_timeout={ANSWER_MS_MAX}",
            },
        )

    async def open(self) -> None:
        """Connects when a read needs it, so that it works while PostgreSQL is away."""
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def position(self) -> int:
        """Of the last event that the live generation holds."""
        rows = await self._rows(_POSITION, ())
        return int(rows[0][0]) if rows else 0

    async def transactions(
        self, user_id: str, *, before: int = POSITION_MAX, limit: int
    ) -> list[Transaction]:
        """A user's newest rows before a position, newest first: `limit` or one more, because the
        rows of an event stay together.
        """
        rows = await self._rows(_TRANSACTIONS, (user_id, before, limit + _ROWS_PER_EVENT))
        kept = rows[:limit]
        kept += [row for row in rows[limit:] if kept and row[0] == kept[-1][0]]
        return [_transaction(row) for row in kept]

    async def some_transactions(
        self,
        user_id: str,
        *,
        before: int = POSITION_MAX,
        limit: int,
        asset_id: str | None,
        kind: str | None,
    ) -> tuple[list[Transaction], int | None]:
        """As transactions, of one asset or kind of event or both, among the LOOKED_THROUGH_MAX
        newest; and where the next page begins, None at the end.
        """
        asked = {"user": user_id, "before": before, "asset": asset_id, "kind": kind}
        rows = await self._rows(_SOME_TRANSACTIONS, {**asked, "limit": limit + _ROWS_PER_EVENT})
        lowest, looked = rows[0][:2]
        found = [row[2:] for row in rows if row[2] is not None]
        kept = found[:limit]
        kept += [row for row in found[limit:] if kept and row[0] == kept[-1][0]]
        if len(found) > len(kept):
            return [_transaction(row) for row in kept], kept[-1][0]
        if looked < LOOKED_THROUGH_MAX:
            return [_transaction(row) for row in kept], None
        # The other row of the last event may be below.
        return [_transaction(row) for row in kept if row[0] != lowest], lowest + 1

    async def minute_klines(
        self, market_id: str, *, from_second: int, to_second: int, limit: int
    ) -> list[KlineRow]:
        """Closed minutes that open in a period (`to_second` excluded), oldest first."""
        rows = await self._rows(_KLINES, (market_id, from_second, to_second, limit))
        return [KlineRow(*row[:3], *map(int, row[3:])) for row in rows]

    async def burn_records(
        self, market_id: str, *, from_second: int, to_second: int, limit: int
    ) -> list[BurnRow]:
        """Closed minutes of a market that open in a period, oldest first."""
        statement = _BURNS.format(whose="market_id = %s")
        rows = await self._rows(statement, (market_id, from_second, to_second, limit))
        return [_burn_row(row) for row in rows]

    async def reserve_burns(
        self, asset_id: str, *, from_second: int | None, to_second: int, limit: int
    ) -> list[BurnRow]:
        """Closed minutes of the reserve's burns that open in a period, oldest first; without
        from_second the newest `limit` before its end.
        """
        if from_second is None:
            newest = await self._rows(_NEWEST_BURNS, (asset_id, to_second, limit))
            return [_burn_row(row) for row in reversed(newest)]
        statement = _BURNS.format(whose="market_id IS NULL AND asset_id = %s")
        rows = await self._rows(statement, (asset_id, from_second, to_second, limit))
        return [_burn_row(row) for row in rows]

    async def mining_records(
        self, user_id: str, *, from_second: int, to_second: int, limit: int
    ) -> list[MiningRecord]:
        """The minutes that open in a period (`to_second` excluded) and are over, oldest first.

        Of every minute since genesis, also for a user who was not there yet.
        """
        opens = from_second // MINUTE_SECONDS * MINUTE_SECONDS
        # A minute that began before the period is left out, but its mark begins the next one.
        before_opens = opens if opens < from_second else opens - MINUTE_SECONDS
        # The changes are read after the marks, so that none is missing of a minute that is marked.
        marks = await self._marks(before_opens, to_second, limit + 1)
        before = None
        if marks and marks[0].open_second < from_second:
            before, *marks = marks
        marks = marks[:limit]
        if not marks:
            return []
        changes = await self._changes(user_id, marks[0].open_second, marks[-1].open_second)
        return mining_records(before, marks, changes)

    async def allocation_span(
        self, user_id: str, *, from_second: int, to_second: int
    ) -> AllocationSpan:
        """Of a period that is not empty (`to_second` excluded)."""
        opens = from_second // MINUTE_SECONDS * MINUTE_SECONDS
        places: dict[str, object] = {
            "before": opens - MINUTE_SECONDS,
            "last": (to_second - 1) // MINUTE_SECONDS * MINUTE_SECONDS,
        }
        # The changes are read after the positions, so that none is missing of a second before them.
        ((before, last, position),) = await self._rows(_SPAN, places)
        period: dict[str, object] = {"user": user_id, "from": from_second, "to": to_second}
        changes = await self._rows(_CHANGES_BY_SECOND, period)
        return AllocationSpan(
            first=(before or 0) + 1,
            last=last or position or 0,
            is_over=last is not None,
            changes=tuple(weight_change(row) for row in changes),
        )

    async def _marks(self, from_second: int, to_second: int, limit: int) -> list[IndexMark]:
        rows = await self._rows(_MARKS, (from_second, to_second, limit))
        return [IndexMark(*map(int, row)) for row in rows]

    async def _changes(self, user_id: str, first: int, last: int) -> list[WeightChange]:
        period = {"user": user_id, "from": first, "to": last + MINUTE_SECONDS}
        return [weight_change(row) for row in await self._rows(_CHANGES_BY_MINUTE, period)]

    async def _rows(
        self, statement: str, values: Sequence[object] | dict[str, object]
    ) -> list[Any]:
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(statement.encode(), values)
                return await cursor.fetchall()


def _transaction(row: Sequence[Any]) -> Transaction:
    position, at_ns, user_id, kind, asset_id, available, held, market_id, *rest = row
    order_id, trade_id, reference, *trade = rest
    return Transaction(
        position,
        at_ns,
        user_id,
        kind,
        asset_id,
        int(available),
        int(held),
        market_id,
        order_id,
        trade_id,
        reference,
        *(None if amount is None else int(amount) for amount in trade),
    )


def _burn_row(row: Sequence[Any]) -> BurnRow:
    position, opened, source, market_id, asset_id, burned, trades, cumulative = row
    return BurnRow(
        position, opened, source, market_id, asset_id, int(burned), trades, int(cumulative)
    )
