"""What mining allocated to a user in the past: by the minute, and by the second."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

import msgspec

from gateway.access import Access, Scope
from gateway.endpoint import ITEMS_DEFAULT, Call, Endpoint, Limit, NoBody, Reading, TimeMs
from gateway.errors import DatabaseUnavailable, Refusal, ViewsUnavailable
from gateway.mining_shares import opened_pool
from gateway.ports import DeepHistory
from gateway.reading import caught_up
from schemas import accrual
from schemas.amounts import format_amount
from schemas.deep_history import MINUTE_SECONDS, MiningRecord, WeightChange
from schemas.events import MiningAllocated
from schemas.rejections import RejectionCode
from schemas.views import HISTORY, MINING, PoolView
from schemas.wire import MiningMinute, Page, WireCode
from schemas.wire_mining import LedgerUserId, SecondAllocation

SECOND_MS: Final = 1_000
SECONDS_MAX: Final = 3_600
SECONDS_DEFAULT: Final = 60
_NO_WEIGHT: Final = WeightChange(0, 0, "", 0, 0, 0, 0)


class MinutesOf(Reading, frozen=True, kw_only=True):
    """from, to: `to` is not part of it; without `from` the newest `limit`. cursor: next_cursor of
    the page before, which takes the place of `from`. user_id: the caller if left out.
    """

    from_ms: TimeMs | None = msgspec.field(name="from", default=None)
    to_ms: TimeMs | None = msgspec.field(name="to", default=None)
    cursor: TimeMs | None = None
    limit: Limit = ITEMS_DEFAULT
    user_id: LedgerUserId | None = None

    @property
    def starts_ms(self) -> int | None:
        return self.from_ms if self.cursor is None else self.cursor


class SecondsOf(MinutesOf, frozen=True, kw_only=True):
    """As for records, by the second."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=SECONDS_MAX)] = SECONDS_DEFAULT


async def list_records(call: Call[MinutesOf, NoBody]) -> Page[MiningMinute]:
    """Minutes that are over, of every minute since genesis, oldest first; without `from` the newest
    ones. accrued is exactly the sum of the minute's seconds.
    """
    asked = call.parameters
    user_id, limit = call.subject(asked.user_id), asked.limit
    history = _history(call)
    await caught_up(call, HISTORY)
    pool = await opened_pool(call)
    stop = (pool.second + 1) // MINUTE_SECONDS * MINUTE_SECONDS
    if asked.to_ms is not None:
        stop = min(stop, _ceiling(asked.to_ms, MINUTE_SECONDS))
    start = stop - limit * MINUTE_SECONDS
    if asked.starts_ms is not None:
        start = _ceiling(asked.starts_ms, MINUTE_SECONDS)
    found = await history.mining_records(
        user_id, from_second=start, to_second=stop, limit=limit + 1
    )
    shown = found[:limit]
    has_more = len(found) > limit
    return Page(
        items=tuple(_minute(record, pool.scale) for record in shown),
        next_cursor=(
            str((shown[-1].open_second + MINUTE_SECONDS) * SECOND_MS) if has_more else None
        ),
    )


def _minute(record: MiningRecord, scale: int) -> MiningMinute:
    return MiningMinute(
        open_time=record.open_second * SECOND_MS,
        close_time=(record.open_second + MINUTE_SECONDS) * SECOND_MS - 1,
        weight=str(record.weight),
        accrued=format_amount(record.accrued_minor, scale),
        settled=format_amount(record.settled_minor, scale),
        cumulative=format_amount(record.cumulative_minor, scale),
    )


async def list_allocations(call: Call[SecondsOf, NoBody]) -> Page[SecondAllocation]:
    """What each second allocated to the user, of every second since genesis that is in the log,
    oldest first; without `from` the newest ones. Computed from the log's allocations and the
    user's weights, to the minor unit. Seconds that were archived answer not_found.
    """
    asked = call.parameters
    user_id = call.subject(asked.user_id)
    await caught_up(call, HISTORY)
    await caught_up(call, MINING)
    pool = await opened_pool(call)
    start, stop = _seconds(asked, pool)
    last = min(stop, start + asked.limit)
    if last <= start:
        return Page(items=())
    first = max(start - 1, pool.genesis_second)
    changes, allocated = await _allocated(call, user_id, first, last)
    index = 0
    if allocated and first < start:
        before, *allocated = allocated
        index = before.index
    items = tuple(by_second(allocated, changes, index, pool.scale))
    # The history may be a little behind the pool: a page that ends early ends the list for now.
    has_more = len(items) == last - start and last < stop
    return Page(items=items, next_cursor=str(last * SECOND_MS) if has_more else None)


