"""Wire shapes pinned byte by byte, and the examples of docs/protocol.md held to the structs."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.endpoint import BODY_BYTES_MAX
from gateway.stream import connection
from gateway.stream.channels import TRAITS, Kind
from gateway.stream.close_codes import CloseCode
from gateway.stream.document import PROTOCOL_CLOSING
from gateway.stream.document_channels import CHANNELS
from gateway.stream.document_examples import ANSWERS, REQUESTS, SHOWN
from gateway.stream.encodings import Encoding, decode_request, encoded, raw
from gateway.stream.history import HISTORY_MAX
from gateway.stream.routes import LIMITS
from schemas.accrual import FRACTION_MASK, accrued_minor, entitlement
from schemas.amounts import format_amount, parse_amount
from schemas.publications import Account, BalanceNow, Depth, DepthChange, Pulse
from schemas.wire import (
    Ack,
    Authenticate,
    ChannelRequest,
    Draining,
    Fresh,
    Hello,
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
    Stale,
    StreamError,
    StreamRequest,
    Subscribe,
    Unsubscribe,
    WireCode,
)
from schemas.wire_mining import GrantBody

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
        (
            ANSWERS["hello"],
            '{"op":"hello","version":1,"limits":{"message_bytes":16384,"messages_per_second":50,'
            '"subscriptions":64,"channels_per_10_seconds":128,"unread_bytes":1048576,"ping_seconds":25,"pong_seconds":20}}',
        ),
        (
            Hello(version=1, limits=LIMITS, expires_at=7),
            '{"op":"hello","version":1,"limits":{"message_bytes":16384,"messages_per_second":50,'
            '"subscriptions":64,"channels_per_10_seconds":128,"unread_bytes":1048576,"ping_seconds":25,"pong_seconds":20},'
            '"expires_at":7}',
        ),
        (Stale(), '{"op":"stale"}'),
        (Fresh(), '{"op":"fresh"}'),
        (
            Draining(closes_within_ms=3_000, reconnect_within_ms=4_000),
            '{"op":"draining","closes_within_ms":3000,"reconnect_within_ms":4000}',
        ),
        (
            DepthChange(bids=(("1.5", "2"),), asks=(("1.6", "0"),), previous=7),
            '{"bids":[["1.5","2"]],"asks":[["1.6","0"]],"previous":7}',
        ),
        (
            BalanceNow(second=9, asset="DUR", amount="2.5", accrued="0.5", values={"M": "5"}),
            '{"second":9,"asset":"DUR","amount":"2.5","accrued":"0.5","values":{"M":"5"}}',
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


def test_messages_in_messagepack_are_maps_with_the_same_fields() -> None:
    """Pinned byte by byte: the two bytes of a binary frame, then the map."""
    ack = encoded(Ack(id=1), Encoding.MSGPACK)
    assert ack == b"\x82\x0c" + b"\x82\xa2op\xa3ack\xa2id\x01"
    pub = Pub(ch="pulse", offset=3, data=raw(b'{"index":"9"}', Encoding.MSGPACK))
    assert encoded(pub, Encoding.MSGPACK)[2:] == (
        b"\x84\xa2op\xa3pub\xa2ch\xa5pulse\xa6offset\x03\xa4data\x81\xa5index\xa19"
    )
    for request in REQUESTS.values():
        in_msgpack = decode_request(msgspec.msgpack.encode(request), Encoding.MSGPACK)
        assert in_msgpack == decode_request(msgspec.json.encode(request), Encoding.JSON)


def decoded(mark: str, kind: Any) -> Any:
    """The one example block that contains the mark, as a struct, every field of it known."""
    (block,) = (block for block in BLOCKS if mark in block)
    found = msgspec.json.decode(block, type=kind)
    assert {*msgspec.json.decode(block)} - {"op"} <= {*kind.__struct_fields__}
    return found


def test_documented_examples_are_real_shapes() -> None:
    assert decoded('"client_order_id": "a-1"}', PlaceOrderBody).type == "limit"
    assert decoded('"grant_id": "device-17"', GrantBody).weight == "300"
    result = decoded('"order_id": 2', OrderResult)
    (trade,) = result.trades
    assert parse_amount(trade.burned, 8) == parse_amount(trade.quantity, 8) * 10 // 10_000
    assert decoded('"status": 422', Problem).details["asset"] == "CNY"
    assert decoded('"op": "error"', StreamError).code == WireCode.UNKNOWN_CHANNEL
    trades = decoded('"op": "snapshot", "ch": "trades', Snapshot)
    assert trades.offset + 1 == decoded('"op": "pub", "ch": "trades', Pub).offset
    assert decoded('"op": "hello"', Hello) == ANSWERS["hello"]


def test_documented_publication_of_changes_is_the_next_second_of_the_example() -> None:
    second, before, next_second, changes = SHOWN["pulse"]
    assert decoded('"index": "4304', Pulse) == before
    published = decoded('"op": "pub", "ch": "pulse"', Pub)
    assert published.offset == next_second == second + 1
    assert msgspec.json.decode(published.data) == changes


def test_documented_order_book_follows_from_its_publication() -> None:
    before = decoded('"op": "snapshot", "ch": "depth', Snapshot)
    book = msgspec.json.decode(before.data, type=Depth)
    published = decoded('"op": "pub", "ch": "depth', Pub)
    change = msgspec.json.decode(published.data, type=DepthChange)
    assert change.previous == before.offset < published.offset
    bids, asks = dict(book.bids) | dict(change.bids), dict(book.asks) | dict(change.asks)
    best_bid = max(price for price, quantity in bids.items() if quantity != "0")
    best_ask = min(price for price, quantity in asks.items() if quantity != "0")
    assert (best_bid, best_ask) == ("2.45000000", "2.60000000")
    assert "the best bid is now 2.45, the best ask 2.60, and you have 52" in PROTOCOL


@pytest.mark.parametrize("at", [0, 1])
def test_example_of_a_balance_follows_from_those_of_pulse_and_account(at: int) -> None:
    _, pulse, _, changes = SHOWN["pulse"]
    _, account, _, _ = SHOWN["account"]
    balance = SHOWN["balance"][1 + 2 * at]
    assert isinstance(pulse, Pulse)
    assert isinstance(account, Account)
    assert isinstance(changes, dict)
    assert isinstance(balance, BalanceNow)
    assert at == 1 or decoded('"accrued": "6.99999999"', BalanceNow) == balance
    index, prices = (pulse.index, pulse.prices) if at == 0 else changes.values()
    accrued = accrued_minor(
        weight=int(account.mining.weight),
        index=int(index),
        entry_index=int(account.mining.entry_index),
        entry_fraction=int(account.mining.entry_fraction),
    )
    amount = parse_amount(account.balances[0].total, 8) + accrued
    price = parse_amount(prices["DUR-CNY"], 8)
    assert balance.accrued == format_amount(accrued, 8)
    assert balance.amount == format_amount(amount, 8)
    assert balance.values == {"DUR-CNY": format_amount(amount * price // 10**8, 8)}


def test_documented_balance_arithmetic_is_right() -> None:
    index = int(decoded('"index": "4304', Pulse).index)
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
        f"| {LIMITS.message_bytes // 1024} KiB | closed",
        f"| {LIMITS.messages_per_second} in a second |",
        f"| {LIMITS.subscriptions} | `too_many_subscriptions`",
        f"| {LIMITS.channels_per_10_seconds} in 10 seconds | `too_many_subscriptions`",
        f"| you lag: {connection.LAGGING_BYTES // 1024} KiB wait",
        f"| {LIMITS.unread_bytes >> 20} MiB, or nothing taken for"
        f" {connection.STALLED_SECONDS_MAX} s | closed",
        f"nothing for {LIMITS.ping_seconds} s, and closes when it hears nothing for another"
        f" {LIMITS.pong_seconds} s",
        f"about {HISTORY_MAX:,}\n  publications over all public channels of a feed,"
        f" {TRAITS[Kind.PULSE].recovered_max} on `pulse`",
        f"{BODY_BYTES_MAX // 1024} KiB at most",
        *(f"| {code.value} | `{code.reason}`" for code in CloseCode),
        "| " + ", ".join(map(str, PROTOCOL_CLOSING)) + " |",
        *(f"`{code}`" for code in WireCode),
        *(f"| `{shape.address.format(market='M', interval='I')}` |" for shape in CHANNELS.values()),
    ):
        assert limit in PROTOCOL, limit
