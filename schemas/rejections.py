"""Reasons the ledger refuses a command, in order of precedence: if two apply, the earlier wins."""

import enum

import msgspec


class RejectionCode(enum.StrEnum):
    OVERLOADED = "overloaded"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    CLOCK_IS_WALL = "clock_is_wall"
    LEDGER_ALREADY_OPEN = "ledger_already_open"
    LEDGER_NOT_OPEN = "ledger_not_open"
    INVALID_ID = "invalid_id"
    INVALID_ASSET = "invalid_asset"
    INVALID_AMOUNT = "invalid_amount"
    INVALID_SCHEDULE = "invalid_schedule"
    INVALID_STEP = "invalid_step"
    INVALID_RULES = "invalid_rules"
    INVALID_WEIGHT = "invalid_weight"
    INVALID_EXPIRY = "invalid_expiry"
    INVALID_ORDER = "invalid_order"
    UNKNOWN_ASSET = "unknown_asset"
    MARKET_ALREADY_OPEN = "market_already_open"
    UNKNOWN_MARKET = "unknown_market"
    ACCOUNT_ALREADY_OPEN = "account_already_open"
    DUPLICATE_REFERENCE = "duplicate_reference"
    UNKNOWN_ACCOUNT = "unknown_account"
    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_NOT_FROZEN = "account_not_frozen"
    UNKNOWN_ORDER = "unknown_order"
    UNKNOWN_GRANT = "unknown_grant"
    DUPLICATE_GRANT = "duplicate_grant"
    DUPLICATE_CLIENT_ORDER_ID = "duplicate_client_order_id"
    MARKET_HALTED = "market_halted"
    MARKET_NOT_HALTED = "market_not_halted"
    PRICE_OFF_TICK = "price_off_tick"
    QUANTITY_OFF_LOT = "quantity_off_lot"
    PRICE_OUTSIDE_BAND = "price_outside_band"
    BELOW_MIN_NOTIONAL = "below_min_notional"
    TOO_MANY_OPEN_ORDERS = "too_many_open_orders"
    POST_ONLY_WOULD_TRADE = "post_only_would_trade"
    WOULD_NOT_FILL = "would_not_fill"
    NO_LIQUIDITY = "no_liquidity"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    NOTHING_TO_SETTLE = "nothing_to_settle"
    NO_OPEN_ORDERS = "no_open_orders"


class Rejection(msgspec.Struct, frozen=True):
    """details: what a client needs to act on the code, by field name; integers are minor units."""

    code: RejectionCode
    details: dict[str, str | int] = {}
