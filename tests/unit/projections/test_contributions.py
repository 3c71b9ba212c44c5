"""One user's contribution from changes."""

import pytest

from projections.contributions import add_change
from schemas.effects import ContributionChange
from schemas.views import ContributionView, GrantView


def test_grant_settlement_and_expiry() -> None:
    view = ContributionView(user_id="u")
    granted = ContributionChange(
        weight_delta=7,
        entry_index=5,
        entry_fraction=1,
        grant_id="g",
        grant_weight=7,
        source="s",
        expires_second=9,
    )
    add_change(view, granted, 3)
    assert view.grants == {"g": GrantView(source="s", weight=7, expires_second=9)}
    add_change(view, ContributionChange(settled_minor=4, entry_index=6, entry_fraction=2), 5)
    assert (view.settled_minor, view.entry_index, view.entry_fraction) == (4, 6, 2)
    expired = ContributionChange(weight_delta=-7, entry_index=8, entry_fraction=0, grant_id="g")
    add_change(view, expired, 6)
    assert view == ContributionView(
        user_id="u", settled_minor=4, entry_index=8, entry_fraction=0, position=6
    )


def test_adjusted_grant_keeps_its_source_and_a_revoked_one_is_gone() -> None:
    view = ContributionView(user_id="u")
    granted = ContributionChange(
        weight_delta=7, entry_index=0, entry_fraction=0, grant_id="g", grant_weight=7, source="s"
    )
    add_change(view, granted, 1)
    adjusted = ContributionChange(
        weight_delta=-4, entry_index=1, entry_fraction=0, grant_id="g", grant_weight=3
    )
    add_change(view, adjusted, 2)
    assert view.grants == {"g": GrantView(source="s", weight=3, expires_second=None)}
    revoked = ContributionChange(weight_delta=-3, entry_index=2, entry_fraction=0, grant_id="g")
    add_change(view, revoked, 3)
    assert (view.grants, view.weight) == ({}, 0)


def test_negative_weight_is_a_broken_invariant() -> None:
    change = ContributionChange(weight_delta=-1, entry_index=0, entry_fraction=0)
    with pytest.raises(AssertionError):
        add_change(ContributionView(user_id="u"), change, 1)
