"""Reads of contributions: one user's, all users by weight, the summary."""

from typing import Annotated

import msgspec

from gateway import (
    routes_contributions_census,
    routes_contributions_grants,
    routes_contributions_history,
    routes_contributions_import,
)
from gateway.access import PUBLIC, Access, Scope
from gateway.endpoint import ITEMS_DEFAULT, Call, Endpoint, Limit, NoBody, Parameters, Reading
from gateway.mining_shares import RankCursor, pool_share, rank_after, weight_total
from gateway.reading import caught_up
from schemas.views import ACCOUNTS, MINING
from schemas.wire import ContributionSummary, Grant, Miner, Page
from schemas.wire_mining import ContributionShown, Contributor, LedgerUserId

TOP_DEFAULT = 10
TOP_MAX = 100


class OneContributor(Reading, frozen=True, kw_only=True):
    user_id: LedgerUserId


class Contributors(Parameters, frozen=True, kw_only=True):
    limit: Limit = ITEMS_DEFAULT
    cursor: RankCursor = 0


class Top(Parameters, frozen=True, kw_only=True):
    limit: Annotated[int, msgspec.Meta(ge=1, le=TOP_MAX)] = TOP_DEFAULT


async def get_contribution(call: Call[OneContributor, NoBody]) -> ContributionShown:
    """The weight, its share of the pool and the grants in force."""
    user_id = call.subject(call.parameters.user_id)
    await caught_up(call, ACCOUNTS, user_id)
    await caught_up(call, MINING)
    pool, _ = await call.resources.views.pool()
    view = (await call.resources.views.account(user_id)).contribution
    return ContributionShown(
        user_id=user_id,
        weight=str(view.weight),
        share=pool_share(view.weight, weight_total(pool)),
        grants=tuple(
            Grant(
                grant_id=grant_id,
                source=held.source,
                weight=str(held.weight),
                expires_second=held.expires_second,
            )
            for grant_id, held in sorted(view.grants.items())
        ),
        position=view.position,
    )


async def list_contributors(call: Call[Contributors, NoBody]) -> Page[Contributor]:
    """All users with a weight, heaviest first. The cursor is a rank: who changes places while pages
    are read may be shown twice or not at all.
    """
    start, limit = call.parameters.cursor, call.parameters.limit
    pool, _ = await call.resources.views.pool()
    total = weight_total(pool)
    count, found = await call.resources.views.top_weights(limit, start=start)
    return Page(
        items=tuple(
            Contributor(
                rank=rank,
                user_id=view.user_id,
                weight=str(view.weight),
                share=pool_share(view.weight, total),
                grants=len(view.grants),
            )
            for rank, view in enumerate(found, start + 1)
        ),
        next_cursor=rank_after(start, limit, count),
    )


async def get_summary(call: Call[Top, NoBody]) -> ContributionSummary:
    """The total weight and the heaviest users."""
    pool, _ = await call.resources.views.pool()
    miners, top = await call.resources.views.top_weights(call.parameters.limit)
    return ContributionSummary(
        weight_total=str(weight_total(pool)),
        miners=miners,
        top=tuple(Miner(user_id=view.user_id, weight=str(view.weight)) for view in top),
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/contributions/summary",
        handle=get_summary,
        summary="total weight and the heaviest",
        access=PUBLIC,
        parameters=Top,
        answer=ContributionSummary,
    ),
    Endpoint(
        method="GET",
        path="/v1/contributions",
        handle=list_contributors,
        summary="all users by weight",
        access=Access(Scope.READ_OTHERS),
        parameters=Contributors,
        answer=Page[Contributor],
    ),
    *routes_contributions_census.ENDPOINTS,
    *routes_contributions_import.ENDPOINTS,
    *routes_contributions_grants.ENDPOINTS,
    *routes_contributions_history.ENDPOINTS,
    Endpoint(
        method="GET",
        path="/v1/contributions/{user_id}",
        handle=get_contribution,
        summary="one user's weight, share and grants",
        access=Access(Scope.READ, Scope.READ_OTHERS),
        parameters=OneContributor,
        answer=ContributionShown,
    ),
)
