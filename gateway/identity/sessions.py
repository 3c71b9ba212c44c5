"""Sessions: one for each device that is signed in, which is also one family of refresh tokens.

Only a session's newest refresh token is good. One used twice was in two hands, so that the family
ends, unless it is a retry: the same key soon after, before its answer was used.
"""

import hashlib
import secrets
from typing import Any, Final, Literal, LiteralString

import msgspec

from gateway.access import Role
from gateway.database import Connection
from gateway.identity import refresh_tokens
from gateway.identity.names import is_session_id, new_session_id
from gateway.identity.networks import Origin
from gateway.identity.refresh_tokens import SECRET_BYTES, RefreshToken
from schemas.wire_identity import DeviceSession

IDLE_MS: Final = 30 * 24 * 3_600_000
LIFE_MS: Final = 90 * 24 * 3_600_000
RETRY_MS: Final = 60_000
SESSIONS_MAX: Final = 100
_KEPT_MS: Final = 30 * 24 * 3_600_000
_SWEPT_ROWS: Final = 10

Outcome = Literal["rotated", "invalid", "reused"]

_INSERT: Final = """
INSERT INTO sessions (session_id, user_id, device, network, created_ms, seen_ms, expires_ms,
    current_digest) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
# A hundred devices are somebody's script: the oldest sessions make way.
_END_OLDEST: Final = f"""
UPDATE sessions SET ended_ms = %(now)s WHERE session_id IN (
    SELECT session_id FROM sessions
    WHERE user_id = %(user)s AND ended_ms IS NULL AND expires_ms > %(now)s
    ORDER BY created_ms DESC, session_id OFFSET {SESSIONS_MAX})
"""
_SWEEP: Final = f"""
DELETE FROM sessions WHERE session_id IN (
    SELECT session_id FROM sessions WHERE expires_ms < %s
    ORDER BY expires_ms LIMIT {_SWEPT_ROWS} FOR UPDATE SKIP LOCKED)
"""
_FIND: Final = """
SELECT s.session_id, s.user_id, a.role, a.state, s.created_ms, s.seen_ms, s.expires_ms, s.ended_ms,
    s.generation, s.current_digest, s.previous_digest, s.retry_digest,
    a.totp_secret IS NOT NULL
FROM sessions s JOIN accounts a USING (user_id) WHERE s.session_id = %s FOR UPDATE OF s
"""
_ROTATE: Final = """
UPDATE sessions SET generation = %s, current_digest = %s, previous_digest = %s, retry_digest = %s,
    seen_ms = %s, expires_ms = %s, device = %s, network = %s WHERE session_id = %s
"""
_LIST: Final = """
SELECT session_id, device, network, created_ms, seen_ms, expires_ms FROM sessions
WHERE user_id = %s AND ended_ms IS NULL AND expires_ms > %s
ORDER BY created_ms DESC, session_id LIMIT %s
"""


class _Row(msgspec.Struct, frozen=True):
    session_id: str
    user_id: str
    role: Role
    state: str
    created_ms: int
    seen_ms: int
    expires_ms: int
    ended_ms: int | None
    generation: int
    current_digest: bytes
    previous_digest: bytes | None
    retry_digest: bytes | None
    has_second_factor: bool


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who is signed in on a device. refresh_token: as the client gets it."""

    user_id: str
    role: Role
    has_second_factor: bool
    session_id: str
    refresh_token: str
    expires_ms: int


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """signed: of "rotated" only. user_id, session_id: of "reused" too."""

    outcome: Outcome
    signed: Signed | None = None
    user_id: str = ""
    session_id: str = ""


async def open_session(
    connection: Connection,
    server_secret: bytes,
    *,
    user_id: str,
    role: Role,
    has_second_factor: bool,
    origin: Origin,
    now_ms: int,
) -> Signed:
    session_id = new_session_id()
    secret = refresh_tokens.first_secret(
        server_secret, session_id, secrets.token_bytes(SECRET_BYTES)
    )
    token = RefreshToken(session_id=session_id, generation=0, secret=secret)
    expires_ms = now_ms + min(IDLE_MS, LIFE_MS)
    await connection.execute(
        _INSERT,
        (
            session_id,
            user_id,
            origin.device,
            origin.network,
            now_ms,
            now_ms,
            expires_ms,
            token.digest(),
        ),
    )
    await connection.execute(_END_OLDEST, {"user": user_id, "now": now_ms})
    await connection.execute(_SWEEP, (now_ms - _KEPT_MS,))
    return Signed(
        user_id=user_id,
        role=role,
        has_second_factor=has_second_factor,
        session_id=session_id,
        refresh_token=refresh_tokens.written(server_secret, token),
        expires_ms=expires_ms,
    )