def _seconds(asked: SecondsOf, pool: PoolView) -> tuple[int, int]:
    stop = pool.second + 1
    if asked.to_ms is not None:
        stop = min(stop, _ceiling(asked.to_ms, 1))
    start = stop - asked.limit
    if asked.starts_ms is not None:
        start = _ceiling(asked.starts_ms, 1)
    return max(start, pool.genesis_second), stop


async def _allocated(
    call: Call[Any, Any], user_id: str, first: int, stop: int
) -> tuple[Sequence[WeightChange], list["Allocated"]]:
    # Of the seconds from `first` on, none if the history does not reach it yet.
    log = call.resources.log
    if log is None:
        raise DatabaseUnavailable(WireCode.HISTORY_UNAVAILABLE, "no log is configured")
    span = await _history(call).allocation_span(user_id, from_second=first, to_second=stop)
    found = []
    if span.first <= span.last:
        logged = await log.allocations(first=span.first, last=span.last)
        found = [
            Allocated(position, event)
            for position, event in logged.events
            if isinstance(event, MiningAllocated) and first <= event.second < stop
        ]
    if found[0].event.second != first if found else span.is_over:
        raise Refusal(
            WireCode.NOT_FOUND,
            "These seconds were archived; ask for later ones, or for records by the minute.",
            {"first_second": found[0].event.second} if found else {},
        )
    return span.changes, found


class Allocated(msgspec.Struct, frozen=True, gc=False):
    """One second's event and where it is in the log."""

    position: int
    event: MiningAllocated

    @property
    def index(self) -> int:
        return self.event.index


def by_second(
    allocated: Sequence[Allocated], changes: Sequence[WeightChange], index: int, scale: int
) -> Iterator[SecondAllocation]:
    """One item for each second. index: after the second before the first.

    changes: as in AllocationSpan. What is allocated is the growth of what accrued since genesis,
    which a change of weight or a settlement leaves as it is.
    """
    at, state = 0, _NO_WEIGHT
    cumulative: int | None = None
    for one in allocated:
        event = one.event
        while at < len(changes) and changes[at].from_second < event.second:
            state = changes[at]
            at += 1
        if cumulative is None:
            cumulative = _accrued(state, index)
        while at < len(changes) and changes[at].from_second <= event.second:
            state = changes[at]
            at += 1
        accrued = _accrued(state, event.index)
        yield SecondAllocation(
            second=event.second,
            reward=format_amount(event.reward_minor, scale),
            weight=str(state.weight),
            weight_total=str(event.weight_total),
            amount=format_amount(accrued - cumulative, scale),
            cumulative=format_amount(accrued, scale),
            index=str(event.index),
            position=one.position,
        )
        cumulative = accrued


def _accrued(state: WeightChange, index: int) -> int:
    return state.settled_minor + accrual.accrued_minor(
        weight=state.weight,
        index=index,
        entry_index=state.entry_index,
        entry_fraction=state.entry_fraction,
    )


def _history(call: Call[Any, Any]) -> DeepHistory:
    if call.resources.history is None:
        raise ViewsUnavailable("no history is configured")
    return call.resources.history


def _ceiling(at_ms: int, seconds: int) -> int:
    # The first second at or after a time that opens a period of so many seconds.
    return -(-at_ms // (seconds * SECOND_MS)) * seconds


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/mining/records",
        handle=list_records,
        summary="a user's mining by the minute",
        access=Access(Scope.READ, Scope.READ_OTHERS),
        parameters=MinutesOf,
        answer=Page[MiningMinute],
        refuses=(RejectionCode.LEDGER_NOT_OPEN,),
    ),
    Endpoint(
        method="GET",
        path="/v1/mining/allocations",
        handle=list_allocations,
        summary="a user's mining by the second",
        access=Access(Scope.READ, Scope.READ_OTHERS),
        parameters=SecondsOf,
        answer=Page[SecondAllocation],
        refuses=(RejectionCode.LEDGER_NOT_OPEN, WireCode.NOT_FOUND),
    ),
)
