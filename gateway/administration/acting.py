"""What an administrative request acts with: who asks, the desk and the accounts."""

import logging
from typing import Any

import msgspec

from gateway.access import GRANTS, Access, Principal, Scope, require_scope
from gateway.commands import idempotency_key
from gateway.desk.desk import Desk
from gateway.desk.intents import Actor
from gateway.endpoint import Call
from gateway.errors import DatabaseUnavailable, Refusal
from gateway.identity import sessions
from gateway.identity.accounts import Accounts
from gateway.ports import Resources
from gateway.tracing import trace
from schemas.wire import WireCode

logger = logging.getLogger(__name__)

LOOKS = Access(Scope.AUDIT)
OPERATES = Access(Scope.OPERATE)
ADMINISTERS = Access(Scope.ADMINISTER)


async def acting(call: Call[Any, Any]) -> Actor:
    """Who asks for a change, and still may. Raises Refusal(invalid_idempotency_key, unauthorized,
    forbidden).
    """
    await _require_still(call)
    endpoint = call.endpoint
    asked = [f"{endpoint.method} {endpoint.path}", call.parameters, call.body]
    return Actor(
        who=call.principal.user_id,
        role=call.principal.role,
        request_id=trace(call.request),
        key=idempotency_key(call),
        request=msgspec.json.encode(asked),
    )


def desk_of(resources: Resources) -> Desk:
    """Raises DatabaseUnavailable(desk_unavailable) where none is configured."""
    if resources.desk is None:
        raise DatabaseUnavailable(WireCode.DESK_UNAVAILABLE, "no DURIAN_DESK_URL")
    return resources.desk


def accounts_of(resources: Resources) -> Accounts:
    """Raises DatabaseUnavailable(accounts_unavailable) where none are configured."""
    if resources.accounts is None:
        raise DatabaseUnavailable(WireCode.ACCOUNTS_UNAVAILABLE, "no DURIAN_AUTH_URL")
    return resources.accounts


async def _require_still(call: Call[Any, Any]) -> None:
    """A token holds for minutes after its session ended or its role was taken; changes do not."""
    principal, wanted = call.principal, call.endpoint.access.own
    assert wanted is not None, "nobody changes anything without a token"
    try:
        await _require_account(accounts_of(call.resources), principal, wanted)
    except DatabaseUnavailable:
        # A market must be halted, an account frozen, also while the accounts are away.
        if wanted is not Scope.OPERATE:
            raise
        logger.warning("accounts do not answer: %s acts by its token alone", principal.user_id)


async def _require_account(accounts: Accounts, principal: Principal, wanted: Scope) -> None:
    try:
        account = await accounts.get(principal.user_id)
    except Refusal as refusal:
        # `durian token` makes tokens, without a session, for whoever has the signing key.
        if refusal.code == WireCode.UNKNOWN_USER and not principal.session_id:
            return
        raise Refusal(WireCode.UNAUTHORIZED, "There is no such account any more.") from refusal
    if account.state != "active":
        raise Refusal(WireCode.UNAUTHORIZED, f"The account is {account.state}.")
    scopes = principal.scopes & GRANTS[account.role]
    require_scope(msgspec.structs.replace(principal, role=account.role, scopes=scopes), wanted)
    if principal.session_id:
        async with accounts.database.transaction() as connection:
            now_ms = accounts.now_ms()
            if not await sessions.is_open(connection, principal.session_id, now_ms=now_ms):
                raise Refusal(WireCode.UNAUTHORIZED, "The session has ended.")
