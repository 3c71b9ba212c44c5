"""Everything that happened to one user, order, trade or stream: indexed reads of the log, in pages.

The index holds digests of names, so each event is compared with what was asked for before it is
given out. What was archived is not found here.
"""

from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from engine.errors import StoreUnavailable
from engine.ports import LoggedEvent
from engine.postgres import binary
from engine.postgres.connection import LoopConnection, Statement
from engine.postgres.indexing import positions_before_sql, positions_sql
from schemas.codecs import decode_event
from schemas.events import AssetBurned, OrderCancelled, OrderPlaced, OrderReduced, TradeExecuted
from schemas.history import order_key, stream_key, trade_key, user_key
from schemas.streams import MINING_STREAM

# OFFSET 0 keeps the planner from joining the other way round, by a scan of the events.
PAGE_SQL = (
    f"SELECT event.* FROM ({positions_sql(key='$1', after='$2', limit='$3')}) AS found"
    " CROSS JOIN LATERAL (SELECT notification_id, originator_id, state, hash FROM ledger_events"
    " WHERE notification_id = found.position OFFSET 0) AS event ORDER BY notification_id"
)
PAGE_BEFORE_SQL = (
    f"SELECT event.* FROM ({positions_before_sql(key='$1', before='$2', limit='$3')}) AS found"
    " CROSS JOIN LATERAL (SELECT notification_id, originator_id, state, hash FROM ledger_events"
    " WHERE notification_id = found.position OFFSET 0) AS event ORDER BY notification_id DESC"
)
_PAGE_BEFORE = Statement(b"history_before", PAGE_BEFORE_SQL.encode(), [binary.INT8_OID] * 3)
_PAGE = Statement(b"history", PAGE_SQL.encode(), [binary.INT8_OID] * 3)
# Of the mining stream every second is a position: only the index rows of the period are opened.
_ALLOCATIONS = Statement(
    b"allocations",
    (
        b"SELECT event.* FROM (SELECT DISTINCT position FROM ("
        b"(SELECT unnest(positions) AS position FROM ledger_history WHERE key = $1"
        b" AND last_position >= $2 AND last_position <= coalesce((SELECT last_position"
        b" FROM ledger_history WHERE key = $1 AND last_position >= $3"
        b" ORDER BY last_position LIMIT 1), 9223372036854775807))"
        b" UNION ALL SELECT first_position + i"
        b" FROM ledger_history_recent, unnest(keys, indexes) AS entry(k, i)"
        b" WHERE $1 = ANY (keys) AND k = $1) AS entries"
        b" WHERE position BETWEEN $2 AND $3 ORDER BY position LIMIT $4) AS found"
        b" CROSS JOIN LATERAL (SELECT notification_id, originator_id, state, hash"
        b" FROM ledger_events WHERE notification_id = found.position OFFSET 0) AS event"
        b" ORDER BY notification_id"
    ),
    [binary.INT8_OID] * 4,
)
_NEXT = Statement(
    b"next",
    b"SELECT notification_id, originator_id, state, hash FROM ledger_events"
    b" WHERE notification_id = $1 + 1",
    [binary.INT8_OID],
)


class HistoryPage(NamedTuple):
    """events: oldest first, of a page before a position newest first. after: where the next page
    begins, None if this is the last.
    """

    events: list[LoggedEvent]
    after: int | None


