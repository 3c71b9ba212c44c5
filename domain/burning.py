"""Burning: what a trade or a minute takes out of circulation, and the running total per asset."""

from domain.mining import SECOND_NS
from domain.postings import TREASURY
from domain.state import LedgerState
from schemas.events import AssetBurned, TradeExecuted

MINUTE_SECONDS = 60


def burned_by(trade: TradeExecuted, burned_before_minor: int) -> AssetBurned | None:
    """The burn that follows a trade; None where its share rounds down to 0."""
    if trade.burned_minor == 0:
        return None
    return AssetBurned(
        at_ns=trade.at_ns,
        asset_id=trade.base_asset,
        source="trade",
        user_id=trade.seller_id,
        market_id=trade.market_id,
        trade_id=trade.trade_id,
        amount_minor=trade.burned_minor,
        burned_total_minor=burned_before_minor + trade.burned_minor,
    )


def reserve_burn(state: LedgerState, second: int) -> AssetBurned | None:
    """The treasury's burn of the minute that begins with `second`, until the treasury is empty."""
    if second % MINUTE_SECONDS or state.reserve_burn_minor == 0 or state.mining is None:
        return None
    asset_id = state.mining.asset_id
    amount = min(state.reserve_burn_minor, state.accounts.system_minor(TREASURY, asset_id))
    if amount == 0:
        return None
    return AssetBurned(
        at_ns=second * SECOND_NS,
        asset_id=asset_id,
        source="reserve",
        amount_minor=amount,
        burned_total_minor=state.burned_minor.get(asset_id, 0) + amount,
    )
