"""Wire shapes of the auth service: registering, signing in, sessions, second factor, resets.

Times are Unix milliseconds. The patterns are what gateway.identity.names checks again.
"""

from typing import Annotated, Literal

import msgspec

from schemas.wire import RequestBody

AccountState = Literal["active", "disabled", "erased"]
AccountRole = Literal["user", "auditor", "operator", "admin"]

USER_ID_PATTERN = "^u_[a-z2-7]{26}$"
SESSION_ID_PATTERN = "^s_[a-z2-7]{26}$"
NAME_PATTERN = "^[0-9A-Za-z_.\\-\u4e00-\u9fff]{3,32}$"
PHONE_PATTERN = "^\\+[1-9][0-9]{6,14}$"
EMAIL_PATTERN = "^[!-?A-~]{1,64}@[0-9A-Za-z.\\-]{1,189}$"
PASSWORD_CHARS_MIN = 10
PASSWORD_CHARS_MAX = 256

UserName = Annotated[
    str,
    msgspec.Meta(
        pattern=NAME_PATTERN,
        description="3 to 32 letters (Latin or Chinese), digits, '_', '.' or '-';"
        " upper and lower case are the same name.",
    ),
]
Phone = Annotated[str, msgspec.Meta(pattern=PHONE_PATTERN, description="A number as E.164.")]
Email = Annotated[
    str, msgspec.Meta(pattern=EMAIL_PATTERN, description="An e-mail address of ASCII.")
]
NewPassword = Annotated[
    str,
    msgspec.Meta(
        min_length=PASSWORD_CHARS_MIN,
        max_length=PASSWORD_CHARS_MAX,
        description="Any characters; not one of the most common ones, nor one's own name.",
    ),
]
GivenPassword = Annotated[str, msgspec.Meta(max_length=PASSWORD_CHARS_MAX)]
Login = Annotated[
    str, msgspec.Meta(min_length=1, max_length=254, description="User name, phone or e-mail.")
]
SecondFactor = Annotated[
    str,
    msgspec.Meta(
        min_length=6, max_length=32, description="The authenticator's code, or a recovery code."
    ),
]
TotpCode = Annotated[str, msgspec.Meta(pattern="^[0-9]{6}$", description="Six digits.")]
ResetCode = Annotated[
    str, msgspec.Meta(min_length=1, max_length=32, description="The one-time code.")
]
RefreshToken = Annotated[
    str, msgspec.Meta(min_length=1, max_length=256, description="The newest refresh token.")
]
SessionId = Annotated[
    str, msgspec.Meta(pattern=SESSION_ID_PATTERN, description="One device's session.")
]


class RegisterBody(RequestBody, frozen=True, kw_only=True):
    """At least one of user_name, phone and email; none of them may be somebody else's."""

    user_name: UserName | None = None
    phone: Phone | None = None
    email: Email | None = None
    password: NewPassword


class LoginBody(RequestBody, frozen=True, kw_only=True):
    """totp: of accounts with a second factor, which are refused without it."""

    login: Login
    password: GivenPassword
    totp: SecondFactor | None = None


class RefreshBody(RequestBody, frozen=True, kw_only=True):
    """What a session goes on with."""

    refresh_token: RefreshToken


class TotpCodeBody(RequestBody, frozen=True, kw_only=True):
    """What the authenticator shows after it was set up."""

    totp: TotpCode


class PasswordBody(RequestBody, frozen=True, kw_only=True):
    """Proof that it is not only somebody with the device."""

    password: GivenPassword


class RemoveTotpBody(RequestBody, frozen=True, kw_only=True):
    """Both factors, so that a thief of one can't be rid of the other."""

    password: GivenPassword
    totp: SecondFactor


class ChangePasswordBody(RequestBody, frozen=True, kw_only=True):
    """All other sessions end."""

    password: GivenPassword
    new_password: NewPassword


class AskResetBody(RequestBody, frozen=True, kw_only=True):
    """For whom a one-time code is wanted."""

    login: Login


class ConfirmResetBody(RequestBody, frozen=True, kw_only=True):
    """The code is for the account that login names; all its sessions end."""

    login: Login
    code: ResetCode
    new_password: NewPassword


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account; of an erased one only its id, role and times are left.

    created_time: Unix milliseconds. second_factor: is one asked for.
    """

    user_id: str
    role: AccountRole
    state: AccountState
    user_name: str | None
    phone: str | None
    email: str | None
    created_time: int
    second_factor: bool


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What one is signed in with. expires_in, refresh_expires_in: seconds from now.

    access_token: for Authorization: Bearer, with every service. refresh_token: for /v1/refresh,
    once; the answer has the next one. scope: what the access token allows, separated by spaces.
    """

    user_id: str
    session_id: str
    role: AccountRole
    scope: str
    token_type: Literal["Bearer"] = "Bearer"
    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int


class DeviceSession(msgspec.Struct, frozen=True, kw_only=True):
    """One device that is signed in. network: the first part of its address; times Unix ms.

    expires_time: unless it is refreshed before. is_current: the one that asks.
    """

    session_id: str
    device: str
    network: str
    created_time: int
    seen_time: int
    expires_time: int
    is_current: bool


class DeviceSessions(msgspec.Struct, frozen=True, kw_only=True):
    """Those that have not ended, newest first."""

    items: tuple[DeviceSession, ...]


class SessionsEnded(msgspec.Struct, frozen=True, kw_only=True):
    """Their access tokens end by themselves, within ten minutes."""

    user_id: str


class TotpSetup(msgspec.Struct, frozen=True, kw_only=True):
    """For an authenticator; it counts when a code of it was confirmed. qr_svg: a data: URI."""

    secret: str
    otpauth_uri: str
    qr_svg: str


class RecoveryCodes(msgspec.Struct, frozen=True, kw_only=True):
    """Each works once instead of a code; they are not shown again."""

    codes: tuple[str, ...]


class ResetAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The same whether or not there is such an account. expires_in: seconds."""

    expires_in: int


class Jwk(msgspec.Struct, frozen=True, kw_only=True):
    """A public Ed25519 key. Source: RFC 8037."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    kid: str
    x: str
    use: Literal["sig"] = "sig"
    alg: Literal["EdDSA"] = "EdDSA"


class Jwks(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that access tokens are verified with. Source: RFC 7517."""

    keys: tuple[Jwk, ...]
