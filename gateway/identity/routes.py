"""The auth service's endpoints: registering, signing in and out, one's own account and sessions."""

import logging
from typing import Any, Final

from gateway.access import PUBLIC, Access, Scope
from gateway.commands import idempotency_key
from gateway.database import Connection
from gateway.endpoint import Call, Endpoint, NoBody, Parameters
from gateway.errors import EngineUnavailable
from gateway.identity.accounts import NewAccount
from gateway.identity.networks import origin
from gateway.identity.once import Outcome, done_once
from gateway.identity.sign_in import SignIn
from gateway.tracing import trace
from schemas.commands import OpenAccount
from schemas.wire import WireCode
from schemas.wire_identity import (
    Account,
    DeviceSessions,
    Jwks,
    LoginBody,
    RefreshBody,
    RegisterBody,
    SessionId,
    SessionsEnded,
    Tokens,
)

logger = logging.getLogger(__name__)

OWN_ACCOUNT: Final = Access(Scope.ACCOUNT)


class SessionParameters(Parameters, frozen=True, kw_only=True):
    """session_id: as listed by /v1/sessions."""

    session_id: SessionId


def sign_in_of(call: Call[Any, Any]) -> SignIn:
    found = call.resources.sign_in
    assert found is not None, "this endpoint is the auth service's"
    return found


async def register(call: Call[Parameters, RegisterBody]) -> Account:
    """Make an account of role user. Sign in with /v1/login afterwards.

    The user_id is what every other service knows the person by.
    """
    sign_in, body = sign_in_of(call), call.body
    await sign_in.limits.check("register", origin(call).client)
    new = NewAccount(
        user_name=body.user_name, phone=body.phone, email=body.email, password=body.password
    )

    async def work(connection: Connection) -> Outcome:
        made = await sign_in.accounts.create_in(connection, new)
        return Outcome("done", made.user_id)

    user_id = (await done_once(call, sign_in, work)).user_id
    await _open_ledger_account(call, user_id)
    # Read, not remembered: a repeat after an erasure must not tell what was forgotten.
    return await sign_in.accounts.get(user_id)


async def login(call: Call[Parameters, LoginBody]) -> Tokens:
    """Open a session for this device.

    Wrong passwords are answered alike whether or not there is such an account, and sooner or later
    with sign_in_delayed and Retry-After. Each login opens another session.
    """
    body = call.body
    return await sign_in_of(call).login(body.login, body.password, body.totp, origin=origin(call))


async def refresh(call: Call[Parameters, RefreshBody]) -> Tokens:
    """The next access token and the next refresh token of a session.

    A refresh token works once; used again it ends the session, because two have it. If the answer
    may have been lost, send it again with the same Idempotency-Key within a minute.
    """
    key = idempotency_key(call)
    return await sign_in_of(call).refresh(call.body.refresh_token, key=key, origin=origin(call))


async def logout(call: Call[Parameters, NoBody]) -> SessionsEnded:
    """End the session of the access token. A token without a session ends none."""
    who = call.principal
    if who.session_id:
        await sign_in_of(call).accounts.end_session(who.user_id, who.session_id, by=who.user_id)
    return SessionsEnded(user_id=who.user_id)


async def logout_all(call: Call[Parameters, NoBody]) -> SessionsEnded:
    """End all of one's sessions, this one too."""
    sign_in, user_id = sign_in_of(call), call.principal.user_id

    async def work(connection: Connection) -> Outcome:
        await sign_in.accounts.end_sessions_in(connection, user_id, by=user_id)
        return Outcome("done")

    await done_once(call, sign_in, work, hashes=False)
    return SessionsEnded(user_id=user_id)


async def me(call: Call[Parameters, NoBody]) -> Account:
    """One's own account."""
    sign_in = sign_in_of(call)
    await sign_in.require_open(call.principal.session_id)
    return await sign_in.accounts.get(call.principal.user_id)


async def list_sessions(call: Call[Parameters, NoBody]) -> DeviceSessions:
    """The devices that are signed in, newest first, a hundred at most."""
    sign_in, who = sign_in_of(call), call.principal
    await sign_in.require_open(who.session_id)
    return DeviceSessions(
        items=await sign_in.accounts.sessions(who.user_id, current=who.session_id)
    )


