"""The auth service's endpoints for passwords and second factors, and for erasing an account."""

from typing import Final

from gateway.access import PUBLIC
from gateway.commands import idempotency_key
from gateway.endpoint import Call, Endpoint, Parameters
from gateway.identity import credentials
from gateway.identity.codes import CODE_MS
from gateway.identity.networks import origin
from gateway.identity.once import done_once
from gateway.identity.routes import OWN_ACCOUNT, sign_in_of
from schemas.wire import WireCode
from schemas.wire_identity import (
    Account,
    AskResetBody,
    ChangePasswordBody,
    ConfirmResetBody,
    PasswordBody,
    RecoveryCodes,
    RemoveTotpBody,
    ResetAsked,
    SessionsEnded,
    TotpCodeBody,
    TotpSetup,
)


async def change_password(call: Call[Parameters, ChangePasswordBody]) -> Account:
    """Every other session of the account ends."""
    sign_in, who, body = sign_in_of(call), call.principal, call.body
    await done_once(
        call,
        sign_in,
        lambda connection: credentials.change_password(
            sign_in,
            connection,
            who,
            password=body.password,
            new_password=body.new_password,
            origin=origin(call),
        ),
    )
    return await sign_in.accounts.get(who.user_id)


async def ask_reset(call: Call[Parameters, AskResetBody]) -> ResetAsked:
    """Have a one-time code sent to whoever is called so; the answer is the same for everybody.

    Asked for again within a minute, the code that was given stays.
    """
    sign_in = sign_in_of(call)
    await sign_in.limits.check("code", origin(call).client)
    await credentials.ask_reset(sign_in, call.body.login, origin(call))
    return ResetAsked(expires_in=CODE_MS // 1_000)


async def confirm_reset(call: Call[Parameters, ConfirmResetBody]) -> ResetAsked:
    """Set a new password with the code. All sessions end; a second factor is still asked for."""
    sign_in, body = sign_in_of(call), call.body
    await sign_in.limits.check("code", origin(call).client)
    await done_once(
        call,
        sign_in,
        lambda connection: credentials.reset_password(
            sign_in,
            connection,
            login=body.login,
            code=body.code,
            new_password=body.new_password,
            origin=origin(call),
        ),
    )
    return ResetAsked(expires_in=0)


async def erase_me(call: Call[Parameters, PasswordBody]) -> SessionsEnded:
    """Forget who I am: names, password, sessions. It can't be undone.

    The ledger goes on under the user_id, which says nothing about anybody.
    """
    sign_in, who = sign_in_of(call), call.principal
    await done_once(
        call,
        sign_in,
        lambda connection: credentials.erase(
            sign_in, connection, who, password=call.body.password, origin=origin(call)
        ),
    )
    return SessionsEnded(user_id=who.user_id)


async def set_up_totp(call: Call[Parameters, PasswordBody]) -> TotpSetup:
    """A secret for an authenticator. It counts once /v1/totp/confirm got a code of it.

    Within ten minutes the answer is the same again.
    """
    sign_in, who = sign_in_of(call), call.principal
    await done_once(
        call,
        sign_in,
        lambda connection: credentials.prove(
            sign_in, connection, who, password=call.body.password, origin=origin(call)
        ),
    )
    return await sign_in.second_factor.set_up(who.user_id)


async def confirm_totp(call: Call[Parameters, TotpCodeBody]) -> RecoveryCodes:
    """From now on /v1/login asks for a code. The recovery codes are shown this once."""
    sign_in, who = sign_in_of(call), call.principal
    await sign_in.require_open(who.session_id)
    return await sign_in.second_factor.confirm(
        who.user_id, call.body.totp, key=idempotency_key(call)
    )


async def remove_totp(call: Call[Parameters, RemoveTotpBody]) -> Account:
    """Passwords alone are enough again. Needs the password and a code, or a recovery code."""
    sign_in, who = sign_in_of(call), call.principal
    await done_once(
        call,
        sign_in,
        lambda connection: credentials.remove_second_factor(
            sign_in,
            connection,
            who,
            password=call.body.password,
            code=call.body.totp,
            origin=origin(call),
        ),
    )
    return await sign_in.accounts.get(who.user_id)


_PROOF: Final = (WireCode.INVALID_CREDENTIALS, WireCode.SIGN_IN_DELAYED, WireCode.UNKNOWN_USER)

ENDPOINTS: Final = (
    Endpoint(
        method="DELETE",
        path="/v1/me",
        handle=erase_me,
        summary="Erase one's account",
        access=OWN_ACCOUNT,
        body=PasswordBody,
        answer=SessionsEnded,
        is_command=True,
        refuses=_PROOF,
    ),
    Endpoint(
        method="POST",
        path="/v1/password",
        handle=change_password,
        summary="Change one's password",
        access=OWN_ACCOUNT,
        body=ChangePasswordBody,
        answer=Account,
        is_command=True,
        refuses=(*_PROOF, WireCode.PASSWORD_TOO_WEAK),
    ),
    Endpoint(
        method="POST",
        path="/v1/password/reset",
        handle=ask_reset,
        summary="Ask for a one-time code",
        access=PUBLIC,
        body=AskResetBody,
        answer=ResetAsked,
        status=202,
        is_command=True,
    ),
    Endpoint(
        method="POST",
        path="/v1/password/reset/confirm",
        handle=confirm_reset,
        summary="Set a new password with a code",
        access=PUBLIC,
        body=ConfirmResetBody,
        answer=ResetAsked,
        is_command=True,
        refuses=(WireCode.CODE_INVALID, WireCode.SIGN_IN_DELAYED, WireCode.PASSWORD_TOO_WEAK),
    ),
    Endpoint(
        method="POST",
        path="/v1/totp/setup",
        handle=set_up_totp,
        summary="Begin a second factor",
        access=OWN_ACCOUNT,
        body=PasswordBody,
        answer=TotpSetup,
        is_command=True,
        refuses=_PROOF,
    ),
    Endpoint(
        method="POST",
        path="/v1/totp/confirm",
        handle=confirm_totp,
        summary="Turn the second factor on",
        access=OWN_ACCOUNT,
        body=TotpCodeBody,
        answer=RecoveryCodes,
        is_command=True,
        refuses=(WireCode.SECOND_FACTOR_INVALID, WireCode.UNKNOWN_USER),
    ),
    Endpoint(
        method="POST",
        path="/v1/totp/disable",
        handle=remove_totp,
        summary="Turn the second factor off",
        access=OWN_ACCOUNT,
        body=RemoveTotpBody,
        answer=Account,
        is_command=True,
        refuses=(*_PROOF, WireCode.SECOND_FACTOR_INVALID),
    ),
)
