"""The record of who did what: lists, and the check of its chain."""

from typing import Annotated, Final

import msgspec

from gateway.administration.acting import LOOKS, desk_of
from gateway.desk.records import CHECKED_ROWS_MAX, RecordFilter
from gateway.endpoint import ITEMS_DEFAULT, Call, Endpoint, Limit, NoBody, Parameters
from schemas.wire import Page
from schemas.wire_administration import AdminRecord, RecordCheck
from schemas.wire_values import UserRef

After = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
Word = Annotated[str, msgspec.Meta(pattern="^[!-~]{1,128}$")]


class RecordListParameters(Parameters, frozen=True, kw_only=True):
    """who, action, target: of those only, such as alice, freeze_account, user:bob."""

    who: UserRef | None = None
    action: Word | None = None
    target: Word | None = None
    limit: Limit = ITEMS_DEFAULT
    cursor: After = 0


class CheckParameters(Parameters, frozen=True, kw_only=True):
    """after: the id of a line; those after it are checked."""

    after: After = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=CHECKED_ROWS_MAX)] = CHECKED_ROWS_MAX


async def list_records(call: Call[RecordListParameters, NoBody]) -> Page[AdminRecord]:
    """Who did what, oldest first."""
    asked = call.parameters
    wanted = RecordFilter(
        after=asked.cursor, who=asked.who, action=asked.action, target=asked.target
    )
    return await desk_of(call.resources).records.page(wanted, asked.limit)


async def verify_records(call: Call[CheckParameters, NoBody]) -> RecordCheck:
    """Whether the lines are as they were written and none is missing: their hashes are computed
    anew. Keep `last_id` and `head`: who has them sees later if the end was cut off.
    """
    asked = call.parameters
    return await desk_of(call.resources).records.verify(after=asked.after, limit=asked.limit)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/v1/admin/records",
        handle=list_records,
        summary="Who did what",
        access=LOOKS,
        parameters=RecordListParameters,
        answer=Page[AdminRecord],
    ),
    Endpoint(
        method="GET",
        path="/v1/admin/records/verify",
        handle=verify_records,
        summary="Whether the record is as it was written",
        access=LOOKS,
        parameters=CheckParameters,
        answer=RecordCheck,
    ),
)
