"""Client order ids: how long a placement may be retried and is still recognised."""

import pytest

from domain.trading import CLIENT_ORDER_SECONDS
from schemas import commands
from schemas.events import OrderPlaced
from schemas.rejections import RejectionCode
from tests.unit.domain.scenario import Scenario, fingerprint, of_kind, replayed


def _given() -> Scenario:
    given = Scenario(burn_bps=0, emission=())
    for user_id in ("alice", "bob"):
        given.deposit(user_id, "CNY", 1_000)
        given.deposit(user_id, "DUR", 1_000)
    return given


def _is_used(given: Scenario, name: str, user_id: str = "alice") -> bool:
    decided = given.decide(given.order(user_id, "buy", 10, 10, client_order_id=name))
    if isinstance(decided, tuple):
        return False
    assert decided.code == RejectionCode.DUPLICATE_CLIENT_ORDER_ID
    return True


@pytest.mark.parametrize("fate", ["rests", "filled", "cancelled", "unfilled"])
def test_the_same_client_order_id_is_refused_and_names_the_first_order(fate: str) -> None:
    given = _given()
    if fate == "filled":
        given.rest("bob", "sell", 10, 100)
    first = given.order(
        "alice", "buy", 10, 100, "ioc" if fate == "unfilled" else "gtc", client_order_id="c"
    )
    (placed,) = of_kind(given.accept(first), OrderPlaced)
    if fate == "cancelled":
        given.accept(commands.CancelOrder(user_id="alice", order_id=placed.order_id))
    assert (placed.order_id in given.state.orders) == (fate == "rests")
    refused = given.refuse(first)
    assert refused.code == RejectionCode.DUPLICATE_CLIENT_ORDER_ID
    assert refused.details == {"order_id": placed.order_id}
    assert not _is_used(given, "c", user_id="bob")


def test_a_refused_order_does_not_use_its_name_up() -> None:
    given = _given()
    order = given.order("alice", "buy", 10_000, 100, client_order_id="c")
    assert given.refuse(order).code == RejectionCode.INSUFFICIENT_FUNDS
    assert not _is_used(given, "c")


def test_a_name_is_forgotten_after_two_days_but_not_while_its_order_is_open() -> None:
    given = _given()
    given.place("alice", "buy", 10, 100, "ioc", client_order_id="gone")
    open_id = given.rest("alice", "buy", 10, 100, client_order_id="open")
    given.tick(CLIENT_ORDER_SECONDS)
    assert _is_used(given, "gone")
    given.tick()
    assert not _is_used(given, "gone")
    assert _is_used(given, "open")
    again = given.rest("alice", "buy", 10, 90, client_order_id="gone")
    assert again == open_id + 1
    # The tick that found the order open counts as its use: two days from there.
    given.accept(commands.CancelOrder(user_id="alice", order_id=open_id))
    given.tick(CLIENT_ORDER_SECONDS)
    assert _is_used(given, "open")
    given.tick()
    assert not _is_used(given, "open")
    assert fingerprint(replayed(given.log)) == fingerprint(given.state)
