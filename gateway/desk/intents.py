"""Intents: changes that were begun and are asked of the ledger or the accounts.

begin() writes the record's line and the intent before anything is asked, close() the outcome and
the answer afterwards, each in one transaction. An intent whose process died in between stays open
and is carried out again: the ledger gives its first answer to the intent's key.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.database import Connection, Database
from gateway.desk import records
from gateway.desk.changes import (
    Change,
    action_of,
    decode_change,
    details_of,
    encode,
    target_of,
)
from gateway.desk.records import Details, Entry
from gateway.errors import Refusal
from schemas.rejections import RejectionCode
from schemas.wire import WireCode

KEY_BYTES: Final = 12
OPEN_SHOWN_MAX: Final = 100


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as what, in which request.

    key: the Idempotency-Key, "" without one; `request` is what it came with, as bytes.
    """

    who: str
    role: str
    request_id: str
    key: str = ""
    request: bytes = b""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an intent. position: of the ledger's last event; code: of a refusal."""

    position: int | None = None
    code: str | None = None
    detail: str = ""
    details: dict[str, str | int] = {}


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """engine_key: what the ledger knows it by. answer: None while it is open."""

    record_id: int
    who: str
    engine_key: str
    change: Change
    approval_id: int | None = None
    answer: Answer | None = None
    is_repeat: bool = False


_COLUMNS = "record_id, who, engine_key, command, approval_id, answer"
_BY_ID = f"SELECT {_COLUMNS} FROM intents WHERE record_id = %s".encode()
_BY_APPROVAL = f"SELECT {_COLUMNS} FROM intents WHERE approval_id = %s".encode()
_BY_KEY = f"""
SELECT {_COLUMNS}, request_digest FROM intents WHERE who = %s AND key_digest = %s
""".encode()
_OPEN = f"""
SELECT {_COLUMNS} FROM intents WHERE answer IS NULL AND record_id > %s
AND at < clock_timestamp() - make_interval(secs => %s) ORDER BY record_id LIMIT {OPEN_SHOWN_MAX}
""".encode()
_BUSY = "SELECT true FROM intents WHERE target = %s AND answer IS NULL LIMIT 1"
_POSITION = "SELECT coalesce(max(position), 0) FROM intents WHERE target = %s"
_INSERT = """
INSERT INTO intents
    (record_id, who, key_digest, request_digest, engine_key, target, command, approval_id)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
_CLOSE = """
UPDATE intents SET answer = %s, position = %s WHERE record_id = %s AND answer IS NULL
RETURNING true
"""
_OF_INTENT = "SELECT who, role, action, target, request_id FROM records WHERE id = %s"
_CLOSE_APPROVAL = "UPDATE approvals SET state = %s, position = %s, code = %s WHERE id = %s"


class Intents:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def begun(self, actor: Actor) -> Intent | None:
        """What the actor's key began, if it did. Raises Refusal(idempotency_key_reused)."""
        async with self._database.transaction() as connection:
            return await _begun(connection, actor)

    async def begin(self, actor: Actor, change: Change, *, based_on: int | None = None) -> Intent:
        """A new intent, or the one that the actor's key began.

        based_on: see begin_in. Raises Refusal(idempotency_key_reused), Refusal(change_in_progress),
        DatabaseUnavailable.
        """
        async with self._database.transaction() as connection:
            await records.lock(connection)
            known = await _begun(connection, actor)
            if known is not None:
                return known
            return await begin_in(connection, actor, change, based_on=based_on)

    async def close(self, intent: Intent, answer: Answer) -> Answer:
        """Keep the answer and record the outcome; gives the answer that was kept first."""
        async with self._database.transaction() as connection:
            await records.lock(connection)
            kept = await connection.execute(
                _CLOSE, (msgspec.json.encode(answer), answer.position, intent.record_id)
            )
            if await kept.fetchone() is None:
                first = await _only(connection, _BY_ID, intent.record_id)
                assert first.answer is not None, intent
                return first.answer
            await _record_outcome(connection, intent, answer)
            if intent.approval_id is not None:
                state = "executed" if answer.code is None else "refused"
                row = (state, answer.position, answer.code, intent.approval_id)
                await connection.execute(_CLOSE_APPROVAL, row)
        return answer

    async def answer(self, record_id: int) -> Answer | None:
        """Of an intent that there is; None while it is open."""
        async with self._database.transaction() as connection:
            return (await _only(connection, _BY_ID, record_id)).answer

    async def open_ones(self, *, older_than_seconds: int, after: int = 0) -> Sequence[Intent]:
        """The oldest of them after a record, OPEN_SHOWN_MAX at most."""
        async with self._database.transaction() as connection:
            rows = await (await connection.execute(_OPEN, (after, older_than_seconds))).fetchall()
        return [_intent(row) for row in rows]

    async def position(self, target: str) -> int:
        """Of the ledger's last event by which an intent changed the target, 0 without any."""
        async with self._database.transaction() as connection:
            return await _position(connection, target)


