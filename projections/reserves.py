"""Burns of one asset: its totals, and a record for every minute from its first reserve burn's on.

A reserve burn names no market; markets with this base asset show it beside their trades' burns.
"""

import msgspec

from projections import burns
from projections.batch import Batch
from schemas import views
from schemas.events import AssetBurned
from schemas.views import BurnedView, BurnMinute

encode = msgspec.json.Encoder().encode


class AssetState(msgspec.Struct, kw_only=True):
    """minute: the open one of the reserve's burns; None before the first of them."""

    burned: BurnedView
    minute: BurnMinute | None = None


def add_burn(state: AssetState, event: AssetBurned, position: int) -> None:
    """Count one burn, in place."""
    burned = state.burned
    burned.total, burned.position = event.burned_total_minor, position
    if event.source == "trade":
        burned.by_trades += event.amount_minor
    else:
        burned.by_reserve += event.amount_minor
        if state.minute is None:
            state.minute = burns.open_minute(event.at_ns // 1_000_000_000)
        burns.add_reserve_burn(state.minute, event, position)
    assert burned.total == burned.by_trades + burned.by_reserve, event


def roll(state: AssetState, second: int, batch: Batch) -> None:
    """Close the reserve's minutes that end at or before `second`."""
    if state.minute is None:
        return
    for minute in burns.close_due(state.minute, second):
        state.minute = minute
        _write_minute(batch, state.burned.asset_id, minute)


def write(state: AssetState, batch: Batch) -> None:
    """Put the totals and the open minute into a batch."""
    asset_id = state.burned.asset_id
    batch.put((views.TRADING_DB, views.burned_key(asset_id)), encode(state.burned))
    if state.minute is not None:
        _write_minute(batch, asset_id, state.minute)


def _write_minute(batch: Batch, asset_id: str, minute: BurnMinute) -> None:
    key = views.reserve_burns_key(asset_id)
    batch.put_field((views.TRADING_DB, key), str(minute.open_second), encode(minute))
