"""Which command is refused for which reason, and which reason wins when two apply."""

from typing import Any

import msgspec
import pytest

from domain.ledger import decide, evolve
from domain.state import LedgerState
from schemas import commands
from schemas.events import AssetSpec, EpochStarted, MiningAllocated
from schemas.rejections import Rejection, RejectionCode
from tests.unit.domain.scenario import (
    GENESIS_SECOND,
    MARKET,
    Scenario,
    fingerprint,
    genesis,
    market,
    replayed,
)

Change = tuple[RejectionCode, dict[str, Any]]
TOO_MUCH = 10**36 + 10
BAD_IDS = ("", " ", "a b", "é", "a" * 65, "a\n")
PRECEDENCE = list(RejectionCode)

# An accepted command, then the changes that make it refused, each for one reason.
ACCEPTED: dict[str, commands.LedgerCommand] = {
    "open_ledger": genesis(),
    "open_market": market(base_asset="TOK"),
    "open_account": commands.OpenAccount(user_id="newcomer"),
    "deposit": commands.DepositFunds(
        user_id="alice", asset_id="CNY", amount_minor=10**36, reference="fresh"
    ),
    "grant": commands.GrantContribution(
        user_id="alice", grant_id="fresh", source="s", weight=1 << 63, expires_second=1 << 40
    ),
    "settle": commands.SettleAccrual(user_id="alice"),
    "place": commands.PlaceOrder(
        user_id="alice",
        client_order_id="fresh",
        market_id=MARKET,
        side="buy",
        order_type="limit",
        price_minor=100,
        quantity_minor=100,
    ),
    "cancel": commands.CancelOrder(user_id="alice", order_id=2),
}
Code = RejectionCode
CHANGES: dict[str, list[Change]] = {
    "open_ledger": [
        (Code.INVALID_ASSET, {"assets": (AssetSpec(asset_id="DUR", scale=2),) * 2}),
        (Code.INVALID_ASSET, {"assets": (AssetSpec(asset_id="D R", scale=2),)}),
        (Code.INVALID_ASSET, {"assets": (AssetSpec(asset_id="DUR", scale=19),)}),
        (Code.INVALID_ASSET, {"assets": (AssetSpec(asset_id="DUR", scale=-1),)}),
        (Code.INVALID_AMOUNT, {"pool_minor": 0}),
        (Code.INVALID_AMOUNT, {"pool_minor": TOO_MUCH}),
        (Code.INVALID_SCHEDULE, {"genesis_second": -1}),
        (Code.INVALID_SCHEDULE, {"genesis_second": (1 << 40) + 1}),
        (Code.INVALID_SCHEDULE, {"emission": genesis(emission=((5, 1), (4, 1))).emission}),
        (Code.INVALID_SCHEDULE, {"emission": genesis(emission=((5, 1), (5, 2))).emission}),
        (Code.INVALID_SCHEDULE, {"emission": genesis(emission=((-1, 1),)).emission}),
        (Code.INVALID_SCHEDULE, {"emission": genesis(emission=((0, -1),)).emission}),
        (Code.UNKNOWN_ASSET, {"mined_asset": "XXX"}),
    ],
    "open_market": [
        *((Code.INVALID_ID, {"market_id": bad}) for bad in BAD_IDS),
        (Code.INVALID_ASSET, {"base_asset": "TOK", "quote_asset": "TOK"}),
        (Code.INVALID_STEP, {"tick_minor": 0}),
        (Code.INVALID_STEP, {"lot_minor": -10}),
        (Code.INVALID_STEP, {"base_asset": "TOK", "tick_minor": 7}),
        (Code.INVALID_BURN, {"burn_bps": -1}),
        (Code.INVALID_BURN, {"burn_bps": 10_000}),
        (Code.UNKNOWN_ASSET, {"base_asset": "XXX"}),
        (Code.UNKNOWN_ASSET, {"quote_asset": "XXX"}),
        (Code.MARKET_ALREADY_OPEN, {"market_id": MARKET}),
    ],
    "open_account": [
        *((Code.INVALID_ID, {"user_id": bad}) for bad in BAD_IDS),
        (Code.ACCOUNT_ALREADY_OPEN, {"user_id": "alice"}),
    ],
    "deposit": [
        (Code.INVALID_ID, {"user_id": ""}),
        (Code.INVALID_AMOUNT, {"amount_minor": 0}),
        (Code.INVALID_AMOUNT, {"amount_minor": -1}),
        (Code.INVALID_AMOUNT, {"amount_minor": TOO_MUCH}),
        (Code.UNKNOWN_ASSET, {"asset_id": "XXX"}),
        (Code.DUPLICATE_REFERENCE, {"reference": "booked"}),
    ],
    "grant": [
        (Code.INVALID_ID, {"source": ""}),
        (Code.INVALID_WEIGHT, {"weight": 0}),
        (Code.INVALID_WEIGHT, {"weight": (1 << 63) + 1}),
        (Code.INVALID_EXPIRY, {"expires_second": GENESIS_SECOND + 1}),
        (Code.INVALID_EXPIRY, {"expires_second": 0}),
        (Code.INVALID_EXPIRY, {"expires_second": (1 << 40) + 1}),
        (Code.DUPLICATE_GRANT, {"grant_id": "given"}),
    ],
    "settle": [
        (Code.INVALID_ID, {"user_id": ""}),
        (Code.UNKNOWN_ACCOUNT, {"user_id": "nobody"}),
        (Code.NOTHING_TO_SETTLE, {"user_id": "bob"}),
    ],
    "place": [
        (Code.INVALID_ID, {"client_order_id": "a" * 65}),
        (Code.INVALID_AMOUNT, {"quantity_minor": 0}),
        (Code.INVALID_AMOUNT, {"quantity_minor": -10}),
        (Code.INVALID_AMOUNT, {"quantity_minor": TOO_MUCH}),
        (Code.INVALID_AMOUNT, {"price_minor": 0}),
        (Code.INVALID_AMOUNT, {"price_minor": -100}),
        (Code.INVALID_AMOUNT, {"price_minor": TOO_MUCH}),
        (Code.INVALID_ORDER, {"price_minor": None}),
        (Code.INVALID_ORDER, {"order_type": "market"}),
        (Code.UNKNOWN_MARKET, {"market_id": "TOK-CNY"}),
        (Code.PRICE_OFF_TICK, {"price_minor": 105}),
        (Code.QUANTITY_OFF_LOT, {"quantity_minor": 105}),
        (Code.UNKNOWN_ACCOUNT, {"user_id": "nobody"}),
        (Code.DUPLICATE_CLIENT_ORDER_ID, {"client_order_id": "resting"}),
        (Code.DUPLICATE_CLIENT_ORDER_ID, {"client_order_id": "cancelled"}),
        (Code.WOULD_NOT_FILL, {"time_in_force": "fok"}),
        (Code.NO_LIQUIDITY, {"order_type": "market", "price_minor": None, "side": "sell"}),
        (Code.INSUFFICIENT_FUNDS, {"quantity_minor": 10_000_000}),
        (Code.INSUFFICIENT_FUNDS, {"side": "sell", "quantity_minor": 1_000}),
    ],
    "cancel": [
        (Code.INVALID_ID, {"user_id": ""}),
        (Code.UNKNOWN_ORDER, {"order_id": 3}),
        (Code.UNKNOWN_ORDER, {"order_id": 0}),
        (Code.UNKNOWN_ORDER, {"order_id": 1, "user_id": "alice"}),
        (Code.UNKNOWN_ORDER, {"user_id": "bob"}),
    ],
}
ALONE = [(name, code, change) for name, found in CHANGES.items() for code, change in found]
TOGETHER = [
    (name, min(one[0], other[0], key=PRECEDENCE.index), one[1] | other[1])
    for name, found in CHANGES.items()
    for number, one in enumerate(found)
    for other in found[number + 1 :]
    # The same field cannot be wrong in two ways, and two wrongs of one kind may make a right.
    if one[0] != other[0] and not one[1].keys() & other[1].keys()
]


