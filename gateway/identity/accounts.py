"""Accounts as an administration sees them: made, listed, given a role, disabled, erased.

Each change is written down in the record with who made it. Changes are idempotent: asked for again
they find nothing left to do.
"""

from collections.abc import Awaitable, Callable

import msgspec

from gateway.access import Role
from gateway.database import Connection, Database
from gateway.errors import Refusal
from gateway.identity import account_rows, sessions
from gateway.identity.account_rows import AccountRow
from gateway.identity.codes import Delivery, Outbox, give_code
from gateway.identity.names import looked_for, new_user_id, normalised
from gateway.identity.passwords import Passwords, check_password
from gateway.identity.records import What, record
from schemas.wire import Page, WireCode
from schemas.wire_identity import Account, AccountState, DeviceSession

_CURSOR_CHARS_MAX = 18

Change = Callable[[Connection, AccountRow], Awaitable[None]]


class NewAccount(msgspec.Struct, frozen=True, kw_only=True):
    """As typed: it is normalised and checked here."""

    user_name: str | None = None
    phone: str | None = None
    email: str | None = None
    password: str


class Accounts:
    """Every method raises DatabaseUnavailable(accounts_unavailable).

    by: the id of who does it. Methods that name a user raise Refusal(unknown_user).
    """

    def __init__(
        self,
        database: Database,
        *,
        passwords: Passwords,
        now_ms: Callable[[], int],
        delivery: Delivery | None = None,
    ) -> None:
        self.database = database
        self._passwords = passwords
        self.now_ms = now_ms
        self.delivery: Delivery = delivery or Outbox()

    async def ping(self) -> None:
        await self.database.ping()

    async def create(self, new: NewAccount, *, role: Role = "user", by: str = "") -> Account:
        """Raises Refusal: name_taken, password_too_weak, invalid_request, too_many_requests."""
        async with self._passwords.turn(), self.database.transaction() as connection:
            return await self.create_in(connection, new, role=role, by=by)

    async def create_in(
        self, connection: Connection, new: NewAccount, *, role: Role = "user", by: str = ""
    ) -> Account:
        """create() in a transaction and a turn (passwords.turn) of the caller's."""
        names = normalised(user_name=new.user_name, phone=new.phone, email=new.email)
        check_password(new.password, names)
        user_id, now_ms = new_user_id(), self.now_ms()
        await account_rows.insert(
            connection,
            user_id=user_id,
            role=role,
            names=names,
            password_hash=await self._passwords.hash(new.password),
            now_ms=now_ms,
        )
        await record(connection, "registered", at_ms=now_ms, user_id=user_id, by=by or None)
        return (await account_rows.get(connection, user_id)).shown()

    async def page(
        self,
        *,
        cursor: str | None,
        limit: int,
        role: Role | None = None,
        state: AccountState | None = None,
    ) -> Page[Account]:
        """In the order of registration. Raises Refusal(invalid_request) for no cursor of ours."""
        after = _position(cursor)
        async with self.database.transaction() as connection:
            rows = await account_rows.page(
                connection, after=after, limit=limit + 1, role=role, state=state
            )
        more = str(rows[limit - 1].number) if len(rows) > limit else None
        return Page(items=tuple(row.shown() for row in rows[:limit]), next_cursor=more)

    async def get(self, user_id: str) -> Account:
        async with self.database.transaction() as connection:
            return (await account_rows.get(connection, user_id)).shown()

    async def find(self, login: str) -> Account:
        """By user name, phone, e-mail."""
        wanted = looked_for(login)
        async with self.database.transaction() as connection:
            row = wanted and await account_rows.by_name(connection, *wanted)
        if not row:
            raise account_rows.unknown_user()
        return row.shown()

    async def set_role(self, user_id: str, role: Role, *, by: str) -> Account:
        """Access tokens keep the old role until they expire, in ten minutes at most.

        Raises Refusal(forbidden) for the last active administrator.
        """

        async def change(connection: Connection, row: AccountRow) -> None:
            if row.state == "erased":
                raise Refusal(WireCode.FORBIDDEN, "An erased account has no role any more.")
            if row.role != role:
                await _keep_an_admin(connection, row)
                await account_rows.set_role(connection, user_id, role)
                await self._record(connection, "role_set", user_id, by)

        return await self._changed(user_id, change, may_cost_an_admin=True)

    async def disable(self, user_id: str, *, by: str) -> Account:
        """Sessions end. Raises Refusal(forbidden) for the last active administrator."""

        async def change(connection: Connection, row: AccountRow) -> None:
            if row.state != "active":
                return
            await _keep_an_admin(connection, row)
            await account_rows.set_state(connection, user_id, "disabled")
            await sessions.end_all(connection, user_id, now_ms=self.now_ms())
            await self._record(connection, "disabled", user_id, by)

        return await self._changed(user_id, change, may_cost_an_admin=True)

    async def enable(self, user_id: str, *, by: str) -> Account:
        """Raises Refusal(forbidden) for an erased account."""

        async def change(connection: Connection, row: AccountRow) -> None:
            if row.state == "erased":
                raise Refusal(WireCode.FORBIDDEN, "An erased account does not come back.")
            if row.state == "disabled":
                await account_rows.set_state(connection, user_id, "active")
                await self._record(connection, "enabled", user_id, by)

        return await self._changed(user_id, change)

    async def erase(self, user_id: str, *, by: str) -> Account:
        """Forget who it was; sessions end, names are free again, the ledger is as before.

        Raises Refusal(forbidden) for the last active administrator.
        """
        async with self.database.transaction() as connection:
            return await self.erase_in(connection, user_id, by=by)

    async def erase_in(self, connection: Connection, user_id: str, *, by: str) -> Account:
        """erase() in a transaction of the caller's."""
        await account_rows.one_at_a_time(connection)
        row = await account_rows.get(connection, user_id, locks=True)
        if row.state != "erased":
            await _keep_an_admin(connection, row)
            await account_rows.erase(connection, user_id)
            await self._record(connection, "erased", user_id, by)
        return (await account_rows.get(connection, user_id)).shown()

    async def remove_second_factor(self, user_id: str, *, by: str) -> Account:
        """For somebody who lost the device and the recovery codes."""

        async def change(connection: Connection, row: AccountRow) -> None:
            if row.totp_secret is not None:
                await account_rows.remove_second_factor(connection, user_id)
                await self._record(connection, "second_factor_removed", user_id, by)

        return await self._changed(user_id, change)

    async def send_reset_code(self, user_id: str, *, by: str) -> None:
        """Raises Refusal(forbidden) for an account that is not active."""

        async def change(connection: Connection, row: AccountRow) -> None:
            if row.state != "active":
                raise Refusal(WireCode.FORBIDDEN, "This account is not active.")
            await give_code(connection, row, self.delivery, now_ms=self.now_ms())
            await self._record(connection, "reset_asked", user_id, by)

        await self._changed(user_id, change)

    async def sessions(self, user_id: str, *, current: str = "") -> tuple[DeviceSession, ...]:
        async with self.database.transaction() as connection:
            await account_rows.get(connection, user_id)
            return await sessions.listed(connection, user_id, current=current, now_ms=self.now_ms())

    async def end_session(self, user_id: str, session_id: str, *, by: str) -> None:
        """Raises Refusal(unknown_session) if it was never one of the user's."""
        async with self.database.transaction() as connection:
            await self.end_session_in(connection, user_id, session_id, by=by)

    async def end_session_in(
        self, connection: Connection, user_id: str, session_id: str, *, by: str
    ) -> None:
        """end_session() in a transaction of the caller's."""
        if await sessions.belongs_to(connection, session_id) != user_id:
            raise Refusal(WireCode.UNKNOWN_SESSION, "There is no such session.")
        now_ms = self.now_ms()
        if await sessions.end(connection, session_id, now_ms=now_ms):
            await record(
                connection,
                "signed_out",
                at_ms=now_ms,
                user_id=user_id,
                by=by,
                session_id=session_id,
            )

    async def end_sessions(self, user_id: str, *, by: str) -> int:
        """How many ended."""
        async with self.database.transaction() as connection:
            return await self.end_sessions_in(connection, user_id, by=by)

    async def end_sessions_in(self, connection: Connection, user_id: str, *, by: str) -> int:
        """end_sessions() in a transaction of the caller's."""
        await account_rows.get(connection, user_id)
        ended = await sessions.end_all(connection, user_id, now_ms=self.now_ms())
        if ended:
            await self._record(connection, "sessions_ended", user_id, by)
        return ended

    async def _changed(
        self, user_id: str, change: Change, *, may_cost_an_admin: bool = False
    ) -> Account:
        async with self.database.transaction() as connection:
            if may_cost_an_admin:
                await account_rows.one_at_a_time(connection)
            row = await account_rows.get(connection, user_id, locks=True)
            await change(connection, row)
            return (await account_rows.get(connection, user_id)).shown()

    async def _record(self, connection: Connection, what: What, user_id: str, by: str) -> None:
        await record(connection, what, at_ms=self.now_ms(), user_id=user_id, by=by or None)


async def _keep_an_admin(connection: Connection, row: AccountRow) -> None:
    if row.role != "admin" or row.state != "active":
        return
    if await account_rows.active_admins(connection) == [row.user_id]:
        raise Refusal(WireCode.FORBIDDEN, "This is the last active administrator.")


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _CURSOR_CHARS_MAX):
        raise Refusal(WireCode.INVALID_REQUEST, "This is no cursor of ours.", {"field": "cursor"})
    return int(cursor)
