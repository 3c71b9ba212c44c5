"""How parameters are written, and which of two routes that fit a path is taken."""

from typing import Annotated, Literal

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response

from gateway.access import PUBLIC
from gateway.endpoint import Call, Endpoint, NoBody, Parameters, _parameters, routes
from gateway.errors import Refusal
from schemas.wire import WireCode


class Asked(Parameters, frozen=True, kw_only=True):
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    dry: bool = False
    side: Literal["buy", "sell"] | None = None
    name: str | None = None


def asked(query: str) -> Parameters:
    scope = {"type": "http", "query_string": query.encode(), "path_params": {}, "headers": []}
    return _parameters(Request(scope), Asked)


def test_parameters_are_read_as_what_they_are() -> None:
    expected = Asked(limit=7, dry=True, side="buy", name="null")
    assert asked("limit=7&dry=true&side=buy&name=null") == expected


@pytest.mark.parametrize(
    "query",
    [
        "limit=1e2",
        "limit=1.0",
        "limit=null",
        "limit=01",
        "limit=%2B1",
        "limit=0",
        "dry=TRUE",
        "dry=1",
        "side=null",
        "side=NULL",
        "limit=1&limit=1",
        "colour=red",
        "name=%00",
    ],
)
def test_what_is_not_written_as_in_json_is_refused(query: str) -> None:
    with pytest.raises(Refusal) as caught:
        asked(query)
    assert caught.value.code == WireCode.INVALID_REQUEST


async def answer(call: Call[Parameters, NoBody]) -> Response:
    return Response()


def test_what_is_spelled_out_comes_before_what_stands_for_anything() -> None:
    paths = ["/v1/{a}/{b}", "/v1/{a}/history", "/v1/{a}", "/v1/summary"]
    found = routes(
        [
            Endpoint(method="GET", path=path, handle=answer, summary="x", access=PUBLIC)
            for path in paths
        ]
    )
    order = [route.path for route in found]
    assert order.index("/v1/summary") < order.index("/v1/{a}")
    assert order.index("/v1/{a}/history") < order.index("/v1/{a}/{b}")
