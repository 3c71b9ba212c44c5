"""Snapshots: the same state gives the same bytes, and a loaded state goes on as the first would."""

import msgspec
import pytest

from domain.ledger import evolve
from domain.snapshot import dump, load
from domain.state import LedgerState
from schemas import commands
from schemas.rejections import RejectionCode
from schemas.snapshots import decode_snapshot, encode_snapshot
from tests.unit.domain.scenario import MARKET, Scenario, fingerprint, market, replayed
from tests.unit.domain.story import story


def _rich() -> Scenario:
    """Resting orders on both sides, a halt, a freeze, grants to come and gone, a last price."""
    given = story()
    given.accept(market(base_asset="TOK"))
    for user_id in ("zoe", "amy"):
        given.deposit(user_id, "TOK", 500)
        given.deposit(user_id, "CNY", 500)
        given.rest(user_id, "buy", 100, 100, client_order_id=f"{user_id}-1")
        given.rest(user_id, "sell", 100, 300, market_id="TOK-CNY", post_only=True)
    # Between its events even a market order is open.
    given.deposit("seller", "DUR", 100)
    given.place("seller", "sell", 50, None)
    given.grant("amy", 1 << 63, expires_second=given.second + 4, grant_id="g")
    given.grant("zoe", 2, expires_second=given.second + 2, grant_id="g")
    given.tick()
    given.accept(commands.AdjustContribution(user_id="zoe", grant_id="g", weight=0))
    given.accept(commands.HaltMarket(market_id="TOK-CNY", reason="r"))
    given.accept(commands.OpenAccount(user_id="idle"))
    given.accept(commands.FreezeAccount(user_id="idle", reason="r"))
    return given


def _reloaded(state: LedgerState) -> LedgerState:
    return load(decode_snapshot(encode_snapshot(dump(state))))


def test_an_empty_state_survives() -> None:
    assert fingerprint(_reloaded(LedgerState())) == fingerprint(LedgerState())


def test_every_state_of_a_history_survives_to_the_byte() -> None:
    state = LedgerState()
    for event in _rich().log:
        evolve(state, event)
        assert fingerprint(_reloaded(state)) == fingerprint(state)


@pytest.mark.parametrize("share", [0, 1, 2, 3])
def test_from_any_snapshot_the_rest_of_the_log_leads_to_the_same_state(share: int) -> None:
    given = _rich()
    cut = len(given.log) * share // 4
    state = _reloaded(replayed(given.log[:cut]))
    for event in given.log[cut:]:
        evolve(state, event)
    assert fingerprint(state) == fingerprint(given.state)


def test_equal_states_reached_in_different_order_give_equal_bytes() -> None:
    forwards, backwards = Scenario(), Scenario()
    for given, users in ((forwards, ("a", "b", "c")), (backwards, ("c", "b", "a"))):
        for user_id in users:
            for asset_id in ("DUR", "CNY") if given is forwards else ("CNY", "DUR"):
                given.accept(
                    commands.DepositFunds(
                        user_id=user_id, asset_id=asset_id, amount_minor=5,
                        reference=f"{user_id}-{asset_id}",
                    )
                )  # fmt: skip
    assert fingerprint(forwards.state) == fingerprint(backwards.state)


def test_a_loaded_ledger_takes_commands_as_the_first_would() -> None:
    given = _rich()
    twin = _rich()
    twin.state = _reloaded(given.state)
    for scenario in (given, twin):
        # Both buyers rest at 100: the older is met first, the younger keeps the rest.
        scenario.deposit("seller", "DUR", 500)
        scenario.place("seller", "sell", 150, None)
        again = scenario.order("zoe", "buy", 10, 100, client_order_id="zoe-1")
        assert scenario.refuse(again).code == RejectionCode.DUPLICATE_CLIENT_ORDER_ID
        scenario.tick(70)
        scenario.accept(commands.CancelAllOrders(user_id="amy"))
    assert fingerprint(given.state) == fingerprint(twin.state)
    assert twin.queue("buy", MARKET) == given.queue("buy", MARKET)


def test_a_snapshot_says_which_shape_it_has() -> None:
    assert msgspec.json.decode(fingerprint(LedgerState()))["v"] == 1
