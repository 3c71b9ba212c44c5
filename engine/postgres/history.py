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
from engine.postgres.indexing import positions_sql
from schemas.codecs import decode_event
from schemas.events import AssetBurned, OrderCancelled, OrderPlaced, OrderReduced, TradeExecuted
from schemas.history import order_key, stream_key, trade_key, user_key

# OFFSET 0 keeps the planner from joining the other way round, by a scan of the events.
PAGE_SQL = (
    f"SELECT event.* FROM ({positions_sql(key='$1', after='$2', limit='$3')}) AS found"
    " CROSS JOIN LATERAL (SELECT notification_id, originator_id, state, hash FROM ledger_events"
    " WHERE notification_id = found.position OFFSET 0) AS event ORDER BY notification_id"
)
_PAGE = Statement(b"history", PAGE_SQL.encode(), [binary.INT8_OID] * 3)
_NEXT = Statement(
    b"next",
    b"SELECT notification_id, originator_id, state, hash FROM ledger_events"
    b" WHERE notification_id = $1 + 1",
    [binary.INT8_OID],
)


class HistoryPage(NamedTuple):
    """events: oldest first. after: where the next page begins, None if this is the last."""

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
        stream = f"user:{user_id}"

        def is_users(logged: LoggedEvent) -> bool:
            if logged.stream_id == stream:
                return True
            event = decode_event(logged.payload)
            return isinstance(event, TradeExecuted) and user_id in (event.buyer_id, event.seller_id)

        return await self._page(user_key(user_id), after, limit, is_users)

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

    async def of_stream(self, stream_id: str, *, after: int = 0, limit: int) -> HistoryPage:
        """One stream of schemas.streams; of a user's, without the trades."""

        def is_in_stream(logged: LoggedEvent) -> bool:
            return logged.stream_id == stream_id

        return await self._page(stream_key(stream_id), after, limit, is_in_stream)

    async def _page(
        self, key: int, after: int, limit: int, is_wanted: Callable[[LoggedEvent], bool]
    ) -> HistoryPage:
        found = await self._rows(_PAGE, [binary.int8(number) for number in (key, after, limit)])
        next_after = found[-1].position if len(found) == limit else None
        return HistoryPage([logged for logged in found if is_wanted(logged)], next_after)

    async def _rows(self, statement: Statement, parameters: list[bytes]) -> list[LoggedEvent]:
        if self._connection is None:
            raise StoreUnavailable("this history was not entered")
        result = await self._connection.run(statement, parameters)
        return self._connection.rows(result, LoggedEvent._make)


def _any(logged: LoggedEvent) -> bool:
    # The numbers of orders and trades are the keys: nothing else is found by them.
    return True
