"""Markets: rules, halts, and what touches supply: opening one and its burn, by two persons."""

from typing import Final

from gateway.administration.acting import ADMINISTERS, LOOKS, OPERATES, acting, desk_of
from gateway.administration.changing import answered, change_now, propose
from gateway.administration.market_rules import current_market
from gateway.administration.shown import shown_market
from gateway.desk.changes import SetBurn
from gateway.endpoint import Call, Endpoint, NoBody, Parameters, Reading
from gateway.reading import caught_up
from gateway.requests import amount
from schemas.commands import ConfigureMarket, HaltMarket, OpenMarket, ResumeMarket
from schemas.events import MarketRules
from schemas.rejections import RejectionCode
from schemas.wire import WireCode
from schemas.wire_administration import (
    Approval,
    BurnBody,
    Changed,
    FreezeBody,
    MarketRulesBody,
    Markets,
    OpenMarketBody,
)
from schemas.wire_values import MarketId

PROPOSED: Final = 202
MARKET_REFUSALS: Final = (
    WireCode.CHANGE_IN_PROGRESS,
    WireCode.VIEWS_BEHIND,
    RejectionCode.INVALID_ID,
    RejectionCode.INVALID_RULES,
    RejectionCode.UNKNOWN_MARKET,
    RejectionCode.MARKET_HALTED,
    RejectionCode.MARKET_NOT_HALTED,
)


class MarketParameters(Parameters, frozen=True, kw_only=True):
    market: MarketId


async def list_markets(call: Call[Reading, NoBody]) -> Markets:
    """All markets with their rules."""
    await caught_up(call, "market")
    _, markets = await call.resources.views.assets_and_markets()
    return Markets(items=tuple(shown_market(markets[name]) for name in sorted(markets)))


async def open_market(call: Call[Parameters, OpenMarketBody]) -> Approval:
    """Propose a market. It is opened when a second administrator approves it."""
    body = call.body
    scales = await call.resources.catalogue.scales([body.base_asset, body.quote_asset])
    base, quote = scales[body.base_asset], scales[body.quote_asset]
    command = OpenMarket(
        market_id=body.market,
        base_asset=body.base_asset,
        quote_asset=body.quote_asset,
        tick_minor=amount(body.tick_size, quote, "tick_size"),
        lot_minor=amount(body.lot_size, base, "lot_size"),
        rules=MarketRules(
            burn_bps=body.burn_bps,
            maker_fee_bps=body.maker_fee_bps,
            taker_fee_bps=body.taker_fee_bps,
            band_bps=body.band_bps,
            min_notional_minor=amount(body.min_notional, quote, "min_notional"),
            open_orders_max=body.open_orders_max,
        ),
    )
    return await propose(call, command, body.reason)


async def set_rules(call: Call[MarketParameters, MarketRulesBody]) -> Changed:
    """Other fees and limits for a market; its burn stays as it is. Open orders stay."""
    body, actor, intents = call.body, await acting(call), desk_of(call.resources).intents
    known = await intents.begun(actor)
    if known is not None:
        return await answered(call, known)
    market, based_on = await current_market(call.resources, call.parameters.market)
    rules = MarketRules(
        burn_bps=market.burn_bps,
        maker_fee_bps=body.maker_fee_bps,
        taker_fee_bps=body.taker_fee_bps,
        band_bps=body.band_bps,
        min_notional_minor=amount(body.min_notional, market.quote_scale, "min_notional"),
        open_orders_max=body.open_orders_max,
    )
    command = ConfigureMarket(market_id=market.market_id, rules=rules)
    return await answered(call, await intents.begin(actor, command, based_on=based_on))


async def set_burn(call: Call[MarketParameters, BurnBody]) -> Approval:
    """Propose another burn for a market. It is in force when a second administrator approves it."""
    market = await call.resources.catalogue.market(call.parameters.market)
    proposal = SetBurn(market_id=market.market_id, burn_bps=call.body.burn_bps)
    return await propose(call, proposal, call.body.reason)


async def halt(call: Call[MarketParameters, FreezeBody]) -> Changed:
    """Take no new orders in a market; cancelling and shrinking them stays possible."""
    command = HaltMarket(market_id=call.parameters.market, reason=call.body.reason)
    return await change_now(call, command)


async def resume(call: Call[MarketParameters, NoBody]) -> Changed:
    """Take orders again."""
    return await change_now(call, ResumeMarket(market_id=call.parameters.market))


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/v1/admin/markets",
        handle=list_markets,
        summary="All markets",
        access=LOOKS,
        parameters=Reading,
        answer=Markets,
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/markets",
        handle=open_market,
        summary="Propose a market",
        access=ADMINISTERS,
        body=OpenMarketBody,
        answer=Approval,
        status=PROPOSED,
        is_command=True,
        refuses=(RejectionCode.UNKNOWN_ASSET,),
    ),
    Endpoint(
        method="PUT",
        path="/v1/admin/markets/{market}/rules",
        handle=set_rules,
        summary="Fees and limits of a market",
        access=ADMINISTERS,
        parameters=MarketParameters,
        body=MarketRulesBody,
        answer=Changed,
        is_command=True,
        refuses=MARKET_REFUSALS,
    ),
    Endpoint(
        method="PUT",
        path="/v1/admin/markets/{market}/burn",
        handle=set_burn,
        summary="Propose the burn of a market",
        access=ADMINISTERS,
        parameters=MarketParameters,
        body=BurnBody,
        answer=Approval,
        status=PROPOSED,
        is_command=True,
        refuses=(RejectionCode.UNKNOWN_MARKET,),
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/markets/{market}/halt",
        handle=halt,
        summary="Halt a market",
        access=OPERATES,
        parameters=MarketParameters,
        body=FreezeBody,
        answer=Changed,
        is_command=True,
        refuses=MARKET_REFUSALS,
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/markets/{market}/resume",
        handle=resume,
        summary="Resume a market",
        access=OPERATES,
        parameters=MarketParameters,
        answer=Changed,
        is_command=True,
        refuses=MARKET_REFUSALS,
    ),
)
