"""The domain agrees with the naive model on random commands, and the harness sees what it should.

The seeds are fixed, so a failure repeats; `python -m tests.model.compare --seed N` tries others.
"""

from fractions import Fraction

import pytest

from schemas import commands as c
from schemas.events import AssetSpec, MarketRules, Side
from tests.model.compare import Outcome, compare, shorten
from tests.model.naive_ledger import NaiveLedger
from tests.model.naive_state import NANOSECONDS, Event
from tests.model.random_world import START_SECOND
from tests.model.two_ledgers import Difference, Step, TwoLedgers

QUICK_SEEDS = (1, 2, 3)
LONG_SEEDS = (101, 102, 103, 104, 105)


def test_domain_and_model_agree_on_random_commands() -> None:
    """Together the seeds meet every event type, rejection code and cancel reason."""
    together = Outcome(seed=0)
    for seed in QUICK_SEEDS:
        outcome = compare(5_000, seed)
        print(f"seed {seed}: {outcome.commands} commands, {outcome.ticks} ticks")  # noqa: T201
        assert outcome.difference is None, (seed, outcome.commands)
        together.seen += outcome.seen
    assert together.unseen == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_domain_and_model_agree_for_long(seed: int) -> None:
    outcome = compare(100_000, seed)
    assert outcome.difference is None, (seed, outcome.commands)
    assert outcome.commands == 100_000
    assert outcome.unseen == []


def _opened() -> TwoLedgers:
    two = TwoLedgers()
    for step in _genesis():
        two.take(step)
    two.check()
    return two


def _genesis() -> list[Step]:
    opening = c.OpenLedger(
        genesis_second=START_SECOND,
        mined_asset="DUR",
        pool_minor=1_000,
        assets=(AssetSpec(asset_id="DUR", scale=1), AssetSpec(asset_id="CNY", scale=0)),
        emission=(c.EmissionEntry(after_seconds=0, reward_minor=7),),
    )
    market = c.OpenMarket(
        market_id="DUR-CNY",
        base_asset="DUR",
        quote_asset="CNY",
        tick_minor=1,
        lot_minor=10,
        rules=MarketRules(burn_bps=500),
    )
    granted = [
        c.GrantContribution(user_id=user_id, grant_id="g", source="tests", weight=weight)
        for user_id, weight in (("ann", 1), ("bob", 2))
    ]
    return [(0, command) for command in (opening, market, *granted)]


def test_wrong_balance_is_a_difference() -> None:
    two = _opened()
    two.naive.books.write("ann", "CNY", 1)
    with pytest.raises(Difference) as caught:
        two.check()
    assert caught.value.what == "available, held of ann CNY"


def test_wrong_answer_is_a_difference() -> None:
    two = _opened()
    two.naive.accounts.append("cat")
    with pytest.raises(Difference) as caught:
        two.take((0, c.OpenAccount(user_id="cat")))
    assert caught.value.naive == "account_already_open"


def test_accrual_is_the_fraction_but_for_the_carry() -> None:
    """Seven units a second on weights 1 and 2: 100 seconds owe ann 700/3, within 2^-64 or so."""
    two = _opened()
    two.take((100 * NANOSECONDS, c.OpenAccount(user_id="cat")))
    two.check()
    ann = two.naive.mining.earned("ann")
    assert ann.ideal == Fraction(700, 3)
    assert 0 < abs(ann.error) <= ann.error_max < 3


@pytest.mark.parametrize(("makers", "rests"), [(1_000, True), (1_001, False)])
def test_walk_ends_at_its_thousandth_meeting(makers: int, rests: bool) -> None:
    """What the taker still wants rests only if nothing is left that it could meet."""
    two = _opened()
    rules = MarketRules(open_orders_max=10_000)
    two.take((0, c.ConfigureMarket(market_id="DUR-CNY", rules=rules)))
    for user_id, asset_id in (("bob", "DUR"), ("ann", "CNY")):
        two.take((0, _deposit(user_id, asset_id)))
    for number in range(makers):
        two.take((0, _limit("bob", "sell", f"c{number}", lots=1)))
    two.take((0, _limit("ann", "buy", "c", lots=makers + 7)))
    two.check()
    assert two.seen["trade_executed"] == 1_000
    assert two.seen["cancelled: unfilled"] == (0 if rests else 1)


@pytest.mark.slow
def test_client_order_id_is_remembered_for_two_days_and_while_open() -> None:
    """Second by second around both ends of the time, for a closed order and for an open one."""
    two, days = _opened(), 172_800
    names: tuple[tuple[Side, str], ...] = (("sell", "open"), ("buy", "closed"))
    for user_id, asset_id in (("bob", "DUR"), ("bob", "CNY")):
        two.take((0, _deposit(user_id, asset_id)))

    def answers(wait_seconds: int) -> list[str]:
        found = []
        for side, client_order_id in names:
            placement = _limit("bob", side, client_order_id, lots=1)
            before = two.seen["order_placed"]
            two.take((wait_seconds * NANOSECONDS, placement))
            found.append("taken" if two.seen["order_placed"] > before else "known")
            wait_seconds = 0
        return found

    assert answers(0) == ["taken", "taken"]
    assert two.seen["cancelled: self_trade"] == 1
    assert answers(days) == ["known", "known"]
    assert answers(1) == ["known", "taken"]
    two.take((0, c.CancelOrder(user_id="bob", order_id=1)))
    assert answers(days) == ["known", "known"]
    assert answers(1) == ["taken", "taken"]


def _deposit(user_id: str, asset_id: str) -> c.DepositFunds:
    return c.DepositFunds(
        user_id=user_id, asset_id=asset_id, amount_minor=10**6, reference=f"{user_id}-{asset_id}"
    )


def _limit(user_id: str, side: Side, client_order_id: str, *, lots: int) -> c.PlaceOrder:
    return c.PlaceOrder(
        user_id=user_id,
        client_order_id=client_order_id,
        market_id="DUR-CNY",
        side=side,
        order_type="limit",
        price_minor=5,
        quantity_minor=lots * 10,
    )


def test_shortening_keeps_what_is_needed() -> None:
    steps: list[Step] = [(1, c.OpenAccount(user_id=f"u{number}")) for number in range(50)]

    def differ(course: list[Step]) -> Difference | None:
        users = {command.user_id for _, command in course if isinstance(command, c.OpenAccount)}
        return Difference("pair", 0, 1) if {"u7", "u31"} <= users else None

    shortest, found = shorten(steps, differ)
    assert found is not None
    assert [command for _, command in shortest] == [steps[7][1], steps[31][1]]
    assert sum(wait_ns for wait_ns, _ in shortest) == 32


def test_first_code_of_the_table_wins() -> None:
    """An unknown asset, a used reference and too little money at once."""
    naive, answers = NaiveLedger(), list[list[Event] | str]()
    taken = c.DepositFunds(user_id="ann", asset_id="CNY", amount_minor=1, reference="r")
    poor = c.WithdrawFunds(user_id="ann", asset_id="CNY", amount_minor=9, reference="r")
    strange = c.WithdrawFunds(user_id="ann", asset_id="XXX", amount_minor=9, reference="r")
    for command in (*(command for _, command in _genesis()), taken, poor, strange):
        answers.append(naive.answer(command, START_SECOND * NANOSECONDS))
    assert answers[-2:] == ["duplicate_reference", "unknown_asset"]