async def end_session(call: Call[SessionParameters, NoBody]) -> SessionsEnded:
    """End one of one's sessions, on whichever device; again it is the same."""
    sign_in, user_id = sign_in_of(call), call.principal.user_id

    async def work(connection: Connection) -> Outcome:
        session_id = call.parameters.session_id
        await sign_in.accounts.end_session_in(connection, user_id, session_id, by=user_id)
        return Outcome("done")

    await done_once(call, sign_in, work, hashes=False)
    return SessionsEnded(user_id=user_id)


async def jwks(call: Call[Parameters, NoBody]) -> Jwks:
    """The public keys of access tokens; one that was rotated away stays until it is retired."""
    return sign_in_of(call).signer.jwks()


async def _open_ledger_account(call: Call[Any, Any], user_id: str) -> None:
    # Without an answer it opens with the first deposit or grant; registering is done anyway.
    try:
        await call.resources.engine.submit(
            OpenAccount(user_id=user_id), key=f"register-{user_id}", trace=trace(call.request)
        )
    except EngineUnavailable as exc:
        logger.warning("the ledger account of a new user was not opened: %s", exc)


_SIGN_IN_REFUSES: Final = (
    WireCode.INVALID_CREDENTIALS,
    WireCode.SIGN_IN_DELAYED,
    WireCode.SECOND_FACTOR_REQUIRED,
    WireCode.SECOND_FACTOR_INVALID,
    WireCode.FORBIDDEN,
)

ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/v1/register",
        handle=register,
        summary="Make an account",
        access=PUBLIC,
        body=RegisterBody,
        answer=Account,
        status=201,
        is_command=True,
        refuses=(WireCode.NAME_TAKEN, WireCode.PASSWORD_TOO_WEAK),
    ),
    Endpoint(
        method="POST",
        path="/v1/login",
        handle=login,
        summary="Sign in",
        access=PUBLIC,
        body=LoginBody,
        answer=Tokens,
        refuses=_SIGN_IN_REFUSES,
    ),
    Endpoint(
        method="POST",
        path="/v1/refresh",
        handle=refresh,
        summary="Stay signed in",
        access=PUBLIC,
        body=RefreshBody,
        answer=Tokens,
        is_command=True,
        refuses=(WireCode.REFRESH_TOKEN_INVALID, WireCode.REFRESH_TOKEN_REUSED),
    ),
    Endpoint(
        method="POST",
        path="/v1/logout",
        handle=logout,
        summary="Sign out on this device",
        access=OWN_ACCOUNT,
        answer=SessionsEnded,
        is_command=True,
        refuses=(WireCode.UNKNOWN_SESSION,),
    ),
    Endpoint(
        method="POST",
        path="/v1/logout-all",
        handle=logout_all,
        summary="Sign out everywhere",
        access=OWN_ACCOUNT,
        answer=SessionsEnded,
        is_command=True,
        refuses=(WireCode.UNKNOWN_USER,),
    ),
    Endpoint(
        method="GET",
        path="/v1/me",
        handle=me,
        summary="One's own account",
        access=OWN_ACCOUNT,
        answer=Account,
        refuses=(WireCode.UNKNOWN_USER,),
    ),
    Endpoint(
        method="GET",
        path="/v1/sessions",
        handle=list_sessions,
        summary="Devices that are signed in",
        access=OWN_ACCOUNT,
        answer=DeviceSessions,
        refuses=(WireCode.UNKNOWN_USER,),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/sessions/{session_id}",
        handle=end_session,
        summary="Sign out on a device",
        access=OWN_ACCOUNT,
        parameters=SessionParameters,
        answer=SessionsEnded,
        is_command=True,
        refuses=(WireCode.UNKNOWN_SESSION,),
    ),
    Endpoint(
        method="GET",
        path="/.well-known/jwks.json",
        handle=jwks,
        summary="Keys of access tokens",
        access=PUBLIC,
        answer=Jwks,
    ),
)
