"""One user's balances from effects."""

import pytest

from projections.balances import UserBalances
from schemas.effects import BalanceChange, UserEffect
from schemas.views import AccountView, BalanceView


def _effect(position: int, *changes: BalanceChange) -> UserEffect:
    return UserEffect(position=position, at_ns=0, user_id="u", event_type="t", balances=changes)


def test_effects_move_balances_and_count_offsets() -> None:
    user = UserBalances("u", None)
    user.add(_effect(3, BalanceChange("DUR", 10, 0)))
    user.add(_effect(5, BalanceChange("DUR", -4, 4), BalanceChange("CNY", 1, 0)))
    assert user.view() == AccountView(
        user_id="u",
        balances={"DUR": BalanceView(available=6, held=4), "CNY": BalanceView(available=1)},
        offset=2,
        position=5,
    )


def test_stored_view_goes_on_where_it_was() -> None:
    user = UserBalances("u", None)
    user.add(_effect(3, BalanceChange("DUR", 10, 0)))
    again = UserBalances("u", user.view())
    for one in (user, again):
        one.add(_effect(4, BalanceChange("DUR", -3, 0)))
    assert again.view() == user.view()


def test_view_says_why_the_account_is_frozen() -> None:
    user = UserBalances("u", None)
    frozen = UserEffect(
        position=1, at_ns=0, user_id="u", event_type="account_frozen", frozen_for="case-9"
    )
    user.add(frozen)
    user = UserBalances("u", user.view())
    user.add(_effect(2, BalanceChange("DUR", 1, 0)))
    assert user.view().frozen == "case-9"
    user.add(UserEffect(position=3, at_ns=0, user_id="u", event_type="account_unfrozen"))
    assert user.view().frozen is None


def test_negative_balance_is_a_broken_invariant() -> None:
    with pytest.raises(AssertionError):
        UserBalances("u", None).add(_effect(1, BalanceChange("DUR", -1, 0)))
