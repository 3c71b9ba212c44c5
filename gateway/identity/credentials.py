"""What people do with their own account by its password: change it, reset it, erase the account.

Each works inside the transaction of its first answer (gateway.first_answers), so that a retry with
the same key finds what the first did; a wrong password is an answer too, whose count must stay.
"""

from gateway.access import Principal
from gateway.database import Connection
from gateway.errors import Refusal
from gateway.identity import account_rows, delays, sessions
from gateway.identity.account_rows import AccountRow
from gateway.identity.codes import give_code, take_code
from gateway.identity.delays import Suspect
from gateway.identity.names import looked_for
from gateway.identity.networks import Origin
from gateway.identity.once import NotNow, Outcome
from gateway.identity.passwords import check_password
from gateway.identity.records import record
from gateway.identity.sign_in import SignIn


async def change_password(
    sign_in: SignIn,
    connection: Connection,
    who: Principal,
    *,
    password: str,
    new_password: str,
    origin: Origin,
) -> Outcome:
    """All sessions but the one that asks end."""
    row, suspect = await _proven(sign_in, connection, who.user_id, password, origin)
    if suspect is None:
        return Outcome("invalid_credentials")
    check_password(new_password, row.names())
    now_ms = sign_in.now_ms()
    await account_rows.set_password(
        connection, row.user_id, await sign_in.passwords.hash(new_password)
    )
    await sessions.end_all(connection, row.user_id, now_ms=now_ms, but=who.session_id or None)
    await record(connection, "password_changed", at_ms=now_ms, user_id=row.user_id)
    return Outcome("done")


async def erase(
    sign_in: SignIn, connection: Connection, who: Principal, *, password: str, origin: Origin
) -> Outcome:
    """Raises Refusal(forbidden) for the last active administrator."""
    await account_rows.one_at_a_time(connection)
    row, suspect = await _proven(sign_in, connection, who.user_id, password, origin)
    if suspect is None:
        return Outcome("invalid_credentials")
    await sign_in.accounts.erase_in(connection, row.user_id, by=who.user_id)
    return Outcome("done")


async def prove(
    sign_in: SignIn, connection: Connection, who: Principal, *, password: str, origin: Origin
) -> Outcome:
    """That it is not only somebody with the device."""
    _, suspect = await _proven(sign_in, connection, who.user_id, password, origin)
    return Outcome("invalid_credentials" if suspect is None else "done")


async def remove_second_factor(
    sign_in: SignIn,
    connection: Connection,
    who: Principal,
    *,
    password: str,
    code: str,
    origin: Origin,
) -> Outcome:
    """By password and a code, or else a thief of one would be rid of the other."""
    row, suspect = await _proven(sign_in, connection, who.user_id, password, origin, succeeds=False)
    if suspect is None:
        return Outcome("invalid_credentials")
    if row.totp_secret is not None:
        if not await sign_in.second_factor.is_right(connection, row, code):
            return Outcome("second_factor_invalid")
        await sign_in.second_factor.remove(connection, row.user_id)
    await delays.succeeded(connection, suspect)
    return Outcome("done")


async def ask_reset(sign_in: SignIn, login: str, origin: Origin) -> None:
    """A code for whoever is called so, if anybody is; the caller can't tell from what it does."""
    wanted = looked_for(login)
    async with sign_in.database.transaction() as connection:
        kind, name = wanted or ("user_name", "-")
        row = await account_rows.by_name(connection, kind, name)
    if row is not None and row.state == "active":
        sign_in.later.do(_give_code(sign_in, row.user_id, origin))


async def reset_password(
    sign_in: SignIn,
    connection: Connection,
    *,
    login: str,
    code: str,
    new_password: str,
    origin: Origin,
) -> Outcome:
    """All sessions end. A second factor stays asked for."""
    kind, name = looked_for(login) or ("user_name", "-")
    row = await account_rows.by_name(connection, kind, name)
    who = _who_resets(sign_in, f"{kind} {name}", origin)
    try:
        await sign_in.count(connection, who)
    except Refusal as refusal:
        raise NotNow(refusal) from refusal
    # Hashed before anything is known, so that a wrong code takes as long as a right one.
    password_hash = await sign_in.passwords.hash(new_password)
    now_ms = sign_in.now_ms()
    if (
        row is None
        or row.state != "active"
        or not await take_code(connection, row.user_id, code, now_ms=now_ms)
    ):
        await record(
            connection,
            "reset_failed",
            at_ms=now_ms,
            user_id=row.user_id if row is not None else None,
            network=origin.network,
        )
        return Outcome("code_invalid")
    check_password(new_password, row.names())
    await account_rows.set_password(connection, row.user_id, password_hash)
    await sessions.end_all(connection, row.user_id, now_ms=now_ms)
    await delays.succeeded(connection, who)
    await record(
        connection, "password_reset", at_ms=now_ms, user_id=row.user_id, network=origin.network
    )
    return Outcome("done")


def _who_resets(sign_in: SignIn, typed: str, origin: Origin) -> Suspect:
    """Counted by network alone: strangers must not keep the owner from a new password."""
    return delays.suspect(
        sign_in.server_secret,
        typed=f"reset {typed}",
        account="",
        network=origin.network,
        is_home=True,
    )


async def _proven(
    sign_in: SignIn,
    connection: Connection,
    user_id: str,
    password: str,
    origin: Origin,
    *,
    succeeds: bool = True,
) -> tuple[AccountRow, Suspect | None]:
    """The account, and None if that was not its password. Raises NotNow, Refusal(unknown_user).

    succeeds: no more is needed, so that the attempt is taken back.
    """
    row = await account_rows.get(connection, user_id, locks=True)
    try:
        suspect = await sign_in.reserve(connection, f"id {user_id}", user_id, origin)
    except Refusal as refusal:
        raise NotNow(refusal) from refusal
    if not await sign_in.passwords.verify(row.password_hash, password):
        await record(
            connection,
            "sign_in_failed",
            at_ms=sign_in.now_ms(),
            user_id=user_id,
            network=origin.network,
        )
        return row, None
    if succeeds:
        await delays.succeeded(connection, suspect)
    return row, suspect


async def _give_code(sign_in: SignIn, user_id: str, origin: Origin) -> None:
    async with sign_in.database.transaction() as connection:
        row = await account_rows.find(connection, user_id, locks=True)
        if row is None or row.state != "active":
            return
        now_ms = sign_in.now_ms()
        if await give_code(connection, row, sign_in.accounts.delivery, now_ms=now_ms):
            await record(
                connection, "reset_asked", at_ms=now_ms, user_id=user_id, network=origin.network
            )
