"""GET /v1/mining/pool, GET /v1/mining/me, GET /v1/mining/records, POST /v1/mining/settle."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.auth import ACTS_FOR_OTHERS, READS_OTHERS, TRADES, require_role, subject
from gateway.errors import Refusal, ViewsUnavailable
from gateway.orders import event_of
from gateway.rejections import wire_details
from gateway.requests import (
    answer,
    principal,
    query_limit,
    query_period,
    read_body,
    refused,
    resources,
    submit,
)
from schemas import accrual, publications
from schemas.amounts import format_amount
from schemas.commands import SettleAccrual
from schemas.deep_history import MINUTE_SECONDS, MiningRecord
from schemas.events import AccrualSettled
from schemas.frames import Refused
from schemas.rejections import RejectionCode
from schemas.views import PoolView
from schemas.wire import MiningMinute, MiningShare, Page, SettleBody, SettleResult


async def get_pool(request: Request) -> Response:
    return answer(publications.mining_pool(await _pool(request)))


async def get_share(request: Request) -> Response:
    """The pool and the contribution are two projections; accrued is as of the pool's second."""
    user_id = subject(principal(request), request.query_params.get("user_id"), READS_OTHERS)
    pool = await _pool(request)
    view = (await resources(request).views.account(user_id)).contribution
    accrued = accrual.accrued_minor(
        weight=view.weight,
        index=pool.index,
        entry_index=view.entry_index,
        entry_fraction=view.entry_fraction,
    )
    return answer(
        MiningShare(
            user_id=user_id,
            asset=pool.asset_id,
            scale=pool.scale,
            weight=str(view.weight),
            weight_total=str(pool.weight_total),
            entry_index=str(view.entry_index),
            entry_fraction=str(view.entry_fraction),
            index=str(pool.index),
            second=pool.second,
            accrued=format_amount(accrued, pool.scale),
            settled=format_amount(view.settled_minor, pool.scale),
            position=max(view.position, pool.position),
        )
    )


async def get_records(request: Request) -> Response:
    """Minutes that are over, of every minute since genesis; without `from` the newest."""
    user_id = subject(principal(request), request.query_params.get("user_id"), READS_OTHERS)
    history = resources(request).history
    if history is None:
        raise ViewsUnavailable("no history is configured")
    (from_ms, to_ms), limit = query_period(request), query_limit(request)
    pool = await _pool(request)
    stop = (pool.second + 1) // MINUTE_SECONDS * MINUTE_SECONDS
    if to_ms is not None:
        stop = min(stop, _minute_at_or_after(to_ms))
    start = stop - limit * MINUTE_SECONDS if from_ms is None else _minute_at_or_after(from_ms)
    found = await history.mining_records(
        user_id, from_second=start, to_second=stop, limit=limit + 1
    )
    shown = found[:limit]
    has_more = len(found) > limit
    page = Page(
        items=tuple(_mining_minute(record, pool.scale) for record in shown),
        next_cursor=str((shown[-1].open_second + MINUTE_SECONDS) * 1_000) if has_more else None,
    )
    return answer(page)


def _minute_at_or_after(at_ms: int) -> int:
    width_ms = MINUTE_SECONDS * 1_000
    return -(-at_ms // width_ms) * MINUTE_SECONDS


def _mining_minute(record: MiningRecord, scale: int) -> MiningMinute:
    return MiningMinute(
        open_time=record.open_second * 1_000,
        close_time=(record.open_second + MINUTE_SECONDS) * 1_000 - 1,
        weight=str(record.weight),
        accrued=format_amount(record.accrued_minor, scale),
        settled=format_amount(record.settled_minor, scale),
        cumulative=format_amount(record.cumulative_minor, scale),
    )


async def settle(request: Request) -> Response:
    """Needs no body; an operator may name a user in it."""
    who = principal(request)
    require_role(who, TRADES)
    has_body = request.headers.get("content-length", "0") != "0"
    body = await read_body(request, SettleBody) if has_body else SettleBody()
    command = SettleAccrual(user_id=subject(who, body.user_id, ACTS_FOR_OTHERS))
    reply = await submit(request, command)
    if isinstance(reply, Refused):
        return refused(reply.rejection, wire_details(reply.rejection))
    settled = event_of(reply, AccrualSettled)
    scale = await resources(request).catalogue.scale(settled.asset_id)
    return answer(
        SettleResult(
            user_id=settled.user_id,
            asset=settled.asset_id,
            amount=format_amount(settled.amount_minor, scale),
            position=reply.last_position,
        )
    )


async def _pool(request: Request) -> PoolView:
    pool, _ = await resources(request).views.pool()
    if pool is None:
        raise Refusal(RejectionCode.LEDGER_NOT_OPEN, "The ledger has no second yet.")
    return pool


ROUTES = (
    Route("/v1/mining/pool", get_pool, methods=["GET"]),
    Route("/v1/mining/me", get_share, methods=["GET"]),
    Route("/v1/mining/records", get_records, methods=["GET"]),
    Route("/v1/mining/settle", settle, methods=["POST"]),
)
