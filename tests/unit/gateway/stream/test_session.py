"""gateway.stream.session: every message has one answer, errors change nothing, limits hold."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import Principal
from gateway.errors import Refusal
from gateway.stream.channels import Kind
from gateway.stream.close_codes import CloseCode
from gateway.stream.encodings import Encoding
from gateway.stream.session import (
    ASKED_CHANNELS_MAX,
    ASKING_SECONDS,
    MESSAGES_PER_SECOND_MAX,
    SECOND_NS,
    SUBSCRIPTIONS_MAX,
    AskMarkets,
    Close,
    Effect,
    Join,
    Leave,
    Reply,
    Session,
)
from schemas.wire import Ack, Pong, Since, StreamError, WireCode

ALICE = Principal(user_id="alice", role="user", expires_second=1_000)
BOB = Principal(user_id="bob", role="user", expires_second=2_000)


def verify(token: str) -> Principal:
    found = {"alice": ALICE, "bob": BOB}.get(token)
    if found is None:
        raise Refusal(WireCode.UNAUTHORIZED, "no")
    return found


def session(principal: Principal | None = None) -> Session:
    return Session(verify=verify, has_market="DUR-CNY".__eq__, principal=principal)


def tell(told: Session, message: dict[str, object]) -> list[Effect]:
    return told.receive(msgspec.json.encode(message))


def subscribe(told: Session, *names: str) -> list[Effect]:
    return tell(told, {"op": "subscribe", "id": 1, "channels": [{"ch": name} for name in names]})


def error_code(effects: list[Effect]) -> str:
    (reply,) = effects
    assert isinstance(reply, Reply)
    assert isinstance(reply.message, StreamError)
    return reply.message.code


def test_subscribe_acknowledges_before_it_joins() -> None:
    told = session()
    effects = tell(
        told,
        {
            "op": "subscribe",
            "id": 4,
            "channels": [
                {"ch": "pulse"},
                {"ch": "kline.DUR-CNY.1m", "since": {"epoch": "a", "offset": 3}},
            ],
        },
    )
    assert effects[0] == Reply(Ack(id=4))
    joins = [effect for effect in effects[1:] if isinstance(effect, Join)]
    assert [(join.channel.kind, join.since) for join in joins] == [
        (Kind.PULSE, None),
        (Kind.KLINE, Since(epoch="a", offset=3)),
    ]


def test_an_unknown_market_is_looked_for_once_more() -> None:
    known: set[str] = set()
    told = Session(verify=verify, has_market=known.__contains__)
    (asked,) = subscribe(told, "pulse", "trades.X-Y")
    assert isinstance(asked, AskMarkets)
    assert told.channels() == []
    assert error_code(told.subscribe_again(asked.request)) == WireCode.UNKNOWN_CHANNEL
    known.add("X-Y")
    acknowledged, *joins = told.subscribe_again(asked.request)
    assert acknowledged == Reply(Ack(id=1))
    assert len(joins) == len(told.channels()) == 2


@pytest.mark.parametrize(
    "name",
    [
        "",
        "pulse.DUR-CNY",
        "mining.",
        "trades",
        "trades.",
        "kline.DUR-CNY",
        "kline.DUR-CNY.2m",
        "kline..1m",
        "account.alice",
        "account:alice",
        "balance:alice",
        "depth",
        "PULSE",
    ],
)
def test_a_name_that_is_no_channel_is_refused_and_nothing_is_subscribed(name: str) -> None:
    told = session(ALICE)
    assert error_code(subscribe(told, "pulse", name)) == WireCode.UNKNOWN_CHANNEL
    assert told.channels() == []


@pytest.mark.parametrize("name", ["account", "balance"])
def test_private_channels_are_those_of_whoever_asks(name: str) -> None:
    told = session()
    assert error_code(subscribe(told, name)) == WireCode.UNAUTHORIZED
    assert tell(told, {"op": "auth", "id": 2, "token": "alice"}) == [
        Reply(Ack(id=2, expires_at=1_000))
    ]
    _, join = subscribe(told, name)
    assert isinstance(join, Join)
    assert join.channel.key == f"{name}:alice"
    assert join.channel.name == name


def test_becoming_someone_else_leaves_the_first_ones_channels() -> None:
    told = session(ALICE)
    subscribe(told, "account", "pulse", "balance")
    *left, ack = tell(told, {"op": "auth", "token": "bob"})
    keys = {effect.channel.key for effect in left if isinstance(effect, Leave)}
    assert keys == {"account:alice", "balance:alice"}
    assert ack == Reply(Ack(expires_at=2_000))
    assert [channel.name for channel in told.channels()] == ["pulse"]
    assert told.principal == BOB


def test_a_bad_token_leaves_the_old_principal() -> None:
    told = session(ALICE)
    assert error_code(tell(told, {"op": "auth", "token": "x"})) == WireCode.UNAUTHORIZED
    assert told.principal == ALICE


def test_unsubscribe_needs_a_subscription_to_each_name() -> None:
    told = session()
    subscribe(told, "pulse")
    both = {"op": "unsubscribe", "id": 1, "channels": ["pulse", "mining"]}
    assert error_code(tell(told, both)) == WireCode.NOT_SUBSCRIBED
    left, ack = tell(told, {"op": "unsubscribe", "id": 2, "channels": ["pulse", "pulse"]})
    assert isinstance(left, Leave)
    assert ack == Reply(Ack(id=2))
    assert told.channels() == []


def test_ping_is_answered_with_its_id() -> None:
    assert tell(session(), {"op": "ping", "id": 5, "new": 1}) == [Reply(Pong(id=5))]


@pytest.mark.parametrize(
    ("message", "code", "request_id"),
    [
        (b"", WireCode.INVALID_MESSAGE, None),
        (b"\xff", WireCode.INVALID_MESSAGE, None),
        (b"null", WireCode.INVALID_MESSAGE, None),
        (b'{"op":"subscribe","id":3}', WireCode.INVALID_MESSAGE, 3),
        (b'{"op":"subscribe","id":3,"channels":[7]}', WireCode.INVALID_MESSAGE, 3),
        (b'{"id":3}', WireCode.INVALID_MESSAGE, 3),
        (b'{"op":"fly","id":3}', WireCode.UNKNOWN_OP, 3),
        (b'{"op":"ping","x":' + b"[" * 9_000, WireCode.INVALID_MESSAGE, None),
    ],
)
def test_what_cannot_be_read_is_answered(message: bytes, code: str, request_id: int | None) -> None:
    (reply,) = session().receive(message)
    assert isinstance(reply, Reply)
    assert isinstance(reply.message, StreamError)
    assert (reply.message.code, reply.message.id) == (code, request_id)


@pytest.mark.parametrize(
    ("message", "code", "request_id"),
    [
        ({"op": "fly", "id": 3}, WireCode.UNKNOWN_OP, 3),
        ({"op": "subscribe", "id": 3}, WireCode.INVALID_MESSAGE, 3),
        (7, WireCode.INVALID_MESSAGE, None),
    ],
)
def test_messagepack_says_the_same(message: object, code: str, request_id: int | None) -> None:
    told = Session(verify=verify, has_market=bool, encoding=Encoding.MSGPACK)
    (reply,) = told.receive(msgspec.msgpack.encode(message))
    assert isinstance(reply, Reply)
    assert isinstance(reply.message, StreamError)
    assert (reply.message.code, reply.message.id) == (code, request_id)
    ping = msgspec.msgpack.encode({"op": "ping", "id": 5, "new": 1})
    assert told.receive(ping) == [Reply(Pong(id=5))]


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)), st.sampled_from(Encoding))
def test_no_message_raises(message: str | bytes, encoding: Encoding) -> None:
    told = Session(verify=verify, has_market=bool, encoding=encoding)
    (effect,) = told.receive(message)
    assert isinstance(effect, Reply)


def test_subscriptions_are_bounded() -> None:
    told = Session(verify=verify, has_market=lambda market: True)
    names = [f"trades.M{number}" for number in range(SUBSCRIPTIONS_MAX)]
    assert len(subscribe(told, *names)) == SUBSCRIPTIONS_MAX + 1
    assert error_code(subscribe(told, "pulse")) == WireCode.TOO_MANY_SUBSCRIPTIONS
    assert len(subscribe(told, *names[:2])) == 3


def test_a_flood_ends_the_connection_and_a_second_later_counts_anew() -> None:
    told = session()
    for _ in range(MESSAGES_PER_SECOND_MAX):
        assert told.count(now_ns=SECOND_NS) == []
    for _ in range(MESSAGES_PER_SECOND_MAX):
        assert told.count(now_ns=2 * SECOND_NS) == []
    assert told.count(now_ns=2 * SECOND_NS) == [Close(CloseCode.TOO_MANY_MESSAGES)]


def test_channels_asked_for_again_are_bounded_and_ten_seconds_later_count_anew() -> None:
    told = session()
    told.count(now_ns=ASKING_SECONDS * SECOND_NS)
    for _ in range(ASKED_CHANNELS_MAX):
        assert len(subscribe(told, "pulse")) == 2
    assert error_code(subscribe(told, "pulse")) == WireCode.TOO_MANY_SUBSCRIPTIONS
    assert [channel.name for channel in told.channels()] == ["pulse"]
    told.count(now_ns=2 * ASKING_SECONDS * SECOND_NS)
    assert len(subscribe(told, "pulse")) == 2


def test_expiry_closes_only_those_who_have_a_token() -> None:
    assert session().expire(9_999) == []
    assert session(ALICE).expire(999) == []
    assert session(ALICE).expire(1_000) == [Close(CloseCode.TOKEN_EXPIRED)]
