"""Every change of a user's grants, from the log itself."""

from typing import Annotated

import msgspec

from gateway.access import Access, Scope
from gateway.endpoint import ITEMS_DEFAULT, Call, Endpoint, Limit, NoBody, Parameters
from gateway.errors import DatabaseUnavailable
from schemas import events
from schemas.publications import MS_NS
from schemas.wire import Page, WireCode
from schemas.wire_mining import GrantChange, GrantHistoryEntry, LedgerUserId

POSITION_MAX = (1 << 53) - 1
# A user's other events lie between: so many are looked at for one page, which may then be short.
EVENTS_AT_ONCE = 500
EVENTS_MAX = 1_000

Changed = events.ContributionGranted | events.ContributionAdjusted | events.ContributionExpired


class GrantHistoryOf(Parameters, frozen=True, kw_only=True):
    user_id: LedgerUserId
    limit: Limit = ITEMS_DEFAULT
    cursor: Annotated[
        int,
        msgspec.Meta(
            ge=1, le=POSITION_MAX, description="next_cursor of the page before: a position."
        ),
    ] = POSITION_MAX


async def list_history(call: Call[GrantHistoryOf, NoBody]) -> Page[GrantHistoryEntry]:
    """Granted, adjusted, revoked and expired, newest first.

    Read from the log, so it shows at once what was acknowledged. A page may have fewer items than
    the limit, even none, and still a next_cursor: the user did other things in between.
    """
    user_id, limit = call.subject(call.parameters.user_id), call.parameters.limit
    log = call.resources.log
    if log is None:
        raise DatabaseUnavailable(WireCode.HISTORY_UNAVAILABLE, "no log is configured")
    found: list[GrantHistoryEntry] = []
    before: int | None = call.parameters.cursor
    looked_at = 0
    while before is not None and len(found) <= limit and looked_at < EVENTS_MAX:
        page = await log.of_user_before(user_id, before=before, limit=EVENTS_AT_ONCE)
        found += [
            entry(position, event) for position, event in page.events if isinstance(event, Changed)
        ]
        before = page.after
        looked_at += EVENTS_AT_ONCE
    shown = found[:limit]
    if len(found) > limit:
        before = shown[-1].position
    return Page(items=tuple(shown), next_cursor=None if before is None else str(before))


def entry(position: int, event: Changed) -> GrantHistoryEntry:
    """The event as clients read it."""
    source, weight_before, weight, expires_second = None, 0, 0, None
    change: GrantChange
    match event:
        case events.ContributionGranted():
            change = "granted"
            source, weight = event.source, event.weight
            expires_second = event.expires_second
        case events.ContributionAdjusted():
            change = "adjusted" if event.weight else "revoked"
            weight_before, weight = event.weight_before, event.weight
            expires_second = event.expires_second
        case events.ContributionExpired():
            change, weight_before = "expired", event.weight
    return GrantHistoryEntry(
        position=position,
        time=event.at_ns // MS_NS,
        change=change,
        grant_id=event.grant_id,
        source=source,
        weight_before=str(weight_before),
        weight=str(weight),
        expires_second=expires_second,
        weight_after=str(event.weight_after),
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/contributions/{user_id}/history",
        handle=list_history,
        summary="every change of a user's grants",
        access=Access(Scope.READ, Scope.READ_OTHERS),
        parameters=GrantHistoryOf,
        answer=Page[GrantHistoryEntry],
    ),
)
