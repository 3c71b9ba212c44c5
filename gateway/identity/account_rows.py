"""Rows of the table accounts: found, made, changed, in the transaction of whoever calls."""

from typing import Any, Final, LiteralString

import msgspec
import psycopg
from psycopg import errors

from gateway.access import Role
from gateway.database import Connection
from gateway.errors import Refusal
from gateway.identity.names import NameKind, Names, is_user_id
from schemas.wire import WireCode
from schemas.wire_identity import Account, AccountState

_COLUMNS: Final[LiteralString] = (
    "user_id, number, role, state, user_name, phone, email, password_hash, created_ms,"
    " totp_secret, totp_pending, totp_pending_ms, totp_step, totp_confirm_key, totp_confirmed_ms,"
    " recovery_codes"
)
_BY_NAME: Final[dict[NameKind, LiteralString]] = {
    "user_name": f"SELECT {_COLUMNS} FROM accounts WHERE user_name = %s",
    "phone": f"SELECT {_COLUMNS} FROM accounts WHERE phone = %s",
    "email": f"SELECT {_COLUMNS} FROM accounts WHERE email = %s",
}


class AccountRow(msgspec.Struct, frozen=True):
    """Fields in the order of _COLUMNS. totp_secret, totp_pending: encrypted."""

    user_id: str
    number: int
    role: Role
    state: AccountState
    user_name: str | None
    phone: str | None
    email: str | None
    password_hash: str | None
    created_ms: int
    totp_secret: bytes | None
    totp_pending: bytes | None
    totp_pending_ms: int
    totp_step: int
    totp_confirm_key: bytes | None
    totp_confirmed_ms: int
    recovery_codes: list[bytes]

    def names(self) -> Names:
        return Names(user_name=self.user_name, phone=self.phone, email=self.email)

    def shown(self) -> Account:
        return Account(
            user_id=self.user_id,
            role=self.role,
            state=self.state,
            user_name=self.user_name,
            phone=self.phone,
            email=self.email,
            created_time=self.created_ms,
            second_factor=self.totp_secret is not None,
        )


async def by_name(connection: Connection, kind: NameKind, name: str) -> AccountRow | None:
    return _row(await (await connection.execute(_BY_NAME[kind], (name,))).fetchone())


async def find(connection: Connection, user_id: str, *, locks: bool = False) -> AccountRow | None:
    """locks: keep others from changing it until the transaction ends."""
    if not is_user_id(user_id):
        return None
    query: LiteralString = f"SELECT {_COLUMNS} FROM accounts WHERE user_id = %s"
    if locks:
        query += " FOR UPDATE"
    return _row(await (await connection.execute(query, (user_id,))).fetchone())


async def get(connection: Connection, user_id: str, *, locks: bool = False) -> AccountRow:
    """Raises Refusal(unknown_user)."""
    row = await find(connection, user_id, locks=locks)
    if row is None:
        raise unknown_user()
    return row


async def page(
    connection: Connection,
    *,
    after: int,
    limit: int,
    role: Role | None,
    state: AccountState | None,
) -> list[AccountRow]:
    """In the order of registration, those whose number is above `after`."""
    query: LiteralString = f"SELECT {_COLUMNS} FROM accounts WHERE number > %s"
    fields: list[Any] = [after]
    if role is not None:
        query += " AND role = %s"
        fields.append(role)
    if state is not None:
        query += " AND state = %s"
        fields.append(state)
    query += " ORDER BY number LIMIT %s"
    found = await (await connection.execute(query, (*fields, limit))).fetchall()
    return [AccountRow(*row) for row in found]


async def insert(
    connection: Connection,
    *,
    user_id: str,
    role: Role,
    names: Names,
    password_hash: str,
    now_ms: int,
) -> None:
    """Raises Refusal(name_taken), naming the field; the transaction is lost then."""
    try:
        await connection.execute(
            "INSERT INTO accounts (user_id, role, user_name, phone, email, password_hash,"
            " created_ms) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (user_id, role, names.user_name, names.phone, names.email, password_hash, now_ms),
        )
    except errors.UniqueViolation as exc:
        raise _taken(exc) from exc


async def set_password(connection: Connection, user_id: str, password_hash: str) -> None:
    await connection.execute(
        "UPDATE accounts SET password_hash = %s WHERE user_id = %s", (password_hash, user_id)
    )


async def set_role(connection: Connection, user_id: str, role: Role) -> None:
    await connection.execute("UPDATE accounts SET role = %s WHERE user_id = %s", (role, user_id))


async def set_state(connection: Connection, user_id: str, state: AccountState) -> None:
    await connection.execute("UPDATE accounts SET state = %s WHERE user_id = %s", (state, user_id))


async def remove_second_factor(connection: Connection, user_id: str) -> None:
    await connection.execute(
        "UPDATE accounts SET totp_secret = NULL, totp_pending = NULL, totp_confirm_key = NULL,"
        " totp_confirmed_ms = 0, recovery_codes = '{}' WHERE user_id = %s",
        (user_id,),
    )


async def erase(connection: Connection, user_id: str) -> None:
    """Everything that says who it was; the id stays, because the ledger's events carry it."""
    await remove_second_factor(connection, user_id)
    for table in ("reset_codes", "outbox", "sessions"):
        query = f"DELETE FROM {table} WHERE user_id = %s".encode()
        await connection.execute(query, (user_id,))
    await connection.execute(
        "UPDATE accounts SET state = 'erased', user_name = NULL, phone = NULL, email = NULL,"
        " password_hash = NULL WHERE user_id = %s",
        (user_id,),
    )


async def one_at_a_time(connection: Connection) -> None:
    """For changes that could take away the last administrator: before any row is locked."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('durian administrators'))")


async def active_admins(connection: Connection) -> list[str]:
    query = "SELECT user_id FROM accounts WHERE role = 'admin' AND state = 'active' LIMIT 2"
    return [row[0] for row in await (await connection.execute(query)).fetchall()]


def unknown_user() -> Refusal:
    return Refusal(WireCode.UNKNOWN_USER, "There is no such user.")


def _row(found: tuple[Any, ...] | None) -> AccountRow | None:
    return None if found is None else AccountRow(*found)


def _taken(exc: psycopg.Error) -> Refusal:
    constraint = exc.diag.constraint_name or ""
    field = constraint.removeprefix("accounts_").removesuffix("_key")
    return Refusal(WireCode.NAME_TAKEN, f"Somebody else has this {field}.", {"field": field})