def _given() -> Scenario:
    """alice has CNY and has accrued; bob offers 100 DUR at 200, alice 10 above that."""
    given = Scenario()
    given.deposit("bob", "DUR", 1_000)
    given.accept(
        commands.DepositFunds(
            user_id="alice", asset_id="CNY", amount_minor=10_000, reference="booked"
        )
    )
    given.accept(
        commands.GrantContribution(user_id="alice", grant_id="given", source="s", weight=3)
    )
    given.tick()
    given.place("bob", "sell", 100, 200)
    given.deposit("alice", "DUR", 20)
    for client_order_id in ("resting", "cancelled"):
        order = given.order("alice", "sell", 10, 300)
        given.accept(msgspec.structs.replace(order, client_order_id=client_order_id))
    given.accept(commands.CancelOrder(user_id="alice", order_id=3))
    return given


def _command(name: str, change: dict[str, Any]) -> commands.LedgerCommand:
    return msgspec.structs.replace(ACCEPTED[name], **change)


def _refusal(name: str, change: dict[str, Any]) -> Rejection:
    command = _command(name, change)
    if name != "open_ledger":
        return _given().refuse(command)
    decided = decide(command, LedgerState(), 0)
    assert isinstance(decided, Rejection), decided
    return decided


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_commands_the_tables_change_are_accepted(name: str) -> None:
    if name == "open_ledger":
        assert not isinstance(decide(ACCEPTED[name], LedgerState(), 0), Rejection)
    else:
        _given().accept(ACCEPTED[name])


