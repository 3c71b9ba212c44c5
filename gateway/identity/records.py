"""The append-only record of sign-ins and of what was done to accounts; ids only, no names."""

from typing import Literal

from gateway.database import Connection

What = Literal[
    "registered",
    "signed_in",
    "sign_in_failed",
    "second_factor_failed",
    "sign_in_delayed",
    "refresh_reused",
    "signed_out",
    "sessions_ended",
    "password_changed",
    "reset_asked",
    "reset_failed",
    "password_reset",
    "second_factor_set",
    "second_factor_removed",
    "role_set",
    "disabled",
    "enabled",
    "erased",
]


async def record(
    connection: Connection,
    what: What,
    *,
    at_ms: int,
    user_id: str | None = None,
    by: str | None = None,
    session_id: str | None = None,
    network: str = "",
) -> None:
    """user_id: None of somebody who is not known. by: who did it, if not the user."""
    await connection.execute(
        "INSERT INTO sign_in_records (at_ms, what, user_id, by_user_id, session_id, network)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (at_ms, what, user_id, by if by != user_id else None, session_id, network),
    )
