"""One-time codes for a forgotten password, and how they reach their owner.

Delivery is a port. The shipped one writes to the operator's outbox; one that sends messages should
also only put them down in the transaction, so that no answer's time tells whether there is such an
account.
"""

import hashlib
import secrets
from typing import Final, Protocol

import msgspec

from gateway.database import Connection
from gateway.identity.account_rows import AccountRow

CODE_MS: Final = 15 * 60_000
# Asked for again sooner, the code that was given stays: nobody is sent hundreds.
RENEWABLE_MS: Final = 60_000
_CODE_CHARS: Final = 10
# Without those that are mistaken for one another when read aloud or from paper.
_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """channel: "email", "phone" or "operator", where there is only a name to go by."""

    user_id: str
    purpose: str
    channel: str
    address: str
    code: str
    created_ms: int
    expires_ms: int


class Delivery(Protocol):
    """Takes a message over, for good once the transaction is committed."""

    async def deliver(self, connection: Connection, message: Message) -> None: ...


class Outbox:
    """Messages in a table, for an operator to hand over: `durian user outbox`."""

    async def deliver(self, connection: Connection, message: Message) -> None:
        await connection.execute("DELETE FROM outbox WHERE expires_ms < %s", (message.created_ms,))
        await connection.execute(
            "INSERT INTO outbox (user_id, purpose, channel, address, code, created_ms, expires_ms)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            msgspec.structs.astuple(message),
        )

    async def take(self, connection: Connection, *, now_ms: int) -> list[Message]:
        """All that have not expired, oldest first; they are gone then."""
        cursor = await connection.execute(
            "WITH gone AS (DELETE FROM outbox RETURNING *)"
            " SELECT user_id, purpose, channel, address, code, created_ms, expires_ms FROM gone"
            " WHERE expires_ms > %s ORDER BY number",
            (now_ms,),
        )
        fields = Message.__struct_fields__
        return [Message(**dict(zip(fields, row, strict=True))) for row in await cursor.fetchall()]


async def give_code(
    connection: Connection, account: AccountRow, delivery: Delivery, *, now_ms: int
) -> bool:
    """A new code, which takes the place of the one before; False if that is brand new."""
    code = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_CHARS))
    given = await connection.execute(
        "INSERT INTO reset_codes AS c (user_id, code_digest, expires_ms)"
        " VALUES (%(user)s, %(digest)s, %(expires)s) ON CONFLICT (user_id) DO UPDATE"
        " SET code_digest = %(digest)s, expires_ms = %(expires)s"
        " WHERE c.expires_ms <= %(renewable)s",
        {
            "user": account.user_id,
            "digest": _digest(account.user_id, code),
            "expires": now_ms + CODE_MS,
            "renewable": now_ms + CODE_MS - RENEWABLE_MS,
        },
    )
    if given.rowcount == 0:
        return False
    channel, address = _way_to(account)
    half = _CODE_CHARS // 2
    message = Message(
        user_id=account.user_id,
        purpose="password_reset",
        channel=channel,
        address=address,
        code=f"{code[:half]}-{code[half:]}",
        created_ms=now_ms,
        expires_ms=now_ms + CODE_MS,
    )
    await delivery.deliver(connection, message)
    return True


async def take_code(connection: Connection, user_id: str, code: str, *, now_ms: int) -> bool:
    """Is it the code; then it is used up. Wrong ones are for the caller to count, by who tries:
    counted by account, a stranger could use up its owner's.
    """
    taken = await connection.execute(
        "DELETE FROM reset_codes WHERE user_id = %s AND code_digest = %s AND expires_ms > %s",
        (user_id, _digest(user_id, code), now_ms),
    )
    return taken.rowcount > 0


def _way_to(account: AccountRow) -> tuple[str, str]:
    if account.email:
        return "email", account.email
    if account.phone:
        return "phone", account.phone
    return "operator", account.user_name or ""


def _digest(user_id: str, code: str) -> bytes:
    # 49 bits that live for a quarter of an hour need no slow hash.
    plain = "".join(code.split()).replace("-", "").upper()
    return hashlib.sha256(f"{user_id}\0{plain}".encode("utf-8", "surrogatepass")).digest()
