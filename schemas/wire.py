"""Wire shapes of requests, answers and stream messages; schemas.publications has what views show.

HTTP requests refuse unknown fields, so typing mistakes surface; stream messages ignore them, so
that a newer client can talk to an older gateway. Amounts are decimal strings in whole units, times
Unix milliseconds, `*_second` a Unix second; integers that can pass 2**53 are decimal strings.
"""

import enum
from typing import Generic, TypeVar

import msgspec

from schemas.events import OrderType, SelfTradePrevention, Side, TimeInForce
from schemas.publications import BurnRecord, Trade
from schemas.wire_values import Amount, AssetId, MarketId, OwnId, UserRef

T = TypeVar("T")

SUBPROTOCOL_JSON = "durian.v1.json"
SUBPROTOCOL_MSGPACK = "durian.v1.msgpack"
STREAM_VERSION = 1


class WireCode(enum.StrEnum):
    """The gateway's own codes; those of refused commands are schemas.rejections.RejectionCode."""

    INVALID_REQUEST = "invalid_request"
    INVALID_IDEMPOTENCY_KEY = "invalid_idempotency_key"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    VIEWS_UNAVAILABLE = "views_unavailable"
    INTERNAL_ERROR = "internal_error"
    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_OP = "unknown_op"
    UNKNOWN_CHANNEL = "unknown_channel"
    NOT_SUBSCRIBED = "not_subscribed"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    GOING_AWAY = "going_away"
    TOO_MANY_REQUESTS = "too_many_requests"
    UPGRADE_REQUIRED = "upgrade_required"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    VIEWS_BEHIND = "views_behind"
    HISTORY_UNAVAILABLE = "history_unavailable"
    ACCOUNTS_UNAVAILABLE = "accounts_unavailable"
    DESK_UNAVAILABLE = "desk_unavailable"
    INVALID_CREDENTIALS = "invalid_credentials"
    SIGN_IN_DELAYED = "sign_in_delayed"
    SECOND_FACTOR_REQUIRED = "second_factor_required"
    SECOND_FACTOR_INVALID = "second_factor_invalid"
    REFRESH_TOKEN_INVALID = "refresh_token_invalid"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"
    CODE_INVALID = "code_invalid"
    NAME_TAKEN = "name_taken"
    PASSWORD_TOO_WEAK = "password_too_weak"
    UNKNOWN_USER = "unknown_user"
    UNKNOWN_SESSION = "unknown_session"
    UNKNOWN_WITHDRAWAL = "unknown_withdrawal"
    UNKNOWN_APPROVAL = "unknown_approval"
    ALREADY_DECIDED = "already_decided"
    SAME_PERSON = "same_person"
    CHANGE_IN_PROGRESS = "change_in_progress"
    UNKNOWN_JOB = "unknown_job"
    JOB_RUNNING = "job_running"


class RequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every request body is. user_id: left out by users, who act as themselves."""


class PlaceOrderBody(RequestBody, frozen=True, kw_only=True):
    """price: quote units per whole base unit; absent for market orders.

    Exactly one of quantity (base units) and quote_budget (quote units, market orders only): a
    budget is the most that a buy spends, the most that a sell receives. post_only: refused if it
    would trade at once. self_trade_prevention: which order goes when two of one user's would meet.
    client_order_id: the Idempotency-Key if absent.
    """

    market: MarketId
    side: Side
    type: OrderType
    time_in_force: TimeInForce = "gtc"
    price: Amount | None = None
    quantity: Amount | None = None
    quote_budget: Amount | None = None
    post_only: bool = False
    self_trade_prevention: SelfTradePrevention = "cancel_newest"
    client_order_id: OwnId | None = None
    user_id: UserRef | None = None


class DepositBody(RequestBody, frozen=True, kw_only=True):
    """reference: the outside party's id of the payment, booked at most once; the Idempotency-Key if
    absent.
    """

    user_id: UserRef
    asset: AssetId
    amount: Amount
    reference: OwnId | None = None


class SettleBody(RequestBody, frozen=True, kw_only=True):
    user_id: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """application/problem+json. Clients switch on code; detail is for people. Source: RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    details: dict[str, str | int] = {}


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """next_cursor: pass it as `cursor` for what comes after the last item; None at the end."""

    items: tuple[T, ...]
    next_cursor: str | None = None


