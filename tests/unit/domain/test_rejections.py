"""Which command is refused for which reason, and which reason wins when two apply."""

from itertools import combinations, pairwise
from typing import Any

import msgspec
import pytest

from domain.ledger import decide
from domain.state import LedgerState
from schemas import commands
from schemas.events import MarketRules
from schemas.rejections import Rejection, RejectionCode
from tests.unit.domain.rejection_cases import (
    ACCEPTED,
    ALICE_CNY,
    FAULTS,
    Code,
    Fault,
    given_ledger,
    prepare,
)

PRECEDENCE = list(RejectionCode)
ALONE = [(name, fault) for name, faults in FAULTS.items() for fault in faults]
# Neighbours in a command's order that exclude each other: both are about one and the same id, or an
# order that must not trade at once is no fill-or-kill.
APART = {
    (Code.INVALID_ID, Code.UNKNOWN_MARKET),
    (Code.INVALID_ID, Code.UNKNOWN_ACCOUNT),
    (Code.INVALID_ID, Code.ACCOUNT_ALREADY_OPEN),
    (Code.UNKNOWN_MARKET, Code.MARKET_NOT_HALTED),
    (Code.UNKNOWN_ACCOUNT, Code.ACCOUNT_FROZEN),
    (Code.UNKNOWN_ACCOUNT, Code.ACCOUNT_NOT_FROZEN),
    (Code.POST_ONLY_WOULD_TRADE, Code.WOULD_NOT_FILL),
}


def _refusal(name: str, *faults: Fault) -> RejectionCode:
    command = ACCEPTED[name]
    for fault in faults:
        command = msgspec.structs.replace(command, **fault.change)
    if name == "open_ledger":
        decided = decide(command, LedgerState(), 0)
        assert isinstance(decided, Rejection), decided
        return decided.code
    given = given_ledger()
    prepare(name, given)
    # What a later check looks at is arranged before an earlier one stops it.
    for fault in sorted(faults, key=lambda fault: PRECEDENCE.index(fault.code), reverse=True):
        fault.before(given)
    return given.refuse(command).code


def _together(name: str) -> list[tuple[Fault, Fault]]:
    """Pairs of faults of different codes that do not want the same field to be different things."""
    ids = [fault for fault in FAULTS[name] if fault.code == Code.INVALID_ID][1:]
    faults = [fault for fault in FAULTS[name] if fault not in ids]
    return [
        (one, other)
        for one, other in combinations(faults, 2)
        if one.code != other.code
        and all(
            one.change[field] == other.change[field] for field in one.change & other.change.keys()
        )
    ]


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_commands_that_the_faults_spoil_are_accepted(name: str) -> None:
    if name == "open_ledger":
        assert not isinstance(decide(ACCEPTED[name], LedgerState(), 0), Rejection)
        return
    given = given_ledger()
    prepare(name, given)
    given.accept(ACCEPTED[name])


@pytest.mark.parametrize(("name", "fault"), ALONE)
def test_command_is_refused(name: str, fault: Fault) -> None:
    assert _refusal(name, fault) == fault.code


@pytest.mark.parametrize("name", FAULTS)
def test_when_two_reasons_apply_the_earlier_code_wins(name: str) -> None:
    wrong = [
        (one, other, found)
        for one, other in _together(name)
        if (found := _refusal(name, one, other)) != min(one.code, other.code, key=PRECEDENCE.index)
    ]
    assert wrong == []


def test_every_pair_of_neighbours_in_the_order_of_a_command_is_tried() -> None:
    untried = set()
    for name, faults in FAULTS.items():
        tried = {frozenset((one.code, other.code)) for one, other in _together(name)}
        codes = sorted({fault.code for fault in faults}, key=PRECEDENCE.index)
        untried |= {pair for pair in pairwise(codes) if frozenset(pair) not in tried}
    assert untried == APART


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_ledger_opens_once_and_first(name: str) -> None:
    if name == "open_ledger":
        assert given_ledger().refuse(ACCEPTED[name]).code == Code.LEDGER_ALREADY_OPEN
    else:
        assert decide(ACCEPTED[name], LedgerState(), 0) == Rejection(Code.LEDGER_NOT_OPEN)


@pytest.mark.parametrize("fault", FAULTS["place_order"])
def test_a_ledger_that_is_not_open_looks_at_nothing_else(fault: Fault) -> None:
    command = msgspec.structs.replace(ACCEPTED["place_order"], **fault.change)
    assert decide(command, LedgerState(), 0) == Rejection(Code.LEDGER_NOT_OPEN)


def test_every_text_field_of_every_command_is_checked() -> None:
    choices = {"side", "order_type", "time_in_force", "self_trade_prevention"}
    for name, command in ACCEPTED.items():
        for field in command.__struct_fields__:
            if isinstance(getattr(command, field), str) and field not in choices:
                assert _refusal(name, Fault(Code.INVALID_ID, {field: "a b"})) == Code.INVALID_ID


def test_the_tables_reach_every_command_and_every_code_that_the_domain_gives() -> None:
    assert {type(command) for command in ACCEPTED.values()} == {*commands.LedgerCommand.__args__}
    assert FAULTS.keys() == ACCEPTED.keys()
    reached = {fault.code for _, fault in ALONE}
    first = {Code.LEDGER_ALREADY_OPEN, Code.LEDGER_NOT_OPEN}
    # The engine's own codes come before the domain is asked.
    engines = {Code.OVERLOADED, Code.IDEMPOTENCY_KEY_REUSED, Code.CLOCK_IS_WALL}
    assert {*RejectionCode} - reached - first == engines


@pytest.mark.parametrize(
    ("name", "change", "details"),
    [
        ("place_order", {"quantity_minor": 0}, {"field": "quantity_minor", "least": 1}),
        ("place_order", {"price_minor": 145}, {"tick_minor": 10}),
        ("place_order", {"quantity_minor": 105}, {"lot_minor": 10}),
        ("place_order", {"client_order_id": "resting"}, {"order_id": 4}),
        ("place_order", {"client_order_id": "cancelled"}, {"order_id": 5}),
        (
            "place_order",
            {"price_minor": 200, "quantity_minor": 200, "time_in_force": "fok"},
            {"fillable_minor": 100},
        ),
        (
            "place_order",
            {"quantity_minor": 100_000},
            {"asset_id": "CNY", "needed_minor": 140_000, "available_minor": ALICE_CNY},
        ),
        ("place_order", {"market_id": "nowhere"}, {"market_id": "nowhere"}),
        (
            "grant_contribution",
            {"weight": 0},
            {"least": 1, "most": 1 << 63},
        ),
        ("grant_contribution", {"expires_second": 1}, {"now_second": 1_700_000_001}),
        (
            "configure_market",
            {"rules": MarketRules(burn_bps=10_000)},
            {"field": "burn_bps", "least": 0, "most": 9_999},
        ),
        ("adjust_contribution", {"grant_id": "never"}, {"grant_id": "never"}),
        # What the replaced order gives back counts as available: 70 + 30.
        (
            "replace_order",
            {"quantity_minor": 1_000},
            {"asset_id": "DUR", "needed_minor": 1_000, "available_minor": 100},
        ),
    ],
)
def test_refusal_says_what_to_act_on(
    name: str, change: dict[str, Any], details: dict[str, str | int]
) -> None:
    refused = given_ledger().refuse(msgspec.structs.replace(ACCEPTED[name], **change))
    assert refused.details == details
