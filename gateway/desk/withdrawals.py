"""Withdrawals as they are kept: what was asked for, and how far it has come.

A row is written before the ledger is asked and after it has answered; each step is a change from
one state that is given, so that whoever comes second changes nothing.
"""

import secrets
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.database import Connection, Database
from gateway.errors import Refusal
from schemas.wire import WireCode
from schemas.wire_withdrawals import WithdrawalState

ID_BYTES: Final = 16

_COLUMNS: Final = """number, withdrawal_id, user_id, requested_by, asset_id, amount_minor::text,
    destination, trace, state, refusal, (extract(epoch FROM requested_at) * 1000)::bigint,
    decided_by, (extract(epoch FROM decided_at) * 1000)::bigint, payout_reference, reason,
    position, returned_position"""
_INSERT = """
INSERT INTO withdrawals (withdrawal_id, user_id, requested_by, asset_id, amount_minor, destination,
    trace) VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
# What the ledger booked is so, also if another process was refused at another time.
_DEBITED = """
UPDATE withdrawals SET state = 'pending', refusal = NULL, position = %s
WHERE withdrawal_id = %s AND state IN ('requested', 'refused')
"""
_REFUSED = """
UPDATE withdrawals SET state = 'refused', refusal = %s
WHERE withdrawal_id = %s AND state = 'requested'
"""
_DECIDED = """
UPDATE withdrawals SET state = %s, decided_by = %s, decided_at = clock_timestamp(),
    payout_reference = %s, reason = %s WHERE withdrawal_id = %s AND state = 'pending'
"""
_RETURNED = """
UPDATE withdrawals SET state = 'returned', returned_position = %s
WHERE withdrawal_id = %s AND state IN ('rejected', 'cancelled')
"""
_UNFINISHED = """
SELECT number, withdrawal_id FROM withdrawals WHERE state = ANY (%s) AND number > %s
ORDER BY number LIMIT %s
"""
# Of those that are over: whoever still has to be paid has to be found.
_FORGET = """
UPDATE withdrawals SET destination = ''
WHERE user_id = ANY(%s) AND state IN ('approved', 'returned', 'refused') AND destination <> ''
"""
UNFINISHED: Final = (
    WithdrawalState.REQUESTED,
    WithdrawalState.REJECTED,
    WithdrawalState.CANCELLED,
)


class KeptRefusal(msgspec.Struct, frozen=True):
    """What the ledger refused with, in the words of the wire."""

    code: str
    details: dict[str, str | int]


class NewWithdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """trace: correlation id of the request."""

    user_id: str
    requested_by: str
    asset_id: str
    amount_minor: int
    destination: str
    trace: str


class WithdrawalRow(msgspec.Struct, frozen=True, kw_only=True):
    """One withdrawal as it is kept; times in Unix milliseconds. number: in the requests' order."""

    number: int
    withdrawal_id: str
    user_id: str
    requested_by: str
    asset_id: str
    amount_minor: int
    destination: str
    trace: str
    state: WithdrawalState
    refusal: KeptRefusal | None
    requested_ms: int
    decided_by: str | None
    decided_ms: int | None
    payout_reference: str | None
    reason: str | None
    position: int | None
    returned_position: int | None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """state: approved, rejected or cancelled. by: who decided."""

    state: WithdrawalState
    by: str
    payout_reference: str | None = None
    reason: str | None = None


class Withdrawals:
    """Each method is one transaction and raises DatabaseUnavailable(desk_unavailable)."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def get(self, withdrawal_id: str) -> WithdrawalRow:
        """Raises Refusal(unknown_withdrawal)."""
        async with self.database.transaction() as connection:
            return await read(connection, withdrawal_id)

    async def page(
        self,
        *,
        user_id: str | None,
        state: WithdrawalState | None,
        before: int | None,
        limit: int,
    ) -> tuple[list[WithdrawalRow], int | None]:
        """The newest first, and the number before which the next page is; an index read."""
        asked = {"user_id": user_id, "state": state}
        conditions = [f"{name} = %({name})s" for name, value in asked.items() if value is not None]
        if before is not None:
            conditions.append("number < %(before)s")
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        query = f"SELECT {_COLUMNS} FROM withdrawals {where} ORDER BY number DESC LIMIT %(limit)s"
        values = {**asked, "before": before, "limit": limit + 1}
        async with self.database.transaction() as connection:
            rows = await (await connection.execute(query.encode(), values)).fetchall()
        found = [_row(row) for row in rows[:limit]]
        return found, found[-1].number if len(rows) > limit else None

    async def unfinished(self, *, after: int, limit: int) -> list[tuple[int, str]]:
        """Number and id of those that wait for the ledger, from the oldest on; after: a number."""
        async with self.database.transaction() as connection:
            found = await connection.execute(_UNFINISHED, (list(UNFINISHED), after, limit))
            return [(row[0], row[1]) for row in await found.fetchall()]

    async def debited(self, withdrawal_id: str, position: int | None) -> None:
        """The ledger took the amount. position: None if that is not known any more."""
        await self._write(_DEBITED, (position, withdrawal_id))

    async def refused(self, withdrawal_id: str, refusal: KeptRefusal) -> None:
        await self._write(_REFUSED, (msgspec.json.encode(refusal), withdrawal_id))

    async def returned(self, withdrawal_id: str, position: int | None) -> None:
        await self._write(_RETURNED, (position, withdrawal_id))

    async def forget_destinations(self, user_ids: Sequence[str]) -> None:
        """For persons who are erased; those not yet over keep theirs."""
        await self._write(_FORGET, (list(user_ids),))

    async def _write(self, statement: str, values: tuple[object, ...]) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(statement.encode(), values)


async def insert(connection: Connection, wanted: NewWithdrawal) -> str:
    """Its new id, which nobody can guess: the ledger books it as a reference."""
    withdrawal_id = f"w_{secrets.token_hex(ID_BYTES)}"
    values = (withdrawal_id, *msgspec.structs.astuple(wanted))
    await connection.execute(_INSERT, values)
    return withdrawal_id


async def read(
    connection: Connection, withdrawal_id: str, *, is_locked: bool = False
) -> WithdrawalRow:
    """is_locked: until the transaction ends. Raises Refusal(unknown_withdrawal)."""
    query = f"SELECT {_COLUMNS} FROM withdrawals WHERE withdrawal_id = %s"
    if is_locked:
        query += " FOR UPDATE"
    row = await (await connection.execute(query.encode(), (withdrawal_id,))).fetchone()
    if row is None:
        raise Refusal(WireCode.UNKNOWN_WITHDRAWAL, f"No withdrawal {withdrawal_id}.")
    return _row(row)


async def decide(connection: Connection, withdrawal_id: str, decision: Decision) -> None:
    """For one that was read as pending, and locked."""
    done = await connection.execute(
        _DECIDED,
        (
            decision.state,
            decision.by,
            decision.payout_reference,
            decision.reason,
            withdrawal_id,
        ),
    )
    assert done.rowcount == 1, withdrawal_id


def _row(row: tuple[Any, ...]) -> WithdrawalRow:
    names = WithdrawalRow.__struct_fields__
    fields = dict(zip(names, row, strict=True))
    fields["amount_minor"] = int(fields["amount_minor"])
    if fields["refusal"] is not None:
        fields["refusal"] = msgspec.json.decode(fields["refusal"], type=KeptRefusal)
    fields["state"] = WithdrawalState(fields["state"])
    return WithdrawalRow(**fields)
