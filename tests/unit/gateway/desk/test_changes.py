"""Changes as the record and approvals name them; all of them come back from JSON as they were."""

import pytest

from gateway.desk.changes import (
    Change,
    DisableUser,
    EnableUser,
    Proposal,
    SetBurn,
    SetRole,
    action_of,
    decode_change,
    decode_proposal,
    details_of,
    encode,
    kind_of,
    target_of,
)
from schemas.commands import (
    ConfigureMarket,
    ConfigureReserveBurn,
    FreezeAccount,
    HaltMarket,
    OpenMarket,
    ScheduleEmission,
)
from schemas.events import MarketRules

CHANGES: list[tuple[Change, str, str]] = [
    (ScheduleEmission(from_second=9, reward_minor=1), "schedule_emission", "emission"),
    (ConfigureReserveBurn(amount_minor=5), "configure_reserve_burn", "reserve_burn"),
    (HaltMarket(market_id="M", reason="r"), "halt_market", "market:M"),
    (ConfigureMarket(market_id="M", rules=MarketRules()), "configure_market", "market:M"),
    (FreezeAccount(user_id="u", reason="r"), "freeze_account", "user:u"),
    (SetRole(user_id="u", role="admin"), "set_role", "user:u"),
    (DisableUser(user_id="u"), "disable_user", "user:u"),
]
PROPOSALS: list[tuple[Proposal, str]] = [
    (ScheduleEmission(from_second=9, reward_minor=1), "emission"),
    (ConfigureReserveBurn(amount_minor=0), "reserve_burn"),
    (SetBurn(market_id="M", burn_bps=3), "burn"),
    (SetRole(user_id="u", role="admin"), "admin"),
    (EnableUser(user_id="u"), "admin"),
    (
        OpenMarket(market_id="M", base_asset="A", quote_asset="B", tick_minor=1, lot_minor=1),
        "market",
    ),
]


@pytest.mark.parametrize(("change", "action", "target"), CHANGES)
def test_change_has_a_name_and_a_target(change: Change, action: str, target: str) -> None:
    assert (action_of(change), target_of(change)) == (action, target)
    assert decode_change(encode(change)) == change


@pytest.mark.parametrize(("proposal", "kind"), PROPOSALS)
def test_proposal_has_a_kind(proposal: Proposal, kind: str) -> None:
    assert kind_of(proposal) == kind
    assert decode_proposal(encode(proposal)) == proposal


def test_burn_of_a_market_excludes_its_other_changes() -> None:
    assert target_of(SetBurn(market_id="M", burn_bps=3)) == "market:M"


def test_details_are_flat_and_exact_for_every_client() -> None:
    rules = MarketRules(burn_bps=3, min_notional_minor=1 << 53)
    assert details_of(ConfigureMarket(market_id="M", rules=rules)) == {
        "market_id": "M",
        "burn_bps": 3,
        "maker_fee_bps": 0,
        "taker_fee_bps": 0,
        "band_bps": None,
        "min_notional_minor": "9007199254740992",
        "open_orders_max": 200,
    }
