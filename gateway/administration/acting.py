"""What an administrative request acts with: who asks, the desk and the accounts."""

from typing import Any

import msgspec

from gateway.access import Access, Scope
from gateway.commands import idempotency_key
from gateway.desk.desk import Desk
from gateway.desk.intents import Actor
from gateway.endpoint import Call
from gateway.errors import DatabaseUnavailable
from gateway.identity.accounts import Accounts
from gateway.ports import Resources
from gateway.tracing import trace
from schemas.wire import WireCode

LOOKS = Access(Scope.AUDIT)
OPERATES = Access(Scope.OPERATE)
ADMINISTERS = Access(Scope.ADMINISTER)


def actor_of(call: Call[Any, Any]) -> Actor:
    """Raises Refusal(invalid_idempotency_key)."""
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
