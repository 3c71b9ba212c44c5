"""Idempotency of commands that end in PostgreSQL: the first answer to a key is kept, given again.

Those that end in the engine have the engine's own memory of keys instead (gateway.commands). An
answer is kept in the transaction that has its effect, so there is never one without the other; of
the key and the body only digests are kept, made so that a guess of the body needs the key.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec

from gateway.commands import idempotency_key
from gateway.database import Connection, Database
from gateway.endpoint import Call
from gateway.errors import Refusal
from gateway.tracing import mark_replayed
from schemas.rejections import RejectionCode

T = TypeVar("T", bound=msgspec.Struct)

KEPT_HOURS: Final = 24
SWEPT_ROWS: Final = 20

# Part of the first migration of every database that keeps answers.
CREATE_FIRST_ANSWERS: Final = """
CREATE TABLE public.first_answers (
    who text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL,
    key_digest bytea NOT NULL,
    body_digest bytea NOT NULL,
    answer bytea,
    is_refusal boolean NOT NULL DEFAULT false,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (who, operation, key_digest)
);
CREATE INDEX ON public.first_answers (at);
COMMENT ON TABLE public.first_answers IS
    'what a command answered first, by its Idempotency-Key; kept for 24 hours at least';
"""

# Waits while another transaction holds the same key: it finds its answer, or takes its place.
_CLAIM = """
INSERT INTO first_answers (who, operation, key_digest, body_digest) VALUES (%s, %s, %s, %s)
ON CONFLICT DO NOTHING RETURNING true
"""
_FIND = """
SELECT body_digest, answer, is_refusal FROM first_answers
WHERE who = %s AND operation = %s AND key_digest = %s
"""
_KEEP = """
UPDATE first_answers SET answer = %s, is_refusal = %s
WHERE who = %s AND operation = %s AND key_digest = %s
"""
_SWEEP = f"""
DELETE FROM first_answers WHERE ctid IN (
    SELECT ctid FROM first_answers WHERE at < now() - interval '{KEPT_HOURS} hours'
    ORDER BY at LIMIT {SWEPT_ROWS} FOR UPDATE SKIP LOCKED)
"""


class _KeptRefusal(msgspec.Struct, frozen=True):
    code: str
    detail: str
    details: dict[str, str | int]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A command as its first answer is found by: who asks, for what, with which key and body.

    key: "" for a command that came without one; it is carried out each time.
    """

    who: str
    operation: str
    key: str
    body: bytes

    def place(self) -> tuple[str, str, bytes]:
        return self.who, self.operation, hashlib.sha256(self.key.encode()).digest()

    def body_digest(self) -> bytes:
        return hmac.digest(self.key.encode(), self.body, "sha256")


async def answer_once(
    call: Call[Any, Any],
    database: Database,
    *,
    work: Callable[[Connection], Awaitable[T]],
    kind: type[T],
) -> T:
    """once() for a call: its Idempotency-Key, parameters and body; repeats are marked as such.

    Raises Refusal(invalid_idempotency_key) too.
    """
    asked = Asked(
        who=call.principal.user_id if call.endpoint.access.own else "",
        operation=f"{call.endpoint.method} {call.endpoint.path}",
        key=idempotency_key(call),
        body=msgspec.json.encode([call.parameters, call.body]),
    )
    found, is_repeat = await once(database, asked, work=work, kind=kind)
    if is_repeat:
        mark_replayed(call.request)
    if isinstance(found, Refusal):
        raise found
    return found


async def once(
    database: Database,
    asked: Asked,
    *,
    work: Callable[[Connection], Awaitable[T]],
    kind: type[T],
) -> tuple[T | Refusal, bool]:
    """The answer or refusal of `work`, done in one transaction at most once; True for a repeat.

    Others with the same key wait for the first, and take its place if it failed.
    work: uses no other connection, or it may wait for itself. What it wrote is undone if it raises;
    a Refusal is an answer like others.
    Raises Refusal(idempotency_key_reused) for another body, DatabaseUnavailable.
    """
    async with database.transaction() as connection:
        if not asked.key:
            return await _done(connection, work), False
        place = asked.place()
        claim = await connection.execute(_CLAIM, (*place, asked.body_digest()))
        if await claim.fetchone() is None:
            return await _found(connection, asked, kind), True
        answer = await _done(connection, work)
        await connection.execute(_KEEP, (_encoded(answer), isinstance(answer, Refusal), *place))
        await connection.execute(_SWEEP)
        return answer, False


async def _done(connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T | Refusal:
    try:
        async with connection.transaction():
            return await work(connection)
    except Refusal as refusal:
        return refusal


async def _found(connection: Connection, asked: Asked, kind: type[T]) -> T | Refusal:
    row = await (await connection.execute(_FIND, asked.place())).fetchone()
    # Swept between the two statements: as old as that, it is not a retry any more.
    if row is None or not hmac.compare_digest(row[0], asked.body_digest()):
        raise Refusal(
            RejectionCode.IDEMPOTENCY_KEY_REUSED,
            "This Idempotency-Key came with another request before.",
        )
    if row[2]:
        kept = msgspec.json.decode(row[1], type=_KeptRefusal)
        return Refusal(kept.code, kept.detail, kept.details)
    return msgspec.json.decode(row[1], type=kind)


def _encoded(answer: msgspec.Struct | Refusal) -> bytes:
    if isinstance(answer, Refusal):
        answer = _KeptRefusal(answer.code, answer.detail, answer.details)
    return msgspec.json.encode(answer)