class LedgerHistory:
    """An async context manager around one connection; for one task at a time.

    A page has at most `limit` events, after a position. Every method raises StoreUnavailable if
    PostgreSQL does not answer.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: LoopConnection | None = None

    async def __aenter__(self) -> "LedgerHistory":
        self._connection = await LoopConnection.open(self._url, autocommit=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    async def of_user(self, user_id: str, *, after: int = 0, limit: int) -> HistoryPage:
        """What is in the user's own stream, and the user's trades."""
        return await self._page(user_key(user_id), after, limit, _is_users(user_id))

    async def of_user_before(self, user_id: str, *, before: int, limit: int) -> HistoryPage:
        """The same from the newest back; `after` is the next page's `before`."""
        return await self._page_before(user_key(user_id), before, limit, _is_users(user_id))

    async def of_order(self, order_id: int, *, after: int = 0, limit: int) -> HistoryPage:
        """Placed, reduced, traded as maker or taker, cancelled.

        They are picked out of the user's history from the placing on, `limit` of that at a time:
        a page may be empty and not the last.
        """
        placed = (await self._page(order_key(order_id), 0, 1, _any)).events
        if not placed:
            return HistoryPage([], None)

        def is_orders(logged: LoggedEvent) -> bool:
            match decode_event(logged.payload):
                case OrderPlaced() | OrderReduced() | OrderCancelled() as event:
                    return event.order_id == order_id
                case TradeExecuted() as trade:
                    return order_id in (trade.maker_order_id, trade.taker_order_id)
                case _:
                    return False

        user_id = placed[0].stream_id.removeprefix("user:")
        start = max(after, placed[0].position - 1)
        return await self._page(user_key(user_id), start, limit, is_orders)

    async def of_trade(self, trade_id: int) -> list[LoggedEvent]:
        """The trade and its burn, if it has one; none if there is no such trade."""
        found = (await self._page(trade_key(trade_id), 0, 1, _any)).events
        if not found:
            return []
        after = binary.int8(found[0].position)
        for logged in await self._rows(_NEXT, [after]):
            event = decode_event(logged.payload)
            if isinstance(event, AssetBurned) and event.trade_id == trade_id:
                found.append(logged)
        return found

    async def placement(self, order_id: int) -> LoggedEvent | None:
        """The event that an order began with."""
        found = (await self._page(order_key(order_id), 0, 1, _any)).events
        return found[0] if found else None

    async def of_stream_before(self, stream_id: str, *, before: int, limit: int) -> HistoryPage:
        """One stream as of_stream has it, from the newest back."""
        return await self._page_before(
            stream_key(stream_id), before, limit, lambda logged: logged.stream_id == stream_id
        )

    async def of_stream(self, stream_id: str, *, after: int = 0, limit: int) -> HistoryPage:
        """One stream of schemas.streams; of a user's, without the trades."""

        def is_in_stream(logged: LoggedEvent) -> bool:
            return logged.stream_id == stream_id

        return await self._page(stream_key(stream_id), after, limit, is_in_stream)

    async def allocations(self, *, first: int, last: int, limit: int) -> list[LoggedEvent]:
        """The mining_allocated events at positions first to last, oldest first, `limit` at most."""
        numbers = (stream_key(MINING_STREAM), first, last, limit)
        found = await self._rows(_ALLOCATIONS, [binary.int8(number) for number in numbers])
        return [logged for logged in found if logged.stream_id == MINING_STREAM]

    async def _page(
        self, key: int, after: int, limit: int, is_wanted: Callable[[LoggedEvent], bool]
    ) -> HistoryPage:
        found = await self._rows(_PAGE, [binary.int8(number) for number in (key, after, limit)])
        next_after = found[-1].position if len(found) == limit else None
        return HistoryPage([logged for logged in found if is_wanted(logged)], next_after)

    async def _page_before(
        self, key: int, before: int, limit: int, is_wanted: Callable[[LoggedEvent], bool]
    ) -> HistoryPage:
        numbers = [binary.int8(number) for number in (key, before, limit)]
        found = await self._rows(_PAGE_BEFORE, numbers)
        next_before = found[-1].position if len(found) == limit else None
        return HistoryPage([logged for logged in found if is_wanted(logged)], next_before)

    async def _rows(self, statement: Statement, parameters: list[bytes]) -> list[LoggedEvent]:
        if self._connection is None:
            raise StoreUnavailable("this history was not entered")
        result = await self._connection.run(statement, parameters)
        return self._connection.rows(result, LoggedEvent._make)


def _is_users(user_id: str) -> Callable[[LoggedEvent], bool]:
    stream = f"user:{user_id}"

    def is_users(logged: LoggedEvent) -> bool:
        if logged.stream_id == stream:
            return True
        event = decode_event(logged.payload)
        return isinstance(event, TradeExecuted) and user_id in (event.buyer_id, event.seller_id)

    return is_users


def _any(logged: LoggedEvent) -> bool:
    # The numbers of orders and trades are the keys: nothing else is found by them.
    return True
