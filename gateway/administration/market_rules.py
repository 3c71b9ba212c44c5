"""The rules of a market as they are now, to make others from: no older than the last change."""

from typing import Final

import msgspec

from gateway.administration.acting import desk_of
from gateway.administration.shown import rules_of
from gateway.desk.changes import Change, Proposal, SetBurn
from gateway.errors import Refusal
from gateway.ports import Resources
from schemas.commands import ConfigureMarket
from schemas.rejections import RejectionCode
from schemas.views import MARKET, MarketView
from schemas.wire import WireCode

RETRY_SECONDS: Final = 1


async def current_market(resources: Resources, market_id: str) -> tuple[MarketView, int]:
    """The market, and the position of its last change from here, for an intent's based_on.

    Commands carry all rules of a market: made from a view of before the last change they would
    undo it. Raises Refusal(unknown_market), Refusal(views_behind).
    """
    based_on = await desk_of(resources).intents.position(f"market:{market_id}")

    async def read() -> int:
        return await resources.views.position(MARKET, 0)

    reached = await resources.progress.reach((MARKET, 0), based_on, read)
    if reached < based_on:
        raise Refusal(
            WireCode.VIEWS_BEHIND,
            f"The views are at position {reached}, not yet at {based_on}; try again.",
            {"position": reached, "wanted": based_on},
            retry_after=RETRY_SECONDS,
        )
    _, markets = await resources.views.assets_and_markets()
    if market_id not in markets:
        raise Refusal(
            RejectionCode.UNKNOWN_MARKET, f"No market {market_id}.", {"market": market_id}
        )
    return markets[market_id], based_on


async def change_of(resources: Resources, proposal: Proposal) -> tuple[Change, int | None]:
    """What a proposal is by now, and what it was made from."""
    if not isinstance(proposal, SetBurn):
        return proposal, None
    market, based_on = await current_market(resources, proposal.market_id)
    rules = msgspec.structs.replace(rules_of(market), burn_bps=proposal.burn_bps)
    return ConfigureMarket(market_id=market.market_id, rules=rules), based_on
