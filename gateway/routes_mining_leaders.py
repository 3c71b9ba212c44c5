"""GET /v1/mining/leaderboard: who mined, holds or weighs most."""

from typing import Any

import msgspec

from gateway.access import Access, Scope
from gateway.endpoint import ITEMS_DEFAULT, Call, Endpoint, Limit, NoBody, Parameters
from gateway.mining_shares import RankCursor, opened_pool, rank_after
from gateway.views import AccountState
from schemas.amounts import format_amount
from schemas.rejections import RejectionCode
from schemas.views import ADMIN_DB, CONTRIBUTION_DB, MINED_KEY, WEIGHTS_KEY, holding_key
from schemas.wire_mining import Board, Leader, Leaderboard
from schemas.wire_values import AssetId


class BoardAsked(Parameters, frozen=True, kw_only=True):
    """asset: of board holding, the mined asset if left out."""

    by: Board = "mined"
    asset: AssetId | None = None
    limit: Limit = ITEMS_DEFAULT
    cursor: RankCursor = 0


class _Ranking(msgspec.Struct, frozen=True):
    """Where a board is kept, and what it ranks by: an asset's minor units, or weights."""

    board: Board
    database: int
    key: str
    asset_id: str | None
    scale: int

    def amount(self, state: AccountState) -> int:
        if self.board == "weight":
            return state.contribution.weight
        if self.asset_id is not None and self.board == "holding":
            held = state.account.balances.get(self.asset_id)
            return held.available + held.held if held else 0
        return state.contribution.settled_minor


async def get_leaderboard(call: Call[BoardAsked, NoBody]) -> Leaderboard:
    """Largest first, with the caller's own place. Other users' ids are shown to those who may look
    at others. The cursor is a rank: who changes places while pages are read may be shown twice or
    not at all. Beyond 2^53 of an amount neighbours may stand in either order.
    """
    asked, me = call.parameters, call.principal.user_id
    ranking, views = await _ranking(call), call.resources.views
    count, user_ids, before = await views.leaders(
        ranking.database, ranking.key, start=asked.cursor, count=asked.limit, user_id=me
    )
    states = await views.accounts([*user_ids, me])
    amounts = [(ranking.amount(state), state.account.user_id) for state in states]
    mine, _ = amounts.pop()
    ranked = sorted((one for one in amounts if one[0] > 0), key=lambda one: (-one[0], one[1]))
    sees_others = Scope.READ_OTHERS in call.principal.scopes

    def leader(rank: int, amount: int, user_id: str) -> Leader:
        return Leader(
            rank=rank,
            user_id=user_id if sees_others or user_id == me else None,
            is_you=user_id == me,
            amount=format_amount(amount, ranking.scale),
        )

    items = tuple(
        leader(rank, amount, user_id)
        for rank, (amount, user_id) in enumerate(ranked, asked.cursor + 1)
    )
    is_ranked = before is not None and mine > 0
    return Leaderboard(
        by=asked.by,
        asset=ranking.asset_id,
        items=items,
        next_cursor=rank_after(asked.cursor, asked.limit, count),
        you=leader((before or 0) + 1, mine, me) if is_ranked else None,
    )


async def _ranking(call: Call[BoardAsked, Any]) -> _Ranking:
    board = call.parameters.by
    if board == "weight":
        return _Ranking(board, CONTRIBUTION_DB, WEIGHTS_KEY, None, 0)
    pool = await opened_pool(call)
    if board == "mined":
        return _Ranking(board, ADMIN_DB, MINED_KEY, pool.asset_id, pool.scale)
    asset_id = call.parameters.asset or pool.asset_id
    scale = await call.resources.catalogue.scale(asset_id)
    return _Ranking(board, ADMIN_DB, holding_key(asset_id), asset_id, scale)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/mining/leaderboard",
        handle=get_leaderboard,
        summary="who mined, holds or weighs most",
        access=Access(Scope.READ),
        parameters=BoardAsked,
        answer=Leaderboard,
        refuses=(RejectionCode.LEDGER_NOT_OPEN, RejectionCode.UNKNOWN_ASSET),
    ),
)
