"""Requests refuse what they do not know; stream messages let newer peers say more."""

import inspect

import msgspec
import pytest

from schemas import wire
from schemas.rejections import RejectionCode

BODIES = [
    kind
    for _, kind in inspect.getmembers(wire, inspect.isclass)
    if issubclass(kind, wire.RequestBody)
]


@pytest.mark.parametrize("kind", BODIES)
def test_request_bodies_refuse_unknown_fields(kind: type[wire.RequestBody]) -> None:
    assert kind.__struct_config__.forbid_unknown_fields
    with pytest.raises(msgspec.ValidationError, match="unknown field `no_such_field`"):
        msgspec.json.decode(b'{"no_such_field":1}', type=kind)


def test_codes_of_the_gateway_and_of_the_ledger_are_never_the_same() -> None:
    assert not {str(code) for code in wire.WireCode} & {str(code) for code in RejectionCode}


def test_a_stream_message_may_carry_more_than_we_know() -> None:
    ping = msgspec.json.decode(b'{"op":"ping","id":5,"later":true}', type=wire.Ping)
    assert ping.id == 5
