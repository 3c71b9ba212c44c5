"""gateway.tracing: which correlation id a request gets, and when a request is told to the log."""

import asyncio
import logging

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send
from structlog.contextvars import get_contextvars

from gateway.tracing import Correlated, mark_replayed, trace, trace_of

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-request-id": "abc"}, "abc"),
        ({"x-request-id": "x" * 64, "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}, "x" * 64),
        ({"x-request-id": "a b", "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}, TRACE_ID),
        ({"traceparent": f"cc-{TRACE_ID}-00f067aa0ba902b7-01-more"}, TRACE_ID),
    ],
)
def test_a_usable_id_is_kept(headers: dict[str, str], expected: str) -> None:
    assert trace_of(Headers(headers)) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-request-id": ""},
        {"x-request-id": "x" * 65},
        {"x-request-id": "line\nline"},
        {"x-request-id": "caf\xe9"},
        {"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"},
        {"traceparent": TRACE_ID},
    ],
)
def test_otherwise_a_new_one_is_made(headers: dict[str, str]) -> None:
    made = [trace_of(Headers(headers)) for _ in range(2)]
    assert made[0] != made[1]
    assert all(len(each) == 32 for each in made)


def call(status: int, *, replayed: bool = False) -> tuple[dict[str, str], str]:
    """Headers of the answer, and the trace that log lines of the request carry."""
    seen: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        seen.append(get_contextvars()["trace"])
        assert trace(request) == seen[0]
        if replayed:
            mark_replayed(request)
        await send({"type": "http.response.start", "status": status, "headers": []})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/x", "headers": [], "query_string": b""}
    asyncio.run(Correlated(app)(scope, receive, send))
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}, seen[0]


def test_the_answer_and_the_log_have_the_same_id() -> None:
    headers, logged = call(200)
    assert headers == {"x-request-id": logged}
    assert "trace" not in get_contextvars()


def test_a_replay_is_marked() -> None:
    assert call(200, replayed=True)[0]["idempotency-replayed"] == "true"


def test_only_failures_are_told_above_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    call(404)
    assert caplog.records == []
    call(503)
    assert caplog.records[0].getMessage().startswith("POST /v1/x 503, ")
