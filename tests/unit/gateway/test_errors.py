"""gateway.errors, close_codes and rejections: the tables are complete and as documented."""

import msgspec
import pytest

from gateway.errors import problem_response, status_of
from gateway.rejections import wire_details
from gateway.stream.close_codes import CloseCode
from schemas.rejections import Rejection, RejectionCode
from schemas.wire import Problem, WireCode


@pytest.mark.parametrize("code", [*RejectionCode])
def test_every_rejection_is_the_clients_affair(code: RejectionCode) -> None:
    status = status_of(code)
    assert status in (404, 409, 422, 503)
    assert (status == 409) == ("duplicate" in code or "already" in code)
    assert (status == 404) == code.startswith("unknown_")


def test_only_internal_error_is_our_fault() -> None:
    ours = [code for code in WireCode if status_of(code) == 500]
    assert ours == [WireCode.INTERNAL_ERROR]


def test_codes_of_gateway_and_ledger_do_not_collide() -> None:
    assert not {*WireCode} & {*RejectionCode}


def test_a_problem_is_rfc_9457() -> None:
    response = problem_response(WireCode.UNAUTHORIZED, "Send a token.", {"field": "x"})
    assert response.media_type == "application/problem+json"
    assert response.headers["www-authenticate"] == "Bearer"
    assert msgspec.json.decode(bytes(response.body), type=Problem) == Problem(
        title="Unauthorized",
        status=401,
        code="unauthorized",
        detail="Send a token.",
        details={"field": "x"},
    )


def test_close_codes_say_whether_to_reconnect() -> None:
    assert {code for code in CloseCode if not code.should_reconnect} == {
        CloseCode.TOO_MANY_MESSAGES
    }
    for code in CloseCode:
        assert 4000 <= code < 5000
        assert len(code.reason.encode()) <= 123


def test_details_become_amounts_where_the_scale_is_known() -> None:
    rejection = Rejection(
        RejectionCode.INSUFFICIENT_FUNDS,
        {"asset_id": "CNY", "needed_minor": 250, "available_minor": 5},
    )
    assert wire_details(rejection, asset_scales={"CNY": 2}) == {
        "asset": "CNY",
        "needed": "2.50",
        "available": "0.05",
    }
    assert wire_details(rejection) == {"asset": "CNY", "needed_minor": 250, "available_minor": 5}
    tick = Rejection(RejectionCode.PRICE_OFF_TICK, {"tick_minor": 10})
    assert wire_details(tick, scales={"tick_minor": 3}) == {"tick": "0.010"}
    unknown = Rejection(RejectionCode.UNKNOWN_MARKET, {"market_id": "X-Y"})
    assert wire_details(unknown) == {"market": "X-Y"}