async def rotate(
    connection: Connection,
    server_secret: bytes,
    token: RefreshToken,
    *,
    key: str,
    origin: Origin,
    now_ms: int,
) -> Rotation:
    """The next refresh token of the family, or its end. key: of the request, "" without one."""
    found = await (await connection.execute(_FIND, (token.session_id,))).fetchone()
    row = None if found is None else _Row(*found)
    if row is None or row.ended_ms is not None or row.expires_ms <= now_ms:
        return Rotation(outcome="invalid")
    if row.state != "active":
        return Rotation(outcome="invalid")
    key_bytes = hashlib.sha256(key.encode()).digest() if key else secrets.token_bytes(SECRET_BYTES)
    child = refresh_tokens.child_of(server_secret, token, key_bytes)
    expires_ms = min(now_ms + IDLE_MS, row.created_ms + LIFE_MS)
    if _is_retry(row, token, key_bytes, now_ms):
        expires_ms = row.expires_ms
    elif token.digest() != row.current_digest:
        await end(connection, row.session_id, now_ms=now_ms)
        return Rotation(outcome="reused", user_id=row.user_id, session_id=row.session_id)
    else:
        await connection.execute(
            _ROTATE,
            (
                child.generation,
                child.digest(),
                row.current_digest,
                key_bytes,
                now_ms,
                expires_ms,
                origin.device,
                origin.network,
                row.session_id,
            ),
        )
    signed = Signed(
        user_id=row.user_id,
        role=row.role,
        has_second_factor=row.has_second_factor,
        session_id=row.session_id,
        refresh_token=refresh_tokens.written(server_secret, child),
        expires_ms=expires_ms,
    )
    return Rotation(outcome="rotated", signed=signed)


def _is_retry(row: _Row, token: RefreshToken, key: bytes, now_ms: int) -> bool:
    return (
        token.digest() == row.previous_digest
        and key == row.retry_digest
        and now_ms - row.seen_ms <= RETRY_MS
    )


async def listed(
    connection: Connection, user_id: str, *, current: str, now_ms: int
) -> tuple[DeviceSession, ...]:
    """Those that are open, newest first. current: the session that asks."""
    rows = await (await connection.execute(_LIST, (user_id, now_ms, SESSIONS_MAX))).fetchall()
    return tuple(
        DeviceSession(
            session_id=row[0],
            device=row[1],
            network=row[2],
            created_time=row[3],
            seen_time=row[4],
            expires_time=row[5],
            is_current=row[0] == current,
        )
        for row in rows
    )


async def belongs_to(connection: Connection, session_id: str) -> str | None:
    """The user whose session it is or was; None if there is no such session."""
    if not is_session_id(session_id):
        return None
    query = "SELECT user_id FROM sessions WHERE session_id = %s"
    row: tuple[Any, ...] | None = await (await connection.execute(query, (session_id,))).fetchone()
    return None if row is None else str(row[0])


async def is_open(connection: Connection, session_id: str, *, now_ms: int) -> bool:
    query = "SELECT ended_ms IS NULL AND expires_ms > %s FROM sessions WHERE session_id = %s"
    row = await (await connection.execute(query, (now_ms, session_id))).fetchone()
    return row is not None and bool(row[0])


async def is_home(connection: Connection, user_id: str, network: str) -> bool:
    """Has the account signed in from this network, as far back as sessions are kept."""
    query = "SELECT EXISTS (SELECT FROM sessions WHERE user_id = %s AND network = %s)"
    row = await (await connection.execute(query, (user_id, network))).fetchone()
    return row is not None and bool(row[0])


async def end(connection: Connection, session_id: str, *, now_ms: int) -> bool:
    """False if it had ended before."""
    query = "UPDATE sessions SET ended_ms = %s WHERE session_id = %s AND ended_ms IS NULL"
    return (await connection.execute(query, (now_ms, session_id))).rowcount > 0


async def end_all(
    connection: Connection, user_id: str, *, now_ms: int, but: str | None = None
) -> int:
    """How many ended. but: a session that goes on."""
    query: LiteralString = (
        "UPDATE sessions SET ended_ms = %s WHERE user_id = %s AND ended_ms IS NULL"
        " AND session_id IS DISTINCT FROM %s"
    )
    return (await connection.execute(query, (now_ms, user_id, but))).rowcount