class BurnPage(msgspec.Struct, frozen=True, kw_only=True):
    """cumulative: burned in this market so far, whatever the page shows."""

    items: tuple[BurnRecord, ...]
    next_cursor: str | None = None
    cumulative: str


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """One market and its rules. Basis points are of 10,000.

    tick_size: price step in quote units. lot_size: quantity step in base units. burn_bps: of each
    trade's quantity. maker_fee_bps, taker_fee_bps: of what the side receives, rounded up. band_bps:
    limit prices lie this near to the last trade's; null: any. min_notional: smallest order, in
    quote units. open_orders_max: resting orders of one user. is_halted: no new orders, for
    halt_reason.
    """

    market: str
    base_asset: str
    quote_asset: str
    base_scale: int
    quote_scale: int
    tick_size: str
    lot_size: str
    burn_bps: int
    maker_fee_bps: int = 0
    taker_fee_bps: int = 0
    band_bps: int | None = None
    min_notional: str = "0"
    open_orders_max: int = 0
    is_halted: bool = False
    halt_reason: str | None = None


class OrderStatus(enum.StrEnum):
    OPEN = "open"
    FILLED = "filled"
    PARTIALLY_FILLED = "partially_filled"
    CANCELLED = "cancelled"


class OrderResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an order at once. cancelled: the rest did not trade and never will.

    average_price: of the trades, quote units per whole base unit, rounded down to the quote asset's
    scale; None without a trade.
    """

    order_id: int
    client_order_id: str
    user_id: str
    market: str
    side: Side
    status: OrderStatus
    quantity: str
    filled_quantity: str
    leaves_quantity: str
    average_price: str | None
    trades: tuple[Trade, ...]
    position: int


class CancelResult(msgspec.Struct, frozen=True, kw_only=True):
    """released of released_asset went back to available."""

    order_id: int
    status: OrderStatus
    leaves_quantity: str
    released_asset: str
    released: str
    position: int


class DepositResult(msgspec.Struct, frozen=True, kw_only=True):
    user_id: str
    asset: str
    amount: str
    reference: str
    position: int


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    grant_id: str
    source: str
    weight: str
    expires_second: int | None


class GrantResult(msgspec.Struct, frozen=True, kw_only=True):
    """weight_after: the user's total from now on."""

    user_id: str
    grant: Grant
    weight_after: str
    position: int


class Miner(msgspec.Struct, frozen=True, kw_only=True):
    user_id: str
    weight: str


class ContributionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """miners: how many users have a weight. top: heaviest first."""

    weight_total: str
    miners: int
    top: tuple[Miner, ...]


class MiningShare(msgspec.Struct, frozen=True, kw_only=True):
    """A user's place in the pool as of `second`; accrued is not yet in the balance, settled is."""

    user_id: str
    asset: str
    scale: int
    weight: str
    weight_total: str
    entry_index: str
    entry_fraction: str
    index: str
    second: int
    accrued: str
    settled: str
    position: int


class MiningMinute(msgspec.Struct, frozen=True, kw_only=True):
    """A user's mining in one minute that is over.

    weight: that its last second was allocated with. accrued: allocated to the user in the minute.
    settled: paid out to the balance in the minute. cumulative: accrued since genesis.
    """

    open_time: int
    close_time: int
    weight: str
    accrued: str
    settled: str
    cumulative: str


class SettleResult(msgspec.Struct, frozen=True, kw_only=True):
    """amount moved from accrued to the available balance."""

    user_id: str
    asset: str
    amount: str
    position: int


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """parts: "ok" or what is wrong, by dependency."""

    ready: bool
    parts: dict[str, str]


class TradesShown(msgspec.Struct, frozen=True, kw_only=True):
    """Snapshot of channel trades.M: the newest, oldest of them first."""

    items: tuple[Trade, ...]


