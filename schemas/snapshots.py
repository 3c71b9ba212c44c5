"""The ledger's whole state as data, in one canonical order: equal states give equal bytes."""

import msgspec

from schemas.events import AssetSpec, MarketOpened, MarketRules, SelfTradePrevention, Side


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """Encoded as an array, in field order."""


class MiningRow(_Row, frozen=True):
    """schedule: (from_second, reward_minor), soonest first."""

    asset_id: str
    pool_minor: int
    genesis_second: int
    last_second: int
    index: int
    carry: int
    weight_total: int
    allocated_minor: int
    schedule: tuple[tuple[int, int], ...]


class BalanceRow(_Row, frozen=True):
    user_id: str
    asset_id: str
    available_minor: int
    held_minor: int


class SystemRow(_Row, frozen=True):
    account: str
    asset_id: str
    amount_minor: int


class GrantRow(_Row, frozen=True):
    grant_id: str
    source: str
    weight: int
    expires_second: int | None


class ContributionRow(_Row, frozen=True):
    user_id: str
    weight: int
    entry_index: int
    entry_fraction: int
    settled_minor: int
    grants: tuple[GrantRow, ...]
    ended: tuple[str, ...]


class MarketRow(_Row, frozen=True):
    spec: MarketOpened
    rules: MarketRules
    is_halted: bool
    last_price_minor: int | None


class OrderRow(_Row, frozen=True):
    """By rising id, which is also the order within each price level."""

    order_id: int
    user_id: str
    market_id: str
    side: Side
    price_minor: int | None
    leaves_minor: int
    held_asset: str
    held_minor: int
    post_only: bool
    self_trade_prevention: SelfTradePrevention


class ClientOrderRow(_Row, frozen=True):
    second: int
    user_id: str
    client_order_id: str
    order_id: int


class LedgerSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """v: of this shape; a reader of another v must fold the log instead."""

    v: int = 1
    at_ns: int
    mining: MiningRow | None
    assets: tuple[AssetSpec, ...]
    system: tuple[SystemRow, ...]
    balances: tuple[BalanceRow, ...]
    open_accounts: tuple[str, ...]
    frozen_accounts: tuple[str, ...]
    references: tuple[str, ...]
    contributions: tuple[ContributionRow, ...]
    expiries: tuple[tuple[int, str, str], ...]
    markets: tuple[MarketRow, ...]
    orders: tuple[OrderRow, ...]
    client_orders: tuple[ClientOrderRow, ...]
    burned: tuple[tuple[str, int], ...]
    reserve_burn_minor: int
    order_id_last: int
    trade_id_last: int


class EngineSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger's state with its place in the log. versions: number of events of each stream."""

    position: int
    versions: dict[str, int]
    state: LedgerSnapshot


encode_engine_snapshot = msgspec.json.Encoder().encode
decode_engine_snapshot = msgspec.json.Decoder(EngineSnapshot).decode
encode_snapshot = msgspec.json.Encoder().encode
decode_snapshot = msgspec.json.Decoder(LedgerSnapshot).decode
