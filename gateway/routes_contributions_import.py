"""POST /v1/contributions/import: a CSV file of grants, with a report for each line."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from gateway.access import Access, Scope
from gateway.contributions_applying import (
    apply_lines,
    contributions,
    is_same,
    other_terms,
    reported,
)
from gateway.contributions_import import FILE_BYTES_MAX, Fault, Line, read_grants
from gateway.desk import records
from gateway.desk.records import Details, Entry
from gateway.endpoint import Call, Endpoint, Parameters, RawBody
from gateway.tracing import trace
from schemas.commands import GrantContribution
from schemas.rejections import RejectionCode
from schemas.views import ContributionView
from schemas.wire import WireCode
from schemas.wire_mining import ImportLine, ImportReport

CSV: Final = "text/csv"
ACTION: Final = "import_contributions"
TARGET: Final = "contributions"


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
    found = await asyncio.to_thread(read_grants, call.body.content)
    lines = [_for_others(line, call.principal.user_id) for line in found]
    asked = call.parameters
    if asked.dry_run:
        return _report(await _rehearsed(call, lines), is_dry_run=True)
    if any(line.fault for line in lines) and not asked.partial:
        return _report([reported(line, "not_applied") for line in lines])
    intent_id = await _record(
        call,
        {"sha256": hashlib.sha256(call.body.content).hexdigest(), "lines": len(lines)},
    )
    report = _report(await apply_lines(call, lines))
    if intent_id is not None:
        counts: Details = {
            "applied": report.applied,
            "already": report.already,
            "refused": report.refused,
            "position": report.position,
        }
        await _record(call, counts, intent_id=intent_id)
    return report


def _for_others(line: Line, user_id: str) -> Line:
    if line.fault is not None or line.user_id != user_id:
        return line
    fault = Fault(code=WireCode.SAME_PERSON, detail="Another person must change your weight.")
    return msgspec.structs.replace(line, found=fault)


def _report(results: Sequence[ImportLine], *, is_dry_run: bool = False) -> ImportReport:
    counts = Counter(result.outcome for result in results)
    return ImportReport(
        dry_run=is_dry_run,
        applied=counts["applied"],
        already=counts["already"],
        would_apply=counts["would_apply"],
        refused=counts["refused"],
        not_applied=counts["not_applied"],
        position=max((result.position or 0 for result in results), default=0),
        lines=tuple(results),
    )


async def _record(
    call: Call[Any, Any], details: Details, *, intent_id: int | None = None
) -> int | None:
    # One entry before and one after, not one for each line; the log names the lines' grants.
    desk = call.resources.desk
    if desk is None:
        return None
    entry = Entry(
        who=call.principal.user_id,
        role=call.principal.role,
        request_id=trace(call.request),
        action=ACTION,
        target=TARGET,
        details=details,
        phase="intent" if intent_id is None else "outcome",
        outcome=None if intent_id is None else "accepted",
        intent_id=intent_id,
    )
    async with desk.database.transaction() as connection:
        return await records.append(connection, entry)


async def _rehearsed(call: Call[Any, Any], lines: Sequence[Line]) -> list[ImportLine]:
    user_ids = [line.found.user_id for line in lines if isinstance(line.found, GrantContribution)]
    now = await contributions(call, user_ids)
    pool, _ = await call.resources.views.pool()
    now_second = pool.second if pool else 0
    return [_expected(line, now, now_second) for line in lines]


def _expected(line: Line, now: dict[str, ContributionView], now_second: int) -> ImportLine:
    grant = line.found
    if isinstance(grant, Fault):
        return reported(line, "refused")
    held = now[grant.user_id].grants.get(grant.grant_id)
    if line.same_as is not None or is_same(grant, held):
        return reported(line, "already")
    if held is not None:
        return reported(line, "refused", fault=other_terms(held))
    if grant.expires_second is not None and grant.expires_second <= now_second:
        fault = Fault(
            code=RejectionCode.INVALID_EXPIRY,
            detail="expires is not in the future.",
            allowed=f"a time after second {now_second}",
        )
        return reported(line, "refused", fault=fault)
    return reported(line, "would_apply")


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
