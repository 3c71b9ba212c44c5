"""Signing in and staying so: passwords and second factors against tokens, guessing slowed.

Somebody who is not known and somebody with a wrong password cost the same work and get the same
answer, in the same time.
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from gateway.access import Scope
from gateway.auth import scope_claim
from gateway.database import Connection, Database
from gateway.errors import Refusal
from gateway.identity import account_rows, delays, refresh_tokens, sessions
from gateway.identity.account_rows import AccountRow
from gateway.identity.accounts import Accounts
from gateway.identity.client_limits import ClientLimits
from gateway.identity.delays import Suspect
from gateway.identity.later import Later
from gateway.identity.names import fold, looked_for
from gateway.identity.networks import Origin
from gateway.identity.passwords import Passwords
from gateway.identity.records import What, record
from gateway.identity.second_factor import SecondFactor
from gateway.identity.sessions import Signed
from gateway.identity.signing import ACCESS_SECONDS, Signer
from schemas.wire import WireCode
from schemas.wire_identity import Tokens

Failure = Literal[
    "", "invalid_credentials", "second_factor_required", "second_factor_invalid", "disabled"
]

_REFUSALS: Final[dict[Failure, tuple[WireCode, str]]] = {
    "invalid_credentials": (
        WireCode.INVALID_CREDENTIALS,
        "There is no such account, or the password is wrong.",
    ),
    "second_factor_required": (
        WireCode.SECOND_FACTOR_REQUIRED,
        "Send the code of your authenticator, or a recovery code, as totp.",
    ),
    "second_factor_invalid": (
        WireCode.SECOND_FACTOR_INVALID,
        "This code is wrong, too old, or was used.",
    ),
    "disabled": (WireCode.FORBIDDEN, "This account is disabled."),
}
_RECORDED: Final[dict[Failure, What]] = {
    "invalid_credentials": "sign_in_failed",
    "second_factor_required": "sign_in_failed",
    "second_factor_invalid": "second_factor_failed",
    "disabled": "sign_in_failed",
}


class _Attempt(msgspec.Struct, frozen=True):
    """row: None if nobody is called so."""

    row: AccountRow | None
    who: Suspect


class SignIn:
    """What the auth service is made of. Every method raises DatabaseUnavailable."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        passwords: Passwords,
        signer: Signer,
        server_secret: bytes,
        limits: ClientLimits,
        now_ms: Callable[[], int],
        staff_needs_second_factor: bool = False,
    ) -> None:
        """staff_needs_second_factor: without one they get tokens for their own account only."""
        self.accounts = accounts
        self.staff_needs_second_factor = staff_needs_second_factor
        self.database: Database = accounts.database
        self.passwords = passwords
        self.signer = signer
        self.limits = limits
        self.now_ms = now_ms
        self.server_secret = server_secret
        self.second_factor = SecondFactor(
            accounts.database, server_secret=server_secret, now_ms=now_ms
        )
        self.later = Later()

    async def login(self, login: str, password: str, code: str | None, *, origin: Origin) -> Tokens:
        """Raises Refusal: invalid_credentials, sign_in_delayed, second_factor_required,
        second_factor_invalid, forbidden (disabled), too_many_requests.
        """
        await self.limits.check("sign_in", origin.client)
        async with self.passwords.turn():
            attempt = await self._attempt(login, origin)
            stored = attempt.row.password_hash if attempt.row is not None else None
            is_right = await self.passwords.verify(stored, password)
            rehashed = await self._rehashed(attempt.row, password) if is_right else None
        async with self.database.transaction() as connection:
            failure = await self._failure(connection, attempt.row, code, is_right=is_right)
            signed = None
            if not failure and attempt.row is not None:
                if rehashed is not None:
                    await account_rows.set_password(connection, attempt.row.user_id, rehashed)
                signed = await self._opened(connection, attempt, origin)
            else:
                await record(
                    connection,
                    _RECORDED[failure],
                    at_ms=self.now_ms(),
                    user_id=attempt.row.user_id if attempt.row is not None else None,
                    network=origin.network,
                )
        if signed is None:
            raise refusal_of(failure)
        return self._tokens(signed)

    async def refresh(self, text: str, *, key: str, origin: Origin) -> Tokens:
        """Raises Refusal: refresh_token_invalid, refresh_token_reused, too_many_requests."""
        token = refresh_tokens.read(self.server_secret, text)
        if token is None:
            # Only inventions count: a carrier's address has thousands who are signed in.
            await self.limits.check("sign_in", origin.client)
            raise _refresh_invalid()
        now_ms = self.now_ms()
        async with self.database.transaction() as connection:
            rotation = await sessions.rotate(
                connection, self.server_secret, token, key=key, origin=origin, now_ms=now_ms
            )
            if rotation.outcome == "reused":
                await record(
                    connection,
                    "refresh_reused",
                    at_ms=now_ms,
                    user_id=rotation.user_id,
                    session_id=rotation.session_id,
                    network=origin.network,
                )
        if rotation.outcome == "reused":
            raise Refusal(
                WireCode.REFRESH_TOKEN_REUSED,
                "This refresh token was used before, so the session has ended: sign in again.",
            )
        if rotation.signed is None:
            raise _refresh_invalid()
        return self._tokens(rotation.signed)

    async def require_open(self, session_id: str) -> None:
        """Raises Refusal(unauthorized) for a session that has ended, though its token has not."""
        if not session_id:
            return
        async with self.database.transaction() as connection:
            if not await sessions.is_open(connection, session_id, now_ms=self.now_ms()):
                raise Refusal(WireCode.UNAUTHORIZED, "This session has ended.")

    async def reserve(
        self, connection: Connection, typed: str, user_id: str | None, origin: Origin
    ) -> Suspect:
        """Count an attempt on an account. Raises Refusal(sign_in_delayed).

        typed: the name it is tried under. user_id: None if nobody is called so.
        """
        # Asked for nobody too: what costs less would be faster.
        is_home = await sessions.is_home(connection, user_id or "", origin.network)
        who = delays.suspect(
            self.server_secret,
            typed=typed,
            account=user_id or typed,
            network=origin.network,
            is_home=is_home,
        )
        await self.count(connection, who)
        return who

    async def count(self, connection: Connection, who: Suspect) -> None:
        """One more attempt. Raises Refusal(sign_in_delayed)."""
        wait_ms = await delays.reserve(connection, who, now_ms=self.now_ms())
        if wait_ms:
            seconds = -(-wait_ms // 1_000)
            raise Refusal(
                WireCode.SIGN_IN_DELAYED,
                f"Too many wrong tries: try again in {seconds} s.",
                {"seconds": seconds},
                retry_after=seconds,
            )

    async def _attempt(self, login: str, origin: Origin) -> _Attempt:
        wanted = looked_for(login)
        async with self.database.transaction() as connection:
            # A name that nobody can have is looked for too: it must not be faster to say no.
            kind, name = wanted or ("user_name", "-")
            row = await account_rows.by_name(connection, kind, name)
            typed = f"{kind} {name}" if wanted else f"no name {fold(login.strip())}"
            user_id = row.user_id if row is not None else None
            return _Attempt(row, await self.reserve(connection, typed, user_id, origin))

    async def _rehashed(self, row: AccountRow | None, password: str) -> str | None:
        stored = row and row.password_hash
        if not stored or not self.passwords.is_outdated(stored):
            return None
        return await self.passwords.hash(password)

    async def _failure(
        self, connection: Connection, row: AccountRow | None, code: str | None, *, is_right: bool
    ) -> Failure:
        if row is None or not is_right or row.state == "erased":
            return "invalid_credentials"
        # What was true when the attempt was counted may have changed while it waited its turn.
        verified, row = row, await account_rows.get(connection, row.user_id, locks=True)
        if row.password_hash != verified.password_hash:
            return "invalid_credentials"
        if row.state != "active":
            return "disabled"
        if row.totp_secret is None:
            return ""
        if code is None:
            return "second_factor_required"
        is_second_right = await self.second_factor.is_right(connection, row, code)
        return "" if is_second_right else "second_factor_invalid"

    async def _opened(self, connection: Connection, attempt: _Attempt, origin: Origin) -> Signed:
        assert attempt.row is not None
        now_ms = self.now_ms()
        await delays.succeeded(connection, attempt.who)
        signed = await sessions.open_session(
            connection,
            self.server_secret,
            user_id=attempt.row.user_id,
            role=attempt.row.role,
            has_second_factor=attempt.row.totp_secret is not None,
            origin=origin,
            now_ms=now_ms,
        )
        await record(
            connection,
            "signed_in",
            at_ms=now_ms,
            user_id=signed.user_id,
            session_id=signed.session_id,
            network=origin.network,
        )
        return signed

    def _tokens(self, signed: Signed) -> Tokens:
        scope = scope_claim(signed.role)
        if (
            self.staff_needs_second_factor
            and signed.role != "user"
            and not signed.has_second_factor
        ):
            # Enough to set one up.
            scope = Scope.ACCOUNT
        return Tokens(
            user_id=signed.user_id,
            session_id=signed.session_id,
            role=signed.role,
            scope=scope,
            access_token=self.signer.sign(
                user_id=signed.user_id,
                role=signed.role,
                scope=scope,
                session_id=signed.session_id,
            ),
            expires_in=ACCESS_SECONDS,
            refresh_token=signed.refresh_token,
            refresh_expires_in=max((signed.expires_ms - self.now_ms()) // 1_000, 0),
        )


def refusal_of(failure: Failure) -> Refusal:
    code, detail = _REFUSALS[failure]
    return Refusal(code, detail)


def _refresh_invalid() -> Refusal:
    return Refusal(WireCode.REFRESH_TOKEN_INVALID, "Sign in again.")
