"""POST /v1/contributions/import: a CSV file of grants, with a report for each line."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from gateway.access import Access, Scope
from gateway.commands import submit
from gateway.contributions_import import FILE_BYTES_MAX, Fault, Line, import_key, read_grants
from gateway.endpoint import Call, Endpoint, Parameters, RawBody
from gateway.errors import Refusal
from schemas.commands import GrantContribution
from schemas.rejections import RejectionCode
from schemas.views import GrantView
from schemas.wire_mining import ImportLine, ImportReport, LineOutcome

CSV: Final = "text/csv"
# Enough to fill the engine's batches, few enough to leave room for orders.
COMMANDS_AT_ONCE: Final = 64
USERS_AT_ONCE: Final = 500
TRIES_MAX: Final = 6
FIRST_PAUSE_SECONDS: Final = 0.05


class ImportParameters(Parameters, frozen=True, kw_only=True):
    """dry_run: apply nothing. partial: apply the good lines though others cannot be read."""

    dry_run: Annotated[
        bool, msgspec.Meta(description="Check every line against the views, apply nothing.")
    ] = False
    partial: Annotated[
        bool, msgspec.Meta(description="Apply the good lines though others cannot be read.")
    ] = False


async def import_grants(call: Call[ImportParameters, RawBody]) -> ImportReport:
    """Columns user_id, grant_id, source, weight, expires (a Unix second or RFC 3339; may be empty).

    Nothing is applied if any line cannot be read, unless partial. Each line has its own idempotency
    key, made of what it says: importing a file again changes nothing, however far the first
    import came. A dry run reads everything and compares it with the grants in force; only the
    ledger knows those that are over.
    """
    lines = await asyncio.to_thread(read_grants, call.body.content)
    asked = call.parameters
    if asked.dry_run:
        results = await _rehearsed(call, lines)
    elif any(line.fault for line in lines) and not asked.partial:
        results = [_reported(line, "not_applied") for line in lines]
    else:
        results = await _applied(call, lines)
    counts = Counter(result.outcome for result in results)
    return ImportReport(
        dry_run=asked.dry_run,
        applied=counts["applied"],
        already=counts["already"],
        would_apply=counts["would_apply"],
        refused=counts["refused"],
        not_applied=counts["not_applied"],
        position=max((result.position or 0 for result in results), default=0),
        lines=tuple(results),
    )


def _reported(
    line: Line, outcome: LineOutcome, *, position: int | None = None, fault: Fault | None = None
) -> ImportLine:
    fault = line.fault or fault
    return ImportLine(
        line=line.number,
        outcome="refused" if fault else outcome,
        user_id=line.user_id,
        grant_id=line.grant_id,
        position=position,
        code=fault and fault.code,
        detail=fault and fault.detail,
        allowed=(fault and fault.allowed) or None,
    )


async def _rehearsed(call: Call[Any, Any], lines: Sequence[Line]) -> list[ImportLine]:
    user_ids = {line.found.user_id for line in lines if isinstance(line.found, GrantContribution)}
    held = await _grants_in_force(call, sorted(user_ids))
    pool, _ = await call.resources.views.pool()
    now_second = pool.second if pool else 0
    return [_expected(line, held, now_second) for line in lines]


async def _grants_in_force(
    call: Call[Any, Any], user_ids: Sequence[str]
) -> dict[tuple[str, str], GrantView]:
    held = {}
    for first in range(0, len(user_ids), USERS_AT_ONCE):
        for state in await call.resources.views.accounts(user_ids[first : first + USERS_AT_ONCE]):
            view = state.contribution
            for grant_id, grant in view.grants.items():
                held[view.user_id, grant_id] = grant
    return held


def _expected(line: Line, held: dict[tuple[str, str], GrantView], now_second: int) -> ImportLine:
    grant = line.found
    if isinstance(grant, Fault):
        return _reported(line, "refused")
    known = held.get((grant.user_id, grant.grant_id))
    if line.same_as is not None or (known is not None and _is_same(grant, known)):
        return _reported(line, "already")
    if known is not None:
        return _reported(line, "refused", fault=_other_terms(known))
    if grant.expires_second is not None and grant.expires_second <= now_second:
        fault = Fault(
            code=RejectionCode.INVALID_EXPIRY,
            detail="expires is not in the future.",
            allowed=f"a time after second {now_second}",
        )
        return _reported(line, "refused", fault=fault)
    return _reported(line, "would_apply")


def _is_same(grant: GrantContribution, known: GrantView) -> bool:
    return (known.source, known.weight, known.expires_second) == (
        grant.source,
        grant.weight,
        grant.expires_second,
    )


def _other_terms(known: GrantView | None) -> Fault:
    detail = "The user had a grant of this id before; an id is used once."
    if known is not None:
        ends = "" if known.expires_second is None else f" until second {known.expires_second}"
        detail = f"The user has this grant on other terms: {known.source} {known.weight}{ends}."
    return Fault(code=RejectionCode.DUPLICATE_GRANT, detail=detail, allowed="another grant_id")


async def _applied(call: Call[Any, Any], lines: Sequence[Line]) -> list[ImportLine]:
    results: list[ImportLine | None] = [None] * len(lines)
    waiting = iter(enumerate(lines))

    async def work() -> None:
        for at, line in waiting:
            results[at] = await _apply(call, line)

    # The first fault, such as an engine that is gone, ends the others: importing again goes on.
    workers = [asyncio.create_task(work()) for _ in range(COMMANDS_AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [result for result in results if result is not None]


async def _apply(call: Call[Any, Any], line: Line) -> ImportLine:
    grant = line.found
    if isinstance(grant, Fault):
        return _reported(line, "refused")
    pause = FIRST_PAUSE_SECONDS
    for tries_left in reversed(range(TRIES_MAX)):
        try:
            accepted = await submit(call, grant, key=import_key(grant))
        except Refusal as exc:
            if exc.code == RejectionCode.OVERLOADED and tries_left:
                await asyncio.sleep(pause)
                pause *= 2
                continue
            return await _refused(call, line, grant, exc)
        return _reported(line, "applied", position=accepted.last_position)
    raise AssertionError("the last try returns")


async def _refused(
    call: Call[Any, Any], line: Line, grant: GrantContribution, exc: Refusal
) -> ImportLine:
    if exc.code != RejectionCode.DUPLICATE_GRANT:
        told = ", ".join(f"{name} {value}" for name, value in exc.details.items())
        fault = Fault(code=exc.code, detail=exc.detail, allowed=told)
        return _reported(line, "refused", fault=fault)
    # Given by hand, or imported so long ago that the first answer is forgotten.
    held = await _grants_in_force(call, [grant.user_id])
    known = held.get((grant.user_id, grant.grant_id))
    if known is not None and _is_same(grant, known):
        return _reported(line, "already")
    return _reported(line, "refused", fault=_other_terms(known))


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/contributions/import",
        handle=import_grants,
        summary="give many users weight from a CSV file",
        access=Access(Scope.OPERATE),
        parameters=ImportParameters,
        body=RawBody,
        body_media_type=CSV,
        body_bytes_max=FILE_BYTES_MAX,
        answer=ImportReport,
        is_command=True,
        refuses=(RejectionCode.LEDGER_NOT_OPEN,),
    ),
)
