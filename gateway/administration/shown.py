"""How approvals and markets look on the wire: amounts in whole units."""

import msgspec

from gateway.desk.approvals import ApprovalRow
from gateway.desk.changes import Proposal
from gateway.errors import Refusal
from gateway.ports import Resources
from schemas.amounts import format_amount
from schemas.commands import ConfigureReserveBurn, OpenMarket, ScheduleEmission
from schemas.events import MarketRules
from schemas.views import MarketView
from schemas.wire_administration import Approval, MarketState

Shown = dict[str, str | int | None]


async def shown_approval(resources: Resources, row: ApprovalRow) -> Approval:
    return Approval(
        id=row.id,
        kind=row.kind,
        target=row.target,
        proposal=await _proposal(resources, row.proposal),
        reason=row.reason,
        proposed_by=row.proposed_by,
        proposed_time=row.proposed_ms,
        expires_time=row.expires_ms,
        state=row.state,
        decided_by=row.decided_by,
        decided_time=row.decided_ms,
        position=row.position,
        code=row.code,
    )


def shown_market(view: MarketView) -> MarketState:
    return MarketState(
        market=view.market_id,
        base_asset=view.base_asset,
        quote_asset=view.quote_asset,
        tick_size=format_amount(view.tick_minor, view.quote_scale),
        lot_size=format_amount(view.lot_minor, view.base_scale),
        burn_bps=view.burn_bps,
        maker_fee_bps=view.maker_fee_bps,
        taker_fee_bps=view.taker_fee_bps,
        band_bps=view.band_bps,
        min_notional=format_amount(view.min_notional_minor, view.quote_scale),
        open_orders_max=view.open_orders_max,
        is_halted=view.is_halted,
        halt_reason=view.halt_reason,
    )


def rules_of(view: MarketView) -> MarketRules:
    """The rules that the view shows."""
    return MarketRules(**{name: getattr(view, name) for name in MarketRules.__struct_fields__})


async def _proposal(resources: Resources, proposal: Proposal) -> Shown:
    match proposal:
        case ScheduleEmission():
            scale = await resources.catalogue.mined_scale()
            reward = format_amount(proposal.reward_minor, scale)
            return {"from_second": proposal.from_second, "reward": reward}
        case ConfigureReserveBurn():
            scale = await resources.catalogue.mined_scale()
            return {"amount": format_amount(proposal.amount_minor, scale)}
        case OpenMarket():
            return await _opening(resources, proposal)
        case _:
            plain: Shown = msgspec.to_builtins(proposal)
            return {name: value for name, value in plain.items() if name != "type"}


async def _opening(resources: Resources, proposal: OpenMarket) -> Shown:
    assets = [proposal.base_asset, proposal.quote_asset]
    try:
        scales = await resources.catalogue.scales(assets)
    except Refusal:
        # The assets were known when it was proposed; a ledger made anew may not have them.
        return {"market": proposal.market_id}
    base, quote = (scales[asset] for asset in assets)
    rules: Shown = msgspec.to_builtins(proposal.rules)
    del rules["min_notional_minor"]
    return {
        "market": proposal.market_id,
        "base_asset": proposal.base_asset,
        "quote_asset": proposal.quote_asset,
        "tick_size": format_amount(proposal.tick_minor, quote),
        "lot_size": format_amount(proposal.lot_minor, base),
        "min_notional": format_amount(proposal.rules.min_notional_minor, quote),
        **rules,
    }
