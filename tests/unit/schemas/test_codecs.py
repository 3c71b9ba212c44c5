"""Stored payloads: type, version, time, then the fields in the struct's order; exact both ways."""

import msgspec
import pytest

from schemas.codecs import decode_event, encode_event, topic_of
from schemas.events import EVENT_TYPES, AccountOpened, Event, FundsDeposited, MiningAllocated

OPENED = AccountOpened(at_ns=1_700_000_000_000_000_001, user_id="alice")
OPENED_BYTES = b'{"type":"account_opened","v":1,"at_ns":1700000000000000001,"user_id":"alice"}'


def test_payload_has_exactly_these_bytes() -> None:
    assert encode_event(OPENED) == OPENED_BYTES
    assert decode_event(OPENED_BYTES) == OPENED


def test_integers_beyond_64_bits_survive() -> None:
    allocated = MiningAllocated(
        at_ns=0, second=0, asset_id="DUR", reward_minor=10**36, weight_total=1 << 70,
        index=1 << 200, carry=(1 << 63) - 1, allocated_minor=10**40,
    )  # fmt: skip
    assert decode_event(encode_event(allocated)) == allocated


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_type_has_a_tag_of_its_own_and_begins_with_type_version_time(
    kind: type[Event],
) -> None:
    config = kind.__struct_config__
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("_")
    assert (config.tag_field, config.tag, config.frozen) == ("type", snake, True)
    assert kind.__struct_encode_fields__[:2] == ("v", "at_ns")


@pytest.mark.parametrize(
    ("event", "topic"),
    [
        (OPENED, "account_opened:1"),
        (FundsDeposited(at_ns=1, user_id="a", asset_id="A", amount_minor=1, reference="r"),
         "funds_deposited:1"),
    ],
)  # fmt: skip
def test_topic_names_type_and_version(event: Event, topic: str) -> None:
    assert topic_of(event) == topic
    assert topic_of(event) == topic  # the remembered one


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b'{"type":"no_such_event","v":1,"at_ns":1}',
        b'{"type":"account_opened","v":2,"at_ns":1,"user_id":"a"}',
        b'{"type":"account_opened","v":1,"at_ns":1}',
        b'{"type":"account_opened","v":1,"at_ns":1.5,"user_id":"a"}',
        OPENED_BYTES + b"{}",
    ],
)
def test_unreadable_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_event(payload)


def test_a_field_added_later_does_not_stop_an_older_reader() -> None:
    later = OPENED_BYTES[:-1] + b',"added":{"deep":[1]}}'
    assert decode_event(later) == OPENED
