"""Commands on accounts, each done once for its key: like gateway.first_answers, knowing passwords.

Bodies hold passwords here. The digest that is kept of one is made with the server's secret too: by
the database alone nobody can try guesses against it, past the slow hash. What is kept as an answer
says nothing of a person, because answers outlive an account's erasure.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import msgspec

from gateway.commands import idempotency_key
from gateway.database import Connection
from gateway.endpoint import Call
from gateway.errors import GatewayError, Refusal
from gateway.first_answers import Asked, once
from gateway.identity import sessions
from gateway.identity.sign_in import SignIn
from gateway.tracing import mark_replayed
from schemas.wire import WireCode

Result = Literal["done", "invalid_credentials", "second_factor_invalid", "code_invalid"]

_REFUSALS: dict[Result, tuple[WireCode, str]] = {
    "invalid_credentials": (WireCode.INVALID_CREDENTIALS, "The password is wrong."),
    "second_factor_invalid": (
        WireCode.SECOND_FACTOR_INVALID,
        "This code is wrong, too old, or was used.",
    ),
    "code_invalid": (WireCode.CODE_INVALID, "This code is wrong, too old, or was used."),
}

T = TypeVar("T", bound=msgspec.Struct)


class Outcome(msgspec.Struct, frozen=True):
    """What is kept as a first answer. user_id: whom it made, "" if nobody."""

    result: Result
    user_id: str = ""


class NotNow(GatewayError):
    """A refusal that is no first answer: later the same command may be carried out."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


async def done_once(
    call: Call[Any, Any],
    sign_in: SignIn,
    work: Callable[[Connection], Awaitable[Outcome]],
    *,
    hashes: bool = True,
) -> Outcome:
    """What the work did, or did when its key was first used.

    An access token whose session has ended is refused, unless this was done before. hashes: the
    work hashes, so it waits its turn. Raises Refusal, DatabaseUnavailable.
    """
    body = msgspec.json.encode([call.parameters, call.body])
    asked = Asked(
        who=call.principal.user_id if call.endpoint.access.own else "",
        operation=f"{call.endpoint.method} {call.endpoint.path}",
        key=idempotency_key(call),
        body=hmac.digest(sign_in.server_secret, b"body\0" + body, "sha256"),
    )

    async def by_an_open_session(connection: Connection) -> Outcome:
        if call.endpoint.access.own:
            await require_open(connection, sign_in, call.principal.session_id)
        return await work(connection)

    try:
        if hashes:
            async with sign_in.passwords.turn():
                found, is_repeat = await once(
                    sign_in.database, asked, work=by_an_open_session, kind=Outcome
                )
        else:
            found, is_repeat = await once(
                sign_in.database, asked, work=by_an_open_session, kind=Outcome
            )
    except NotNow as exc:
        raise exc.refusal from exc
    if is_repeat:
        mark_replayed(call.request)
    if isinstance(found, Refusal):
        raise found
    if found.result != "done":
        raise Refusal(*_REFUSALS[found.result])
    return found


async def require_open(connection: Connection, sign_in: SignIn, session_id: str) -> None:
    """Raises NotNow(unauthorized) for a session that has ended."""
    if session_id and not await sessions.is_open(connection, session_id, now_ms=sign_in.now_ms()):
        raise NotNow(Refusal(WireCode.UNAUTHORIZED, "This session has ended."))
