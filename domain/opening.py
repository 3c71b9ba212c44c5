"""Genesis and policy: assets, emission, markets and their rules, halts, the reserve burn."""

from domain.checks import (
    AMOUNT_MINOR_MAX,
    BAND_BPS_MAX,
    BURN_BPS_MAX,
    FEE_BPS_MAX,
    OPEN_ORDERS_MAX,
    SCALE_MAX,
    SECOND_MAX,
    check_amount,
    check_ids,
    is_id,
)
from domain.mining import SECOND_NS
from domain.state import LedgerState
from schemas import commands, events
from schemas.rejections import Rejection, RejectionCode

Decision = tuple[events.LedgerEvent, ...] | Rejection


def decide_ledger(command: commands.OpenLedger, state: LedgerState) -> Decision:
    """Genesis: mints pool and treasury, sets the emission.

    Events carry the genesis second's time.
    """
    if state.mining is not None:
        return Rejection(RejectionCode.LEDGER_ALREADY_OPEN)
    refused = check_ids(command) or _check_genesis(command)
    if refused is not None:
        return refused
    at_ns = command.genesis_second * SECOND_NS
    opened = events.LedgerOpened(
        at_ns=at_ns,
        genesis_second=command.genesis_second,
        mined_asset=command.mined_asset,
        pool_minor=command.pool_minor,
        treasury_minor=command.treasury_minor,
        assets=command.assets,
    )
    emission = (
        events.EmissionScheduled(
            at_ns=at_ns,
            from_second=command.genesis_second + entry.after_seconds,
            reward_minor=entry.reward_minor,
        )
        for entry in command.emission
    )
    return (opened, *emission)


def _check_genesis(command: commands.OpenLedger) -> Rejection | None:
    scales = {asset.asset_id: asset.scale for asset in command.assets}
    if len(scales) != len(command.assets) or not all(map(is_id, scales)):
        return Rejection(RejectionCode.INVALID_ASSET, {"assets": "ids must be unique and valid"})
    if not all(0 <= scale <= SCALE_MAX for scale in scales.values()):
        return Rejection(RejectionCode.INVALID_ASSET, {"scale": f"0 to {SCALE_MAX}"})
    refused = check_amount("pool_minor", command.pool_minor)
    refused = refused or check_amount("treasury_minor", command.treasury_minor, least=0)
    if refused is not None:
        return refused
    starts = [entry.after_seconds for entry in command.emission]
    if not 0 <= command.genesis_second <= SECOND_MAX:
        return Rejection(RejectionCode.INVALID_SCHEDULE, {"genesis_second": f"0 to {SECOND_MAX}"})
    if starts != sorted(set(starts)) or any(not 0 <= start <= SECOND_MAX for start in starts):
        return Rejection(RejectionCode.INVALID_SCHEDULE, {"after_seconds": "strictly rising"})
    if any(not 0 <= entry.reward_minor <= AMOUNT_MINOR_MAX for entry in command.emission):
        return Rejection(RejectionCode.INVALID_SCHEDULE, {"reward_minor": "0 or more"})
    if command.mined_asset not in scales:
        return Rejection(RejectionCode.UNKNOWN_ASSET, {"asset_id": command.mined_asset})
    return None


def decide_emission(
    command: commands.ScheduleEmission, state: LedgerState, now_ns: int
) -> Decision:
    """A reward from a future second on; what seconds up to now were paid stays paid."""
    refused = check_amount("reward_minor", command.reward_minor, least=0)
    if refused is not None:
        return refused
    now_second = now_ns // SECOND_NS
    if not now_second < command.from_second <= SECOND_MAX:
        return Rejection(RejectionCode.INVALID_SCHEDULE, {"now_second": now_second})
    return (
        events.EmissionScheduled(
            at_ns=now_ns, from_second=command.from_second, reward_minor=command.reward_minor
        ),
    )


def decide_reserve_burn(
    command: commands.ConfigureReserveBurn, state: LedgerState, now_ns: int
) -> Decision:
    """What each minute burns of the treasury from now on."""
    refused = check_amount("amount_minor", command.amount_minor, least=0)
    if refused is not None:
        return refused
    return (events.ReserveBurnConfigured(at_ns=now_ns, amount_minor=command.amount_minor),)


