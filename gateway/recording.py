"""What staff have the ledger do goes into the record of who did what: before, and how it came out.

Users' own commands don't: the ledger's events name them. An intent without an outcome means that
nobody lived to hear the answer; the log says what became of it. Without a desk nothing is recorded
(docs/operating/administration.md says that services for staff need one).
"""

from typing import Any

import msgspec

from gateway.access import Scope
from gateway.desk import records
from gateway.desk.records import Entry, Outcome
from gateway.endpoint import Call
from gateway.tracing import trace
from schemas.commands import LedgerCommand


def is_of_staff(call: Call[Any, Any], command: LedgerCommand) -> bool:
    """Whether somebody acts for another, or as an operator."""
    user_id = getattr(command, "user_id", None)
    return call.endpoint.access.own is Scope.OPERATE or user_id != call.principal.user_id


async def intend(call: Call[Any, Any], command: LedgerCommand) -> int | None:
    """Record what is about to be asked of the ledger; the id of the row, None without a desk.

    Raises DatabaseUnavailable: then it must not be asked.
    """
    desk = call.resources.desk
    if desk is None:
        return None
    async with desk.database.transaction() as connection:
        return await records.append(connection, _entry(call, command))


async def came_out(
    call: Call[Any, Any],
    command: LedgerCommand,
    intent_id: int,
    *,
    outcome: Outcome,
    code: str | None = None,
    position: int | None = None,
) -> None:
    """Record what the ledger answered to an intent. Raises DatabaseUnavailable."""
    desk = call.resources.desk
    assert desk is not None, "an intent was recorded, so there is a desk"
    entry = msgspec.structs.replace(
        _entry(call, command),
        phase="outcome",
        outcome=outcome,
        intent_id=intent_id,
        details={"code": code, "position": position},
    )
    async with desk.database.transaction() as connection:
        await records.append(connection, entry)


def _entry(call: Call[Any, Any], command: LedgerCommand) -> Entry:
    return Entry(
        who=call.principal.user_id,
        role=call.principal.role,
        request_id=trace(call.request),
        action=str(command.__struct_config__.tag),
        target=f"user:{getattr(command, 'user_id', '')}",
        details=msgspec.to_builtins(command),
        phase="intent",
        outcome=None,
    )
