"""The record of who did what: rows are added, never changed, and each holds the hash of its own
content and of the row before it.

A row is written in the transaction that has its effect; an effect elsewhere (the ledger, the
accounts) has one row before it, the intent, and one after it, the outcome.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from gateway.database import Connection, Database
from schemas.wire import Page
from schemas.wire_administration import AdminRecord, RecordCheck

NO_HASH: Final = bytes(32)
CHECKED_ROWS_MAX: Final = 50_000
_READ_ROWS: Final = 5_000

Details = Mapping[str, str | int | bool | None]
Outcome = Literal["accepted", "refused"]

# Rows are numbered and chained one after the other; the lock is held until the commit.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('durian records'))"
_LAST = """
SELECT coalesce(max(id), 0),
    (SELECT hash FROM records ORDER BY id DESC LIMIT 1),
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint
FROM records
"""
_COLUMNS = """id, at_ms, request_id, who, role, action, target, phase, outcome, intent_id,
    approval_id, details, previous_hash, hash"""
_INSERT = f"INSERT INTO records ({_COLUMNS}) VALUES ({', '.join(['%s'] * 14)})"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be recorded. request_id: correlation id. target: such as user:alice.

    details: no secrets, no personal data. intent_id: of an outcome only.
    """

    who: str
    role: str
    request_id: str
    action: str
    target: str
    details: Details
    phase: Literal["done", "intent", "outcome"] = "done"
    outcome: Outcome | None = "accepted"
    intent_id: int | None = None
    approval_id: int | None = None


class RecordFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Of all that are given. after: an id that newer ones come after."""

    after: int = 0
    who: str | None = None
    action: str | None = None
    target: str | None = None


async def lock(connection: Connection) -> None:
    """Keep everything else from the record until the transaction ends."""
    await connection.execute(_LOCK)


async def append(connection: Connection, entry: Entry) -> int:
    """Add one row in the connection's transaction; others wait until it ends. Gives its id."""
    await lock(connection)
    last_id, last_hash, at_ms = await _one(connection, _LAST)
    row = (
        last_id + 1,
        at_ms,
        entry.request_id,
        entry.who,
        entry.role,
        entry.action,
        entry.target,
        entry.phase,
        entry.outcome or "",
        entry.intent_id,
        entry.approval_id,
        msgspec.json.encode(entry.details, order="sorted").decode(),
    )
    previous = last_hash or NO_HASH
    await connection.execute(_INSERT.encode(), (*row, previous, _hash(previous, row)))
    return int(row[0])


class Records:
    """Reads of the record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: RecordFilter, limit: int) -> Page[AdminRecord]:
        """Oldest first, an index read; next_cursor is the last one's id."""
        asked = {
            name: value
            for name in ("who", "action", "target")
            if (value := getattr(wanted, name)) is not None
        }
        conditions = "".join(f" AND {name} = %s" for name in asked)
        query = f"SELECT {_COLUMNS} FROM records WHERE id > %s{conditions} ORDER BY id LIMIT %s"
        async with self._database.transaction() as connection:
            found = await connection.execute(
                query.encode(), (wanted.after, *asked.values(), limit + 1)
            )
            rows = await found.fetchall()
        items = tuple(_shown(row) for row in rows[:limit])
        cursor = str(items[-1].id) if len(rows) > limit else None
        return Page(items=items, next_cursor=cursor)

    async def verify(self, *, after: int = 0, limit: int = CHECKED_ROWS_MAX) -> RecordCheck:
        """Compute the hashes of up to `limit` rows after an id anew and compare them."""
        query = f"SELECT {_COLUMNS} FROM records WHERE id > %s ORDER BY id LIMIT %s".encode()
        previous, last, checked, wrong = NO_HASH, after, 0, None
        async with self._database.transaction() as connection:
            if after:
                found = await connection.execute("SELECT hash FROM records WHERE id = %s", (after,))
                row = await found.fetchone()
                previous = row[0] if row else NO_HASH
            while wrong is None and checked < limit:
                size = min(_READ_ROWS, limit - checked)
                rows = await (await connection.execute(query, (last, size))).fetchall()
                for row in rows:
                    if not _follows(row, last_id=last, previous=previous):
                        wrong = int(row[0])
                        break
                    last, previous, checked = row[0], row[-1], checked + 1
                if len(rows) < size:
                    break
        is_cut = wrong is None and checked == limit
        return RecordCheck(
            holds=wrong is None,
            checked=checked,
            first_wrong=wrong,
            last_id=last,
            next_id=last if is_cut else None,
            head=previous.hex(),
        )


def _follows(row: tuple[Any, ...], *, last_id: int, previous: bytes) -> bool:
    return bool(
        row[0] == last_id + 1 and row[-2] == previous and row[-1] == _hash(previous, row[:-2])
    )


def _hash(previous: bytes, row: tuple[Any, ...]) -> bytes:
    return hashlib.sha256(previous + msgspec.json.encode(row)).digest()


def _shown(row: tuple[Any, ...]) -> AdminRecord:
    return AdminRecord(
        id=row[0],
        time=row[1],
        request_id=row[2],
        who=row[3],
        role=row[4],
        action=row[5],
        target=row[6],
        phase=row[7],
        outcome=row[8] or None,
        intent_id=row[9],
        approval_id=row[10],
        details=msgspec.json.decode(row[11]),
        hash=row[13].hex(),
    )


async def _one(connection: Connection, query: str) -> tuple[Any, ...]:
    row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None, "an aggregate gives one row"
    return row
