"""One user's contribution from changes."""

import pytest

from projections.contributions import add_change
from schemas.effects import ContributionChange
from schemas.views import ContributionView, GrantView


def test_grant_settlement_and_expiry() -> None:
    view = ContributionView(user_id="u")
    granted = ContributionChange(
        weight_delta=7, entry_index=5, entry_fraction=1, grant_id="g", source="s", expires_second=9
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


def test_negative_weight_is_a_broken_invariant() -> None:
    change = ContributionChange(weight_delta=-1, entry_index=0, entry_fraction=0)
    with pytest.raises(AssertionError):
        add_change(ContributionView(user_id="u"), change, 1)
