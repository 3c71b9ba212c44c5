"""Wire shapes pinned byte by byte, and the examples of docs/protocol.md held to the structs."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.close_codes import CloseCode
from gateway.outbox import OUTBOX_CHARS_MAX, OUTBOX_FRAMES_MAX
from gateway.requests import BODY_BYTES_MAX
from gateway.session import MESSAGE_BYTES_MAX, MESSAGES_PER_SECOND_MAX, SUBSCRIPTIONS_MAX
from schemas.accrual import FRACTION_MASK, accrued_minor, entitlement
from schemas.amounts import format_amount, parse_amount
from schemas.publications import Pulse
from schemas.wire import (
    Ack,
    Authenticate,
    ChannelRequest,
    ContributionBody,
    OrderResult,
    Page,
    Ping,
    PlaceOrderBody,
    Pong,
    Problem,
    Pub,
    Recovered,
    Since,
    Snapshot,
    StreamError,
    StreamRequest,
    Subscribe,
    Unsubscribe,
    WireCode,
)

PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```json\n(.*?)```", PROTOCOL, re.DOTALL)
RAW = msgspec.Raw(b'{"x":1}')


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Ack(), '{"op":"ack"}'),
        (Ack(id=1, expires_at=2), '{"op":"ack","id":1,"expires_at":2}'),
        (Pong(id=5), '{"op":"pong","id":5}'),
        (
            StreamError(code="c", message="m"),
            '{"op":"error","code":"c","message":"m"}',
        ),
        (
            Snapshot(ch="pulse", epoch="e", offset=0, data=RAW),
            '{"op":"snapshot","ch":"pulse","epoch":"e","offset":0,"data":{"x":1}}',
        ),
        (
            Recovered(ch="pulse", epoch="e", offset=3),
            '{"op":"recovered","ch":"pulse","epoch":"e","offset":3}',
        ),
        (
            Pub(ch="pulse", offset=3, data=RAW),
            '{"op":"pub","ch":"pulse","offset":3,"data":{"x":1}}',
        ),
        (Page(items=(1, 2)), '{"items":[1,2],"next_cursor":null}'),
        (
            Problem(title="t", status=400, code="c", detail="d"),
            '{"type":"about:blank","title":"t","status":400,"code":"c","detail":"d","details":{}}',
        ),
    ],
)
def test_what_the_gateway_sends(message: msgspec.Struct, text: str) -> None:
    assert msgspec.json.encode(message).decode() == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"op":"auth","id":1,"token":"t"}', Authenticate(id=1, token="t")),
        (
            '{"op":"subscribe","id":2,"channels":[{"ch":"pulse","since":{"epoch":"a","offset":8}}]}',
            Subscribe(
                id=2,
                channels=(ChannelRequest(ch="pulse", since=Since(epoch="a", offset=8)),),
            ),
        ),
        ('{"op":"unsubscribe","channels":["pulse"]}', Unsubscribe(channels=("pulse",))),
        ('{"op":"ping","unknown":[1]}', Ping()),
    ],
)
def test_what_clients_send(text: str, message: msgspec.Struct) -> None:
    assert msgspec.json.decode(text, type=StreamRequest) == message


def decoded(mark: str, kind: Any) -> Any:
    """The one example block that contains the mark, as a struct, every field of it known."""
    (block,) = (block for block in BLOCKS if mark in block)
    found = msgspec.json.decode(block, type=kind)
    assert {*msgspec.json.decode(block)} - {"op"} <= {*kind.__struct_fields__}
    return found


def test_documented_examples_are_real_shapes() -> None:
    assert decoded('"client_order_id": "a-1"}', PlaceOrderBody).type == "limit"
    assert decoded('"grant_id"', ContributionBody).weight == "300"
    result = decoded('"order_id": 2', OrderResult)
    (trade,) = result.trades
    assert parse_amount(trade.burned, 8) == parse_amount(trade.quantity, 8) * 10 // 10_000
    assert decoded('"status": 422', Problem).details["asset"] == "CNY"
    assert decoded('"op": "error"', StreamError).code == WireCode.UNKNOWN_CHANNEL
    assert decoded('"op": "snapshot"', Snapshot).offset + 1 == decoded('"op": "pub"', Pub).offset


def test_documented_balance_arithmetic_is_right() -> None:
    index = int(decoded('"second": 1795345343', Pulse).index)
    accrued = accrued_minor(weight=3, index=index, entry_index=0, entry_fraction=0)
    scaled = entitlement(weight=3, index=index, entry_index=0, entry_fraction=0)
    shown = 1_000 * 10**8 + accrued
    for number in (
        str(accrued),
        str(scaled),
        f"rest {scaled & FRACTION_MASK}",
        f"= {format_amount(shown, 8)} DUR",
        f"= {format_amount(shown * 25 // 10, 8)} CNY",
    ):
        assert number in PROTOCOL


def test_documented_limits_and_codes_are_the_real_ones() -> None:
    for limit in (
        f"| {MESSAGE_BYTES_MAX // 1024} KiB | closed",
        f"| {MESSAGES_PER_SECOND_MAX} in a second |",
        f"| {SUBSCRIPTIONS_MAX} | `too_many_subscriptions`",
        f"| {OUTBOX_FRAMES_MAX:,} messages or {OUTBOX_CHARS_MAX >> 20} MiB |",
        f"{BODY_BYTES_MAX // 1024} KiB at most",
        *(f"| {code.value} | `{code.reason}`" for code in CloseCode),
        *(f"`{code}`" for code in WireCode),
    ):
        assert limit in PROTOCOL, limit
