"""One user's contribution: weight, where accrual last restarted, the grants in force."""

from schemas.effects import ContributionChange
from schemas.views import ContributionView, GrantView


def add_change(view: ContributionView, change: ContributionChange, position: int) -> None:
    """Apply one change that comes after view.position, in place."""
    view.weight += change.weight_delta
    view.settled_minor += change.settled_minor
    view.entry_index = change.entry_index
    view.entry_fraction = change.entry_fraction
    view.position = position
    assert view.weight >= 0, change
    if change.grant_id is None:
        return
    before = view.grants.pop(change.grant_id, None)
    if change.grant_weight:
        view.grants[change.grant_id] = GrantView(
            source=change.source or (before.source if before else ""),
            weight=change.grant_weight,
            expires_second=change.expires_second,
        )
