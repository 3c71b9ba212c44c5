"""The order mix in two forms, drawn once: as HTTP requests and as frames of the command connection.

Both go to engines that begin with the same log, so that an order has the same number there until
the engines answer in different orders; whoever sends keeps the numbers that its engine gave.
"""

from collections.abc import Mapping

import msgspec

from domain.ledger import evolve
from domain.state import LedgerState
from ops.bench import order_mix
from ops.bench.mixed_log import FIRST_USER, LogShape, mixed_log
from ops.bench.order_mix import SHARES, OrderDesk
from schemas.amounts import format_amount
from schemas.commands import CancelOrder, LedgerCommand, PlaceOrder, ReplaceOrder
from schemas.events import OrderPlaced
from schemas.frames import LENGTH, Request
from schemas.genesis import Genesis
from schemas.wire import PlaceOrderBody
from schemas.wire_trading import ReplaceOrderBody

SEED = 17
HOST = b"127.0.0.1"
_NUMBER_FIELD = b'"order_id":'
# Stands for the number of an order until it is known.
_NO_NUMBER = 0
_encode = msgspec.json.Encoder().encode


class Form(msgspec.Struct, frozen=True):
    """Bytes of one request; the number of the order that it names, if it names one, is between."""

    before: bytes
    after: bytes = b""

    def numbered(self, number: int | None) -> bytes:
        return self.before if number is None else b"%s%d%s" % (self.before, number, self.after)


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One command. framed: without its length.

    names: the desk's number of the order that it is about; places: of the order that it makes.
    """

    http: Form
    framed: Form
    names: int | None
    places: int | None


def users(shape: LogShape) -> list[str]:
    """Those of the log, who also send the orders."""
    return [order_mix.user_name(number) for number in range(FIRST_USER, FIRST_USER + shape.users)]


def framed(body: bytes) -> bytes:
    """A body of the command connection with its length."""
    return LENGTH.pack(len(body)) + body


def get_request(path: str, token: str = "") -> bytes:
    """A whole GET."""
    return _request(f"GET {path}".encode(), _authorization(token))


class OrderSource:
    """Draws commands against a ledger of its own. tokens: by user."""

    def __init__(self, shape: LogShape, tokens: Mapping[str, str]) -> None:
        self._headers = {user: _authorization(token) for user, token in tokens.items()}
        (market,) = Genesis().markets
        scales = {asset.asset_id: asset.scale for asset in Genesis().assets}
        self._base_scale = scales[market.base_asset]
        self._quote_scale = scales[market.quote_asset]
        state = LedgerState()
        for event in mixed_log(shape):
            evolve(state, event)
        self._desk = OrderDesk(state, shape.users, SEED, FIRST_USER)
        self._drawn = 0

    def draw(self, count: int) -> list[Sent]:
        """So many more, in the shares of the mix."""
        kinds = self._desk.random.choices(list(SHARES), list(SHARES.values()), k=count)
        return [self._next(kind) for kind in kinds]

    def _next(self, kind: str) -> Sent:
        self._drawn += 1
        # The log's own orders have names, too.
        name = f"http-{self._drawn}"
        drawn = self._desk.draw(kind)
        command: PlaceOrder | ReplaceOrder | CancelOrder
        match drawn:
            case PlaceOrder():
                command = msgspec.structs.replace(drawn, client_order_id=name)
            case ReplaceOrder():
                command = msgspec.structs.replace(drawn, new_client_order_id=name)
            case _:
                assert isinstance(drawn, CancelOrder)
                command = drawn
        names = None if isinstance(command, PlaceOrder) else command.order_id
        placed = [
            event.order_id for event in self._desk.send(command) if isinstance(event, OrderPlaced)
        ]
        return Sent(
            http=self._http_form(command),
            framed=self._framed_form(command),
            names=names,
            places=placed[0] if placed else None,
        )

    def _framed_form(self, command: LedgerCommand) -> Form:
        if isinstance(command, CancelOrder | ReplaceOrder):
            command = msgspec.structs.replace(command, order_id=_NO_NUMBER)
        body = _encode(Request(id=self._drawn - 1, command=command, key=self._key()))
        before, field, after = body.partition(_NUMBER_FIELD + b"%d" % _NO_NUMBER)
        return Form(before + _NUMBER_FIELD, after) if field else Form(body)

    def _http_form(self, command: PlaceOrder | ReplaceOrder | CancelOrder) -> Form:
        headers = self._headers[command.user_id] + b"idempotency-key: %s\r\n" % self._key().encode()
        match command:
            case PlaceOrder():
                body = _encode(self._body(command))
                return Form(_request(b"POST /v1/orders", headers, body))
            case ReplaceOrder():
                body = _encode(self._replace_body(command))
                return Form(b"PATCH /v1/orders/", _request(b"", headers, body))
            case CancelOrder():
                return Form(b"DELETE /v1/orders/", _request(b"", headers))

    def _body(self, command: PlaceOrder) -> PlaceOrderBody:
        return PlaceOrderBody(
            market=command.market_id,
            side=command.side,
            type=command.order_type,
            time_in_force=command.time_in_force,
            price=self._quote(command.price_minor),
            quantity=self._base(command.quantity_minor),
            quote_budget=self._quote(command.quote_budget_minor),
            post_only=command.post_only,
            client_order_id=command.client_order_id,
        )

    def _replace_body(self, command: ReplaceOrder) -> ReplaceOrderBody:
        return ReplaceOrderBody(
            price=format_amount(command.price_minor, self._quote_scale),
            quantity=format_amount(command.quantity_minor, self._base_scale),
            client_order_id=command.new_client_order_id,
        )

    def _base(self, minor: int | None) -> str | None:
        return None if minor is None else format_amount(minor, self._base_scale)

    def _quote(self, minor: int | None) -> str | None:
        return None if minor is None else format_amount(minor, self._quote_scale)

    def _key(self) -> str:
        # As long as the UUIDs that clients send.
        return f"bench-{self._drawn:030}"


def _authorization(token: str) -> bytes:
    return f"authorization: Bearer {token}\r\n".encode() if token else b""


def _request(start: bytes, headers: bytes, body: bytes = b"") -> bytes:
    length = (
        b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body) if body else b""
    )
    return b"%s HTTP/1.1\r\nhost: %s\r\n%s%s\r\n%s" % (start, HOST, headers, length, body)
