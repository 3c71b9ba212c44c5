"""Grants of all users by source, and those that end soon."""

from typing import Annotated

import msgspec

from gateway.access import Access, Scope
from gateway.endpoint import ITEMS_DEFAULT, Call, Endpoint, Limit, NoBody, Parameters, TimeMs
from schemas.wire import Page
from schemas.wire_mining import EndingGrant, Sources, SourceWeight

SECOND_MS = 1_000

EndingCursor = Annotated[
    str,
    msgspec.Meta(
        pattern="^[0-9]{1,13} [!-~]{1,64} [!-~]{1,64}$",
        description="next_cursor of the page before.",
    ),
]


class EndingBefore(Parameters, frozen=True, kw_only=True):
    """before: grants whose first second without the weight is before this."""

    before: TimeMs
    limit: Limit = ITEMS_DEFAULT
    cursor: EndingCursor | None = None


async def get_sources(call: Call[Parameters, NoBody]) -> Sources:
    """Weight and grants by source. All users are counted for it, every ten seconds at most."""
    resources = call.resources
    counted = await resources.census.counted(resources.views, resources.now_second())
    heaviest = sorted(counted.sources.items(), key=lambda one: (-one[1].weight, one[0]))
    return Sources(
        items=tuple(
            SourceWeight(
                source=source, weight=str(found.weight), grants=found.grants, users=found.users
            )
            for source, found in heaviest
        ),
        weight=str(sum(found.weight for _, found in heaviest)),
        counted_at=counted.at_second * SECOND_MS,
    )


async def list_ending(call: Call[EndingBefore, NoBody]) -> Page[EndingGrant]:
    """Grants in force that end before a time, soonest first. As fresh as the sources are."""
    resources, asked = call.resources, call.parameters
    counted = await resources.census.counted(resources.views, resources.now_second())
    place = (0, "", "")
    if asked.cursor is not None:
        second, user_id, grant_id = asked.cursor.split(" ")
        place = int(second), user_id, grant_id.rstrip("\n")
    found = [
        one
        for one in counted.ending_after(place, asked.limit + 1)
        if one.expires_second * SECOND_MS < asked.before
    ]
    shown = found[: asked.limit]
    last = shown[-1] if len(found) > asked.limit else None
    return Page(
        items=tuple(
            EndingGrant(
                user_id=one.user_id,
                grant_id=one.grant_id,
                source=one.source,
                weight=str(one.weight),
                expires_second=one.expires_second,
            )
            for one in shown
        ),
        next_cursor=(
            None if last is None else f"{last.expires_second} {last.user_id} {last.grant_id}"
        ),
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/contributions/sources",
        handle=get_sources,
        summary="weight and grants by source",
        access=Access(Scope.READ_OTHERS),
        answer=Sources,
    ),
    Endpoint(
        method="GET",
        path="/v1/contributions/expiring",
        handle=list_ending,
        summary="grants that end soon",
        access=Access(Scope.READ_OTHERS),
        parameters=EndingBefore,
        answer=Page[EndingGrant],
    ),
)
