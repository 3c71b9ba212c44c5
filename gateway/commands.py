"""From a call to the engine and back: idempotency keys, refusals in the wire's words, figures."""

import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from gateway.endpoint import Call
from gateway.errors import EngineUnavailable, Refusal
from gateway.rejections import wire_details
from gateway.requests import invalid
from gateway.tracing import mark_replayed, trace
from schemas.commands import LedgerCommand
from schemas.frames import KEY_CHARS_MAX, OWN_KEY_MARK, Accepted, Refused
from schemas.wire import WireCode

IDEMPOTENCY_HEADER = "idempotency-key"
OWN_KEY_BYTES = 16
_KEY = re.compile(rf"(?!{OWN_KEY_MARK})[!-~]{{1,{KEY_CHARS_MAX}}}")


def idempotency_key(call: Call[Any, Any]) -> str:
    """The request's Idempotency-Key, "" without one. Raises Refusal(invalid_idempotency_key)."""
    keys = call.request.headers.getlist(IDEMPOTENCY_HEADER)
    if not keys:
        return ""
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise Refusal(
            WireCode.INVALID_IDEMPOTENCY_KEY,
            f"An Idempotency-Key is 1 to {KEY_CHARS_MAX} visible ASCII characters, given once, and"
            f" does not begin with {OWN_KEY_MARK}.",
        )
    return keys[0]


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
) -> Accepted:
    """What the command did, or what it did the first time its key was used.

    key: instead of the request's. scales, asset_scales: see gateway.rejections.wire_details.
    Raises Refusal with the ledger's code, EngineUnavailable, Refusal(invalid_idempotency_key).
    """
    # A key of our own lets the connection send the command again when an engine is lost.
    key = key or idempotency_key(call) or OWN_KEY_MARK + secrets.token_hex(OWN_KEY_BYTES)
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
    if isinstance(reply, Refused):
        code = reply.rejection.code
        details = wire_details(reply.rejection, scales=scales, asset_scales=asset_scales)
        raise Refusal(code, f"The ledger refused: {code.replace('_', ' ')}.", details)
    return reply


def _outcome_of(reply: Accepted | Refused) -> str:
    return "accepted" if isinstance(reply, Accepted) else str(reply.rejection.code)
