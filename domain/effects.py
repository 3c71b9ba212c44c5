"""What an event means for each user it touches: the lines of ledger.postings. Needs no state."""

from domain.postings import UserPosting, postings_of
from schemas import events
from schemas.effects import BalanceChange, ContributionChange, UserEffect


def effects_of(position: int, event: events.LedgerEvent) -> list[UserEffect]:
    """One effect per touched user, in the order in which the event names them; often none."""
    changes: dict[str, list[BalanceChange]] = {}
    for posting in postings_of(event):
        if isinstance(posting, UserPosting):
            changes.setdefault(posting.user_id, []).append(
                BalanceChange(posting.asset_id, posting.available_minor, posting.held_minor)
            )
    contribution = None
    match event:
        case events.AccountOpened():
            changes[event.user_id] = []
        case events.AccrualSettled():
            contribution = _settled(event)
        case events.ContributionGranted():
            contribution = _granted(event)
            changes[event.user_id] = []
        case events.ContributionAdjusted():
            contribution = _adjusted(event)
            changes[event.user_id] = []
        case events.ContributionExpired():
            contribution = _expired(event)
            changes[event.user_id] = []
        case _:
            pass
    return [
        UserEffect(
            position=position,
            at_ns=event.at_ns,
            user_id=user_id,
            event_type=str(event.__struct_config__.tag),
            balances=tuple(balances),
            contribution=contribution,
        )
        for user_id, balances in changes.items()
    ]


def _settled(event: events.AccrualSettled) -> ContributionChange:
    return ContributionChange(
        settled_minor=event.amount_minor,
        entry_index=event.entry_index,
        entry_fraction=event.entry_fraction,
    )


def _granted(event: events.ContributionGranted) -> ContributionChange:
    return ContributionChange(
        weight_delta=event.weight,
        entry_index=event.entry_index,
        entry_fraction=event.entry_fraction,
        grant_id=event.grant_id,
        grant_weight=event.weight,
        source=event.source,
        expires_second=event.expires_second,
    )


def _adjusted(event: events.ContributionAdjusted) -> ContributionChange:
    return ContributionChange(
        weight_delta=event.weight - event.weight_before,
        entry_index=event.entry_index,
        entry_fraction=event.entry_fraction,
        grant_id=event.grant_id,
        grant_weight=event.weight,
        expires_second=event.expires_second,
    )


def _expired(event: events.ContributionExpired) -> ContributionChange:
    return ContributionChange(
        weight_delta=-event.weight,
        entry_index=event.entry_index,
        entry_fraction=event.entry_fraction,
        grant_id=event.grant_id,
    )
