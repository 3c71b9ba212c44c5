"""gateway.stream.balances: a second's amount follows from account and pulse, whichever is newer."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.stream.balances import Holding, Moment, Price, balance_now, holding
from schemas.accrual import INDEX_BITS, advance
from schemas.amounts import parse_amount
from schemas.views import AccountView, BalanceView, ContributionView

SCALE = 8
ONE = 10**SCALE


def moment(index: int = 0, *, second: int = 7, prices: tuple[Price, ...] = ()) -> Moment:
    return Moment(second=second, index=index, asset_id="DUR", scale=SCALE, prices=prices)


def held(owned: int = 0, **fields: int) -> Holding:
    nothing = {"weight": 0, "entry_index": 0, "entry_fraction": 0, "position": 1}
    return Holding(owned_minor=owned, **nothing | fields)


def test_a_holding_is_the_mined_asset_available_and_held_and_the_newer_position() -> None:
    account = AccountView(
        user_id="u",
        balances={"DUR": BalanceView(available=3, held=4), "CNY": BalanceView(available=50)},
        position=9,
    )
    contribution = ContributionView(
        user_id="u", weight=2, entry_index=5, entry_fraction=6, position=11
    )
    expected = Holding(owned_minor=7, weight=2, entry_index=5, entry_fraction=6, position=11)
    assert holding(account, contribution, "DUR") == expected
    assert holding(account, contribution, "NEW").owned_minor == 0


def test_amount_is_what_is_owned_and_what_accrued() -> None:
    now = balance_now(held(ONE, weight=3), moment(index=2 << INDEX_BITS, second=9))
    assert (now.second, now.asset) == (9, "DUR")
    assert (now.amount, now.accrued) == ("1.00000006", "0.00000006")
    assert now.values == {}


def test_value_is_rounded_down_at_the_quotes_scale() -> None:
    prices = (Price("DUR-CNY", 250, 2), Price("DUR-XAU", 1, 0))
    now = balance_now(held(ONE - 1), moment(prices=prices))
    assert now.values == {"DUR-CNY": "2.49", "DUR-XAU": "0"}


def test_an_account_newer_than_the_pulse_accrues_nothing_yet() -> None:
    now = balance_now(held(ONE, weight=3, entry_index=2 << INDEX_BITS), moment(index=1))
    assert (now.amount, now.accrued) == ("1.00000000", "0.00000000")


class Pool:
    """A ledger with one user among others, settled now and then; every state it ever was in."""

    def __init__(self, weight: int, others: int) -> None:
        self.index = self.carry = self.fraction = self.entry = self.owned = 0
        self.weight, self.total = weight, weight + others
        self.position = 0
        self.pulses: list[int] = [0]
        self.accounts: list[Holding] = [self._holding()]

    def pass_second(self, reward: int) -> None:
        self.index, self.carry = advance(
            index=self.index, carry=self.carry, reward_minor=reward, weight_total=self.total
        )
        self.pulses.append(self.index)

    def settle(self) -> None:
        scaled = self.weight * (self.index - self.entry) + self.fraction
        self.owned += scaled >> INDEX_BITS
        self.fraction = scaled % (1 << INDEX_BITS)
        self.entry = self.index
        self.position += 1
        self.accounts.append(self._holding())

    def _holding(self) -> Holding:
        return held(
            self.owned,
            weight=self.weight,
            entry_index=self.entry,
            entry_fraction=self.fraction,
            position=self.position,
        )


@given(
    weight=st.integers(1, 10**12),
    others=st.integers(0, 10**12),
    steps=st.lists(
        st.one_of(st.integers(0, 10**14), st.sampled_from(["settle", "see pulse", "see account"])),
        max_size=40,
    ),
)
def test_what_is_shown_is_exact_and_never_falls_by_a_settlement(
    weight: int, others: int, steps: list[Any]
) -> None:
    """Pulses and accounts arrive in their own order, each as late as it likes."""
    pool, pulse, account = Pool(weight, others), 0, 0
    shown = 0
    for step in steps:
        match step:
            case "settle":
                pool.settle()
            case "see pulse":
                pulse = min(pulse + 1, len(pool.pulses) - 1)
            case "see account":
                account = min(account + 1, len(pool.accounts) - 1)
            case reward:
                pool.pass_second(reward)
        now = balance_now(pool.accounts[account], moment(index=pool.pulses[pulse]))
        amount = parse_amount(now.amount, SCALE)
        assert amount >= shown
        shown = amount
        # Never more than the exact share of what was allocated so far.
        assert amount << INDEX_BITS <= weight * pool.index
    pulse, account = len(pool.pulses) - 1, len(pool.accounts) - 1
    now = balance_now(pool.accounts[account], moment(index=pool.pulses[pulse]))
    assert parse_amount(now.amount, SCALE) == weight * pool.index >> INDEX_BITS
    assert msgspec.json.encode(now)
