"""From a call to the engine and back: idempotency keys, refusals in the wire's words, figures."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

from gateway import recording
from gateway.endpoint import Call
from gateway.errors import EngineUnavailable, Refusal
from gateway.idempotency_keys import key_in
from gateway.rejections import wire_details
from gateway.requests import invalid
from gateway.tracing import mark_replayed, trace
from schemas.commands import LedgerCommand
from schemas.frames import OWN_KEY_MARK, Accepted, Refused

OWN_KEY_BYTES = 16


def idempotency_key(call: Call[Any, Any]) -> str:
    """The request's Idempotency-Key, "" without one. Raises Refusal(invalid_idempotency_key)."""
    return key_in(call.request.headers)


def required_key(call: Call[Any, Any], body_key: str | None, field: str) -> str:
    """The client's own id of a command: from the body, or else from Idempotency-Key."""
    key = body_key or idempotency_key(call)
    if not key:
        raise invalid(f"Give {field}, or an Idempotency-Key header.", field)
    return key


async def submit(
    call: Call[Any, Any],
    command: LedgerCommand,
    *,
    key: str | None = None,
    scales: Mapping[str, int] | None = None,
    asset_scales: Mapping[str, int] | None = None,
    is_recorded: bool = True,
) -> Accepted:
    """What the command did, or what it did the first time its key was used.

    key: instead of the request's. scales, asset_scales: see gateway.rejections.wire_details.
    is_recorded: False if what staff do is recorded by the caller.
    Raises Refusal with the ledger's code, EngineUnavailable, Refusal(invalid_idempotency_key), and
    for staff DatabaseUnavailable.
    """
    # A key of our own lets the connection send the command again when an engine is lost.
    key = key or idempotency_key(call) or OWN_KEY_MARK + secrets.token_hex(OWN_KEY_BYTES)
    intent_id = None
    if is_recorded and recording.is_of_staff(call, command):
        intent_id = await recording.intend(call, command)
    reply = await _asked(call, command, key)
    code = None if isinstance(reply, Accepted) else str(reply.rejection.code)
    if intent_id is not None:
        await recording.came_out(
            call,
            command,
            intent_id,
            outcome="refused" if code else "accepted",
            code=code,
            position=reply.last_position if isinstance(reply, Accepted) else None,
        )
    if isinstance(reply, Refused):
        code = reply.rejection.code
        details = wire_details(reply.rejection, scales=scales, asset_scales=asset_scales)
        raise Refusal(code, f"The ledger refused: {code.replace('_', ' ')}.", details)
    return reply


async def _asked(call: Call[Any, Any], command: LedgerCommand, key: str) -> Accepted | Refused:
    began, outcome = time.perf_counter(), "failed"
    try:
        reply = await call.resources.engine.submit(command, key=key, trace=trace(call.request))
        outcome = "repeated" if reply.is_repeat else _outcome_of(reply)
    except EngineUnavailable as exc:
        outcome = exc.outcome
        raise
    finally:
        call.resources.metrics.answered(
            command=str(command.__struct_config__.tag),
            outcome=outcome,
            seconds=time.perf_counter() - began,
        )
    if reply.is_repeat:
        mark_replayed(call.request)
    return reply


def _outcome_of(reply: Accepted | Refused) -> str:
    return "accepted" if isinstance(reply, Accepted) else str(reply.rejection.code)