async def begin_in(
    connection: Connection,
    actor: Actor,
    change: Change,
    *,
    approval_id: int | None = None,
    based_on: int | None = None,
) -> Intent:
    """Record an intent in a transaction that holds the record's lock.

    based_on: the target's position() that the change was made from. Raises
    Refusal(change_in_progress) if it has moved since, or while another intent for it is open.
    """
    target = target_of(change)
    is_busy = await (await connection.execute(_BUSY, (target,))).fetchone() is not None
    if is_busy or based_on not in (None, await _position(connection, target)):
        raise Refusal(
            WireCode.CHANGE_IN_PROGRESS,
            "Another change of the same is on its way; try again.",
            {"target": target},
            retry_after=1,
        )
    entry = Entry(
        who=actor.who,
        role=actor.role,
        request_id=actor.request_id,
        action=action_of(change),
        target=target,
        details=details_of(change),
        phase="intent",
        outcome=None,
        approval_id=approval_id,
    )
    record_id = await records.append(connection, entry)
    of_what = f"intent:{record_id}" if approval_id is None else f"approval:{approval_id}"
    intent = Intent(
        record_id=record_id,
        who=actor.who,
        # Numbers begin anew with a new database; the ledger remembers the keys of the old one.
        engine_key=f"{of_what}:{secrets.token_hex(KEY_BYTES)}",
        change=change,
        approval_id=approval_id,
    )
    await _insert(connection, actor, intent)
    return intent


async def intent_of_approval(connection: Connection, approval_id: int) -> Intent:
    """The intent that an approval which was given began."""
    intent = await _only(connection, _BY_APPROVAL, approval_id)
    return msgspec.structs.replace(intent, is_repeat=True)


async def _insert(connection: Connection, actor: Actor, intent: Intent) -> None:
    # An approval is decided once whatever the key says.
    key_digest, request_digest = _digests(actor) if intent.approval_id is None else (None, None)
    row = (
        intent.record_id,
        intent.who,
        key_digest,
        request_digest,
        intent.engine_key,
        target_of(intent.change),
        encode(intent.change),
        intent.approval_id,
    )
    await connection.execute(_INSERT, row)


def _digests(actor: Actor) -> tuple[bytes | None, bytes | None]:
    if not actor.key:
        return None, None
    key = actor.key.encode()
    return hashlib.sha256(key).digest(), hmac.digest(key, actor.request, "sha256")


async def _begun(connection: Connection, actor: Actor) -> Intent | None:
    key_digest, request_digest = _digests(actor)
    if key_digest is None:
        return None
    row = await (await connection.execute(_BY_KEY, (actor.who, key_digest))).fetchone()
    if row is None:
        return None
    if row[-1] != request_digest:
        raise Refusal(
            RejectionCode.IDEMPOTENCY_KEY_REUSED,
            "This Idempotency-Key came with another request before.",
        )
    return msgspec.structs.replace(_intent(row[:-1]), is_repeat=True)


async def _position(connection: Connection, target: str) -> int:
    row = await (await connection.execute(_POSITION, (target,))).fetchone()
    assert row is not None, "an aggregate gives one row"
    return int(row[0])


async def _record_outcome(connection: Connection, intent: Intent, answer: Answer) -> None:
    row = await (await connection.execute(_OF_INTENT, (intent.record_id,))).fetchone()
    assert row is not None, intent
    who, role, action, target, request_id = row
    details: Details = {} if answer.position is None else {"position": answer.position}
    if answer.code is not None:
        details = {"code": answer.code, **answer.details}
    entry = Entry(
        who=who,
        role=role,
        request_id=request_id,
        action=action,
        target=target,
        details=details,
        phase="outcome",
        outcome="accepted" if answer.code is None else "refused",
        intent_id=intent.record_id,
        approval_id=intent.approval_id,
    )
    await records.append(connection, entry)


async def _only(connection: Connection, query: bytes, asked: int) -> Intent:
    row = await (await connection.execute(query, (asked,))).fetchone()
    assert row is not None, asked
    return _intent(row)


def _intent(row: tuple[Any, ...]) -> Intent:
    record_id, who, engine_key, command, approval_id, answer = row
    return Intent(
        record_id=record_id,
        who=who,
        engine_key=engine_key,
        change=decode_change(command),
        approval_id=approval_id,
        answer=None if answer is None else msgspec.json.decode(answer, type=Answer),
    )