class BurnsShown(msgspec.Struct, frozen=True, kw_only=True):
    """Snapshot of channel burns.M: the newest minutes, oldest first, and the market's total."""

    items: tuple[BurnRecord, ...]
    cumulative: str


# --- /v1/stream, client to gateway; `id` is echoed in the answer


class Since(msgspec.Struct, frozen=True, kw_only=True):
    """The last publication or snapshot that the client has."""

    epoch: str
    offset: int


class ChannelRequest(msgspec.Struct, frozen=True, kw_only=True):
    ch: str
    since: Since | None = None


class ClientMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="op"):
    """What every message to the gateway is."""

    id: int | None = None


class Authenticate(ClientMessage, frozen=True, kw_only=True, tag="auth"):
    token: str


class Subscribe(ClientMessage, frozen=True, kw_only=True, tag="subscribe"):
    channels: tuple[ChannelRequest, ...]


class Unsubscribe(ClientMessage, frozen=True, kw_only=True, tag="unsubscribe"):
    channels: tuple[str, ...]


class Ping(ClientMessage, frozen=True, kw_only=True, tag="ping"):
    pass


StreamRequest = Authenticate | Subscribe | Unsubscribe | Ping


# --- /v1/stream, gateway to client


class ServerMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", omit_defaults=True):
    """What every message to the client is; absent fields are at their default."""


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection may do. messages_per_second: pings and pongs of the client count as well.

    channels_per_10_seconds: how many may be asked for, those that are asked for again included.
    unread_bytes: how much may wait for a client before it counts as too slow.
    ping_seconds: the gateway pings a client that was silent for so long; pong_seconds: how long it
    waits for a sign of life then.
    """

    message_bytes: int
    messages_per_second: int
    subscriptions: int
    channels_per_10_seconds: int
    unread_bytes: int
    ping_seconds: int
    pong_seconds: int


class Hello(ServerMessage, frozen=True, kw_only=True, tag="hello"):
    """The first message on every connection.

    expires_at: of the token in the handshake's Authorization header, if there was one, Unix second.
    """

    version: int
    limits: StreamLimits
    expires_at: int | None = None


class Stale(ServerMessage, frozen=True, kw_only=True, tag="stale"):
    """The views cannot be read at the moment: what was shown last may be old. See Fresh."""


class Fresh(ServerMessage, frozen=True, kw_only=True, tag="fresh"):
    """The views are read again; what was missed follows as publications or snapshots."""


class Draining(ServerMessage, frozen=True, kw_only=True, tag="draining"):
    """This gateway is going away and closes the connection within so many milliseconds (4000).

    reconnect_within_ms: connect anew after a random time of at most so long.
    """

    closes_within_ms: int
    reconnect_within_ms: int


class Ack(ServerMessage, frozen=True, kw_only=True, tag="ack"):
    """expires_at: of the token just accepted, Unix second."""

    id: int | None = None
    expires_at: int | None = None


class Pong(ServerMessage, frozen=True, kw_only=True, tag="pong"):
    id: int | None = None


class StreamError(ServerMessage, frozen=True, kw_only=True, tag="error"):
    """The message with this id changed nothing; the connection stays. ch: the channel at fault."""

    id: int | None = None
    code: str
    message: str
    ch: str | None = None


class Snapshot(ServerMessage, frozen=True, kw_only=True, tag="snapshot"):
    """The channel's whole state after publication `offset`; data is null while there is none."""

    ch: str
    epoch: str
    offset: int
    data: msgspec.Raw


class Recovered(ServerMessage, frozen=True, kw_only=True, tag="recovered"):
    """All publications since the client's offset have been sent, the last being `offset`."""

    ch: str
    epoch: str
    offset: int


class Pub(ServerMessage, frozen=True, kw_only=True, tag="pub"):
    ch: str
    offset: int
    data: msgspec.Raw


ServerMessages = (
    Hello | Ack | Pong | StreamError | Snapshot | Recovered | Pub | Stale | Fresh | Draining
)