def decide_market(command: commands.OpenMarket, state: LedgerState, now_ns: int) -> Decision:
    """A market whose price x quantity is exact in quote minor units, or a refusal."""
    tick, lot, assets = command.tick_minor, command.lot_minor, state.asset_scales
    if not (0 < tick <= AMOUNT_MINOR_MAX and 0 < lot <= AMOUNT_MINOR_MAX):
        return Rejection(RejectionCode.INVALID_STEP, {"tick_minor": tick, "lot_minor": lot})
    base_scale = assets.get(command.base_asset)
    # tick x lot must be a whole number of quote minor units.
    if base_scale is not None and tick * lot % 10**base_scale:
        return Rejection(
            RejectionCode.INVALID_STEP, {"tick_minor": "tick x lot is not a whole quote unit"}
        )
    refused = check_rules(command.rules)
    if refused is not None:
        return refused
    if command.base_asset == command.quote_asset:
        return Rejection(RejectionCode.INVALID_RULES, {"quote_asset": command.quote_asset})
    for asset_id in (command.base_asset, command.quote_asset):
        if asset_id not in assets:
            return Rejection(RejectionCode.UNKNOWN_ASSET, {"asset_id": asset_id})
    if command.market_id in state.markets:
        return Rejection(RejectionCode.MARKET_ALREADY_OPEN, {"market_id": command.market_id})
    return (
        events.MarketOpened(
            at_ns=now_ns,
            market_id=command.market_id,
            base_asset=command.base_asset,
            quote_asset=command.quote_asset,
            tick_minor=tick,
            lot_minor=lot,
            rules=command.rules,
        ),
    )


def check_rules(rules: events.MarketRules) -> Rejection | None:
    """Each rule within its limits; the first that is not is named."""
    band = rules.band_bps
    limits = {
        "burn_bps": (rules.burn_bps, 0, BURN_BPS_MAX),
        "maker_fee_bps": (rules.maker_fee_bps, 0, FEE_BPS_MAX),
        "taker_fee_bps": (rules.taker_fee_bps, 0, FEE_BPS_MAX),
        "band_bps": (1 if band is None else band, 1, BAND_BPS_MAX),
        "min_notional_minor": (rules.min_notional_minor, 0, AMOUNT_MINOR_MAX),
        "open_orders_max": (rules.open_orders_max, 1, OPEN_ORDERS_MAX),
    }
    for name, (value, least, most) in limits.items():
        if not least <= value <= most:
            return Rejection(
                RejectionCode.INVALID_RULES, {"field": name, "least": least, "most": most}
            )
    return None


def decide_configure(
    command: commands.ConfigureMarket, state: LedgerState, now_ns: int
) -> Decision:
    """New rules for an open market."""
    refused = check_rules(command.rules)
    if refused is not None:
        return refused
    if command.market_id not in state.markets:
        return Rejection(RejectionCode.UNKNOWN_MARKET, {"market_id": command.market_id})
    return (
        events.MarketConfigured(at_ns=now_ns, market_id=command.market_id, rules=command.rules),
    )


def decide_halt(command: commands.HaltMarket, state: LedgerState, now_ns: int) -> Decision:
    """No new orders from now on."""
    market = state.markets.get(command.market_id)
    if market is None:
        return Rejection(RejectionCode.UNKNOWN_MARKET, {"market_id": command.market_id})
    if market.is_halted:
        return Rejection(RejectionCode.MARKET_HALTED, {"market_id": command.market_id})
    return (events.MarketHalted(at_ns=now_ns, market_id=command.market_id, reason=command.reason),)


def decide_resume(command: commands.ResumeMarket, state: LedgerState, now_ns: int) -> Decision:
    """Orders again."""
    market = state.markets.get(command.market_id)
    if market is None:
        return Rejection(RejectionCode.UNKNOWN_MARKET, {"market_id": command.market_id})
    if not market.is_halted:
        return Rejection(RejectionCode.MARKET_NOT_HALTED, {"market_id": command.market_id})
    return (events.MarketResumed(at_ns=now_ns, market_id=command.market_id),)
