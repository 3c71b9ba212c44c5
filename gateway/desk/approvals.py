"""Changes that need two persons: proposed by one, approved by another, then an intent like others.

The decision and the intent are one transaction, so an approved change is carried out once, also if
the process dies in between. Source: docs/adr/0017-two-person-rule.md.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.database import Connection, Database
from gateway.desk import records
from gateway.desk.changes import (
    Change,
    Proposal,
    ProposalKind,
    action_of,
    decode_proposal,
    details_of,
    encode,
    kind_of,
    target_of,
)
from gateway.desk.intents import Actor, Intent, begin_in, intent_of_approval
from gateway.desk.records import Entry
from gateway.errors import Refusal
from schemas.wire import WireCode
from schemas.wire_administration import ApprovalState

LIFETIME_HOURS: Final = 24

_COLUMNS = """id, kind, target, proposal, reason, proposed_by,
    (extract(epoch FROM proposed_at) * 1000)::bigint,
    (extract(epoch FROM expires_at) * 1000)::bigint,
    CASE WHEN state = 'pending' AND expires_at <= now() THEN 'expired' ELSE state END,
    decided_by, (extract(epoch FROM decided_at) * 1000)::bigint, position, code"""
_CONDITIONS: Final[Mapping[str, str]] = {
    "pending": "state = 'pending' AND expires_at > now()",
    "expired": "state = 'pending' AND expires_at <= now()",
}
_PROPOSE = f"""
INSERT INTO approvals (kind, target, proposal, reason, proposed_by, expires_at)
VALUES (%s, %s, %s, %s, %s, clock_timestamp() + interval '{LIFETIME_HOURS} hours')
RETURNING {_COLUMNS}
""".encode()
_DECIDE = f"""
UPDATE approvals SET state = %s, decided_by = %s, decided_at = clock_timestamp() WHERE id = %s
RETURNING {_COLUMNS}
""".encode()
_NEWEST = f"""
SELECT {_COLUMNS} FROM approvals WHERE state = 'executed' AND kind = %s
ORDER BY position DESC LIMIT 1
""".encode()


class ApprovalRow(msgspec.Struct, frozen=True, kw_only=True):
    """One approval as it is kept; times in Unix milliseconds."""

    id: int
    kind: ProposalKind
    target: str
    proposal: Proposal
    reason: str
    proposed_by: str
    proposed_ms: int
    expires_ms: int
    state: ApprovalState
    decided_by: str | None
    decided_ms: int | None
    position: int | None
    code: str | None


class Approvals:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, approval_id: int) -> ApprovalRow:
        """Raises Refusal(unknown_approval)."""
        async with self._database.transaction() as connection:
            return await _read(connection, approval_id)

    async def page(
        self, *, state: ApprovalState | None, before: int | None, limit: int
    ) -> tuple[list[ApprovalRow], int | None]:
        """The newest first, and where to go on; an index read."""
        condition = "true" if state is None else _CONDITIONS.get(state, "state = %(state)s")
        query = f"""SELECT {_COLUMNS} FROM approvals WHERE {condition}
            AND (%(before)s::bigint IS NULL OR id < %(before)s) ORDER BY id DESC LIMIT %(limit)s"""
        asked = {"state": state, "before": before, "limit": limit + 1}
        async with self._database.transaction() as connection:
            rows = await (await connection.execute(query.encode(), asked)).fetchall()
        found = [_row(row) for row in rows[:limit]]
        return found, found[-1].id if len(rows) > limit else None

    async def newest_executed(self, kind: ProposalKind) -> ApprovalRow | None:
        async with self._database.transaction() as connection:
            row = await (await connection.execute(_NEWEST, (kind,))).fetchone()
        return None if row is None else _row(row)

    async def begun(self, actor: Actor, approval_id: int) -> Intent | None:
        """What the actor began by approving it before; None if somebody else did, or nobody."""
        async with self._database.transaction() as connection:
            return await _begun(connection, actor, await _read(connection, approval_id))

    async def approve(
        self, actor: Actor, approval_id: int, change: Change, *, based_on: int | None = None
    ) -> Intent:
        """Decide and begin; the same again for whoever approved already.

        change: what the proposal is by now; based_on: see gateway.desk.intents.begin_in. Raises
        Refusal(unknown_approval, same_person, already_decided, change_in_progress).
        """
        async with self._database.transaction() as connection:
            await records.lock(connection)
            approval = await _read(connection, approval_id)
            known = await _begun(connection, actor, approval)
            if known is not None:
                return known
            if approval.proposed_by == actor.who:
                raise Refusal(
                    WireCode.SAME_PERSON, "Another person than who proposed it must approve it."
                )
            _require_pending(approval)
            await _decide(connection, "approved", actor, approval_id)
            return await begin_in(
                connection, actor, change, approval_id=approval_id, based_on=based_on
            )


_CARRIED: Final = frozenset({"approved", "executed", "refused"})


async def propose(
    connection: Connection, actor: Actor, proposal: Proposal, reason: str
) -> ApprovalRow:
    """Keep a proposal, and record it, in the connection's transaction."""
    kind, target = kind_of(proposal), target_of(proposal)
    found = await connection.execute(_PROPOSE, (kind, target, encode(proposal), reason, actor.who))
    row = await found.fetchone()
    assert row is not None, "an insert gives its row"
    approval = _row(row)
    details = {**details_of(proposal), "change": action_of(proposal), "reason": reason}
    await _record(connection, actor, "propose", approval, details)
    return approval


