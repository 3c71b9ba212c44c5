"""Rules for everything that is not an order: genesis, markets, accounts, deposits, grants,
settlement.
"""

from domain import contributions
from domain.mining import SECOND_NS, Mining
from domain.state import LedgerState
from schemas import commands, events
from schemas.rejections import Rejection, RejectionCode

ID_CHARS_MAX = 64
SCALE_MAX = 18
AMOUNT_MINOR_MAX = 10**36
WEIGHT_MAX = 1 << 63
BURN_BPS_MAX = 10_000
SECOND_MAX = 1 << 40

Decision = tuple[events.LedgerEvent, ...] | Rejection


def check_ids(command: commands.LedgerCommand) -> Rejection | None:
    """Every text field of a command is an id: 1 to ID_CHARS_MAX printable ASCII characters, no
    blanks.
    """
    for name in command.__struct_fields__:
        text = getattr(command, name)
        if isinstance(text, str) and not is_id(text):
            return Rejection(
                RejectionCode.INVALID_ID,
                {"field": name, "allowed": f"1 to {ID_CHARS_MAX} visible ASCII characters"},
            )
    return None


def is_id(text: str) -> bool:
    """True for 1 to ID_CHARS_MAX visible ASCII characters."""
    return (
        0 < len(text) <= ID_CHARS_MAX and text.isascii() and text.isprintable() and " " not in text
    )


def decide_ledger(command: commands.OpenLedger, state: LedgerState) -> Decision:
    """Genesis: mints the pool and sets the emission. Its events carry the genesis second's time."""
    if state.mining is not None:
        return Rejection(RejectionCode.LEDGER_ALREADY_OPEN)
    refused = _check_genesis(command)
    if refused is not None:
        return refused
    at_ns = command.genesis_second * SECOND_NS
    opened = events.LedgerOpened(
        at_ns=at_ns,
        genesis_second=command.genesis_second,
        mined_asset=command.mined_asset,
        pool_minor=command.pool_minor,
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
    if not 0 < command.pool_minor <= AMOUNT_MINOR_MAX:
        return Rejection(RejectionCode.INVALID_AMOUNT, {"pool_minor": command.pool_minor})
    starts = [entry.after_seconds for entry in command.emission]
    if not 0 <= command.genesis_second <= SECOND_MAX:
        return Rejection(RejectionCode.INVALID_SCHEDULE, {"genesis_second": command.genesis_second})
    if starts != sorted(set(starts)) or any(not 0 <= start <= SECOND_MAX for start in starts):
        return Rejection(RejectionCode.INVALID_SCHEDULE, {"after_seconds": "strictly rising"})
    if any(not 0 <= entry.reward_minor <= AMOUNT_MINOR_MAX for entry in command.emission):
        return Rejection(RejectionCode.INVALID_SCHEDULE, {"reward_minor": "0 or more"})
    if command.mined_asset not in scales:
        return Rejection(RejectionCode.UNKNOWN_ASSET, {"asset_id": command.mined_asset})
    return None


def decide_market(command: commands.OpenMarket, state: LedgerState, now_ns: int) -> Decision:
    """A market whose price x quantity is exact in quote minor units, or a refusal."""
    tick, lot, assets = command.tick_minor, command.lot_minor, state.asset_scales
    if command.base_asset == command.quote_asset:
        return Rejection(RejectionCode.INVALID_ASSET, {"quote_asset": command.quote_asset})
    if tick <= 0 or lot <= 0:
        return Rejection(RejectionCode.INVALID_STEP, {"tick_minor": tick, "lot_minor": lot})
    scale = assets.get(command.base_asset)
    if scale is not None and tick * lot % 10**scale:
        return Rejection(
            RejectionCode.INVALID_STEP, {"tick_minor": "tick x lot is not a whole quote unit"}
        )
    if not 0 <= command.burn_bps < BURN_BPS_MAX:
        return Rejection(RejectionCode.INVALID_BURN, {"burn_bps": command.burn_bps})
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
            burn_bps=command.burn_bps,
        ),
    )


def decide_account(command: commands.OpenAccount, state: LedgerState, now_ns: int) -> Decision:
    """One account per user id."""
    if command.user_id in state.open_accounts:
        return Rejection(RejectionCode.ACCOUNT_ALREADY_OPEN, {"user_id": command.user_id})
    return _open_account(command.user_id, state, now_ns)


def decide_deposit(command: commands.DepositFunds, state: LedgerState, now_ns: int) -> Decision:
    """Funds from outside; a reference is booked once."""
    if not 0 < command.amount_minor <= AMOUNT_MINOR_MAX:
        return Rejection(RejectionCode.INVALID_AMOUNT, {"amount_minor": command.amount_minor})
    if command.asset_id not in state.asset_scales:
        return Rejection(RejectionCode.UNKNOWN_ASSET, {"asset_id": command.asset_id})
    if command.reference in state.references:
        return Rejection(RejectionCode.DUPLICATE_REFERENCE, {"reference": command.reference})
    deposited = events.FundsDeposited(
        at_ns=now_ns,
        user_id=command.user_id,
        asset_id=command.asset_id,
        amount_minor=command.amount_minor,
        reference=command.reference,
    )
    return (*_open_account(command.user_id, state, now_ns), deposited)


def decide_grant(command: commands.GrantContribution, state: LedgerState, now_ns: int) -> Decision:
    """Weight for a user; what accrued on the old weight is settled first."""
    second = now_ns // SECOND_NS
    if not 0 < command.weight <= WEIGHT_MAX:
        return Rejection(RejectionCode.INVALID_WEIGHT, {"allowed": f"1 to {WEIGHT_MAX}"})
    if command.expires_second is not None and not second < command.expires_second <= SECOND_MAX:
        return Rejection(RejectionCode.INVALID_EXPIRY, {"now_second": second})
    contribution = state.contributions.users.get(command.user_id)
    if contribution is not None and command.grant_id in contribution.grants:
        return Rejection(RejectionCode.DUPLICATE_GRANT, {"grant_id": command.grant_id})
    pool = _pool(state)
    settled = contributions.settle(state.contributions, pool, command.user_id, now_ns)
    granted = events.ContributionGranted(
        at_ns=now_ns,
        user_id=command.user_id,
        grant_id=command.grant_id,
        source=command.source,
        weight=command.weight,
        expires_second=command.expires_second,
        weight_after=command.weight + (contribution.weight if contribution else 0),
        entry_index=pool.index,
        entry_fraction=contributions.fraction(contribution, pool.index) if contribution else 0,
    )
    opened = _open_account(command.user_id, state, now_ns)
    return (*opened, *((settled,) if settled else ()), granted)


def decide_settle(command: commands.SettleAccrual, state: LedgerState, now_ns: int) -> Decision:
    """Pay out what has accrued; refused when that is less than one minor unit."""
    if command.user_id not in state.open_accounts:
        return Rejection(RejectionCode.UNKNOWN_ACCOUNT, {"user_id": command.user_id})
    settled = contributions.settle(state.contributions, _pool(state), command.user_id, now_ns)
    if settled is None:
        return Rejection(RejectionCode.NOTHING_TO_SETTLE, {"user_id": command.user_id})
    return (settled,)


def _open_account(
    user_id: str, state: LedgerState, now_ns: int
) -> tuple[events.AccountOpened, ...]:
    if user_id in state.open_accounts:
        return ()
    return (events.AccountOpened(at_ns=now_ns, user_id=user_id),)


def _pool(state: LedgerState) -> Mining:
    assert state.mining is not None
    return state.mining