@pytest.mark.parametrize(("name", "code", "change"), ALONE)
def test_command_is_refused(name: str, code: RejectionCode, change: dict[str, Any]) -> None:
    assert _refusal(name, change).code == code


@pytest.mark.parametrize("name", CHANGES)
def test_when_two_reasons_apply_the_earlier_code_wins(name: str) -> None:
    wrong = [
        (change, refused, code)
        for at, code, change in TOGETHER
        if at == name and (refused := _refusal(name, change).code) != code
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_ledger_opens_once_and_first(name: str) -> None:
    if name == "open_ledger":
        assert _given().refuse(ACCEPTED[name]).code == Code.LEDGER_ALREADY_OPEN
    else:
        assert decide(ACCEPTED[name], LedgerState(), 0) == Rejection(Code.LEDGER_NOT_OPEN)


def test_the_tables_reach_every_code_that_the_domain_gives() -> None:
    reached = {code for _, code, _ in ALONE}
    first = {Code.LEDGER_ALREADY_OPEN, Code.LEDGER_NOT_OPEN}
    # The engine's own code comes before the domain is asked.
    assert {*RejectionCode} - reached - first == {Code.OVERLOADED}


@pytest.mark.parametrize(
    ("change", "details"),
    [
        ({"quantity_minor": 0}, {"quantity_minor": 0}),
        ({"price_minor": 105}, {"tick_minor": 10}),
        ({"quantity_minor": 105}, {"lot_minor": 10}),
        ({"client_order_id": "resting"}, {"order_id": 2}),
        ({"price_minor": 200, "quantity_minor": 200, "time_in_force": "fok"}, 100),
        (
            {"quantity_minor": 100_000},
            {"asset_id": "CNY", "needed_minor": 100_000, "available_minor": 10_000},
        ),
    ],
)
def test_refusal_says_what_to_act_on(change: dict[str, Any], details: object) -> None:
    expected = details if isinstance(details, dict) else {"fillable_minor": details}
    assert _refusal("place", change).details == expected


def test_the_log_adds_up_to_the_state_that_wrote_it() -> None:
    given = _given()
    given.place("alice", "buy", 50, 200)
    given.tick(3)
    assert fingerprint(replayed(given.log)) == fingerprint(given.state)


def test_an_epoch_changes_nothing_but_the_time() -> None:
    empty = evolve(LedgerState(), EpochStarted(at_ns=7, epoch=1, started_at_ns=9))
    assert empty.at_ns == 7
    given = _given()
    before = fingerprint(given.state)
    evolve(given.state, EpochStarted(at_ns=given.state.at_ns, epoch=2, started_at_ns=9))
    assert fingerprint(given.state) == before


def test_every_second_allocates_exactly_once() -> None:
    given = Scenario()
    given.tick(10)
    seconds = [event.second for event in given.log if isinstance(event, MiningAllocated)]
    assert seconds == list(range(GENESIS_SECOND, GENESIS_SECOND + 11))