async def turn_down(
    connection: Connection, actor: Actor, approval_id: int, reason: str
) -> ApprovalRow:
    """End a pending one: `rejected` by others, `withdrawn` by who proposed it."""
    await records.lock(connection)
    approval = await _read(connection, approval_id)
    _require_pending(approval)
    is_own = approval.proposed_by == actor.who
    decided = await _decide(connection, "withdrawn" if is_own else "rejected", actor, approval_id)
    action = "withdraw_proposal" if is_own else "reject"
    await _record(connection, actor, action, approval, {"reason": reason})
    return decided


async def _begun(connection: Connection, actor: Actor, approval: ApprovalRow) -> Intent | None:
    if approval.decided_by != actor.who or approval.state not in _CARRIED:
        return None
    return await intent_of_approval(connection, approval.id)


async def _read(connection: Connection, approval_id: int) -> ApprovalRow:
    query = f"SELECT {_COLUMNS} FROM approvals WHERE id = %s".encode()
    row = await (await connection.execute(query, (approval_id,))).fetchone()
    if row is None:
        raise Refusal(WireCode.UNKNOWN_APPROVAL, f"No approval {approval_id}.")
    return _row(row)


def _require_pending(approval: ApprovalRow) -> None:
    if approval.state != "pending":
        raise Refusal(
            WireCode.ALREADY_DECIDED,
            f"It is {approval.state} already.",
            {"state": approval.state},
        )


async def _decide(
    connection: Connection, state: str, actor: Actor, approval_id: int
) -> ApprovalRow:
    row = await (await connection.execute(_DECIDE, (state, actor.who, approval_id))).fetchone()
    assert row is not None, approval_id
    return _row(row)


async def _record(
    connection: Connection,
    actor: Actor,
    action: str,
    approval: ApprovalRow,
    details: records.Details,
) -> None:
    entry = Entry(
        who=actor.who,
        role=actor.role,
        request_id=actor.request_id,
        action=action,
        target=approval.target,
        details=details,
        approval_id=approval.id,
    )
    await records.append(connection, entry)


def _row(row: tuple[Any, ...]) -> ApprovalRow:
    named = dict(zip(ApprovalRow.__struct_fields__, row, strict=True))
    named["proposal"] = decode_proposal(named["proposal"])
    return ApprovalRow(**named)
