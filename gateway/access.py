"""Who may do what: scopes, which role is granted which, and what each endpoint asks for.

One table; docs/permissions.md is rendered from it and a test tries every cell of it.
"""

import enum
from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec

from gateway.errors import Refusal
from schemas.wire import WireCode

Role = Literal["user", "auditor", "operator", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)


class Scope(enum.StrEnum):
    """What a token allows; a token may carry fewer than its role is granted."""

    ACCOUNT = "account"
    READ = "read"
    TRADE = "trade"
    WITHDRAW = "withdraw"
    READ_OTHERS = "read:others"
    TRADE_OTHERS = "trade:others"
    AUDIT = "audit"
    OPERATE = "operate"
    ADMINISTER = "administer"


MEANINGS: Final[Mapping[Scope, str]] = {
    Scope.ACCOUNT: "one's own sign-in: password, sessions, second factor",
    Scope.READ: "what is one's own in the ledger",
    Scope.TRADE: "orders and settlements of one's own",
    Scope.WITHDRAW: "asking for withdrawals of one's own",
    Scope.READ_OTHERS: "what others have in the ledger",
    Scope.TRADE_OTHERS: "orders, settlements and withdrawals on behalf of others",
    Scope.AUDIT: "the record of who did what, health, jobs and users, to look at",
    Scope.OPERATE: "deposits, contributions, decisions on withdrawals, freezing, halts, jobs",
    Scope.ADMINISTER: "users and roles, markets, emission, burning",
}

_USER: Final = frozenset({Scope.ACCOUNT, Scope.READ, Scope.TRADE, Scope.WITHDRAW})
_AUDITOR: Final = frozenset({Scope.ACCOUNT, Scope.READ, Scope.READ_OTHERS, Scope.AUDIT})
_OPERATOR: Final = _USER | _AUDITOR | {Scope.TRADE_OTHERS, Scope.OPERATE}
GRANTS: Final[Mapping[Role, frozenset[Scope]]] = {
    "user": _USER,
    "auditor": _AUDITOR,
    "operator": _OPERATOR,
    "admin": frozenset(Scope),
}


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who a valid token stands for. expires_second: Unix, the first second without it.

    scopes: never more than the role is granted. session_id: "" of a token without a session, such
    as those of `durian token`.
    """

    user_id: str
    role: Role
    expires_second: int
    scopes: frozenset[Scope] = frozenset()
    session_id: str = ""


class Access(msgspec.Struct, frozen=True):
    """own: the scope that a caller needs, None for everybody, without a token.

    others: the scope that allows naming somebody else as the user it is about; None if no user is
    named, or if no one may.
    """

    own: Scope | None
    others: Scope | None = None


PUBLIC: Final = Access(None)


def require_scope(principal: Principal, scope: Scope) -> None:
    """Raises Refusal(forbidden) unless the principal has the scope."""
    if scope not in principal.scopes:
        roles = " ".join(role for role in ROLES if scope in GRANTS[role])
        raise Refusal(
            WireCode.FORBIDDEN,
            f"This needs scope {scope}; a token of role {principal.role} came without it.",
            {"scope": str(scope), "allowed": roles},
        )


def subject(principal: Principal, user_id: str | None, access: Access) -> str:
    """The user that a request is about: oneself unless another is named.

    Raises Refusal(forbidden) for whoever may not name another.
    """
    if user_id is None or user_id == principal.user_id:
        return principal.user_id
    if access.others is None:
        raise Refusal(WireCode.FORBIDDEN, "This is possible for oneself only.")
    require_scope(principal, access.others)
    return user_id
