"""Wire shapes of the administration, beside those of schemas.wire.

Amounts are decimal strings in whole units, times Unix milliseconds, `*_second` a Unix second.
"""

from typing import Annotated, Final, Literal

import msgspec

from schemas.wire import RequestBody
from schemas.wire_values import Amount, AssetId, MarketId

REASON_CHARS_MAX: Final = 200

Code = Annotated[
    str,
    msgspec.Meta(
        pattern="^[!-~]{1,64}$",
        description="A reason as a word, 1 to 64 visible ASCII characters: it is kept in the log.",
        examples=["court-order-17"],
    ),
]
Reason = Annotated[
    str,
    msgspec.Meta(
        pattern="^[^\\u0000-\\u001f\\u007f]+$",
        max_length=REASON_CHARS_MAX,
        description="Why, for those who decide and for the record. No personal data, no secrets.",
        examples=["halving of May, decision 12"],
    ),
]
RoleName = Literal["user", "auditor", "operator", "admin"]
AccountState = Literal["active", "disabled", "erased"]
Bps = Annotated[int, msgspec.Meta(ge=0, le=9_999, description="Basis points, of 10,000.")]
BandBps = Annotated[int, msgspec.Meta(ge=1, le=100_000, description="Basis points, of 10,000.")]
OrdersMax = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
FutureSecond = Annotated[
    int, msgspec.Meta(ge=1, le=1 << 40, description="A Unix second that is still to come.")
]
ProposalKind = Literal["emission", "reserve_burn", "market", "burn", "admin"]
ApprovalState = Literal[
    "pending", "expired", "approved", "executed", "refused", "rejected", "withdrawn"
]
RecordPhase = Literal["done", "intent", "outcome"]
JobKind = Literal["rebuild", "compare_views", "verify_log", "verify_topic"]
JobName = Literal["all", "market", "mining", "accounts", "history"]
JobState = Literal["queued", "running", "done", "found_wrong", "failed", "cancelled", "lost"]


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A change that was made.

    target: what was changed, such as user:alice or market:DUR-CNY.
    record_id: of the record that says it was begun; its outcome follows in the record.
    position: of the ledger's last event of it, for min_position; null if the ledger has no part in
    it.
    """

    target: str
    record_id: int
    position: int | None = None


class UserSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One who signs in.

    user_name, phone, email: null for callers without scope administer, and of an erased user.
    second_factor: whether signing in needs a second factor.
    """

    user_id: str
    role: RoleName
    state: AccountState
    user_name: str | None
    phone: str | None
    email: str | None
    created_time: int
    second_factor: bool


class UserDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One user with what the ledger says.

    sessions: how many devices are signed in.
    frozen: why the ledger has the account frozen, null if it has not.
    balances_path, contribution_path, transactions_path: where the trading and contribution services
    show them.
    """

    user: UserSummary
    sessions: int
    frozen: str | None
    balances_path: str
    contribution_path: str
    transactions_path: str


class RoleBody(RequestBody, frozen=True, kw_only=True):
    """reason: is needed, because the role admin is given by two persons."""

    role: RoleName
    reason: Reason


class FreezeBody(RequestBody, frozen=True, kw_only=True):
    """Why an account is frozen or a market halted."""

    reason: Code


class EmissionBody(RequestBody, frozen=True, kw_only=True):
    """reward: of each second from from_second on, until a later entry of the schedule."""

    from_second: FutureSecond
    reward: Amount
    reason: Reason


class EmissionStep(msgspec.Struct, frozen=True, kw_only=True):
    """reward: of each second from from_second on."""

    from_second: int
    reward: str


class Emission(msgspec.Struct, frozen=True, kw_only=True):
    """The schedule of the mining pool.

    reward: of the newest second. allocated: of the pool, so far. second: the newest.
    """

    asset: str
    pool: str
    allocated: str
    second: int
    reward: str
    schedule: tuple[EmissionStep, ...]


class OpenMarketBody(RequestBody, frozen=True, kw_only=True):
    """A market to be opened. Tick and lot never change.

    tick_size: price step in quote units. lot_size: quantity step in base units.
    burn_bps: of each trade's quantity.
    """

    market: MarketId
    base_asset: AssetId
    quote_asset: AssetId
    tick_size: Amount
    lot_size: Amount
    burn_bps: Bps = 0
    maker_fee_bps: Bps = 0
    taker_fee_bps: Bps = 0
    band_bps: BandBps | None = None
    min_notional: Amount = "0"
    open_orders_max: OrdersMax = 200
    reason: Reason


class MarketRulesBody(RequestBody, frozen=True, kw_only=True):
    """The rules of a market that do not touch supply; all are given.

    band_bps: limit prices lie this near to the last trade's price; null for any price.
    min_notional: the smallest order, in quote units. open_orders_max: resting orders per user.
    """

    maker_fee_bps: Bps
    taker_fee_bps: Bps
    band_bps: BandBps | None
    min_notional: Amount
    open_orders_max: OrdersMax


class BurnBody(RequestBody, frozen=True, kw_only=True):
    """burn_bps: of each trade's quantity, from then on."""

    burn_bps: Bps
    reason: Reason


class MarketState(msgspec.Struct, frozen=True, kw_only=True):
    """A market with its rules. halt_reason: null while it trades."""

    market: str
    base_asset: str
    quote_asset: str
    tick_size: str
    lot_size: str
    burn_bps: int
    maker_fee_bps: int
    taker_fee_bps: int
    band_bps: int | None
    min_notional: str
    open_orders_max: int
    is_halted: bool
    halt_reason: str | None


class Markets(msgspec.Struct, frozen=True, kw_only=True):
    """All markets, by id."""

    items: tuple[MarketState, ...]


class ReserveBurnBody(RequestBody, frozen=True, kw_only=True):
    """amount: of the treasury, each minute; 0 stops it."""

    amount: Amount
    reason: Reason


class ReserveBurn(msgspec.Struct, frozen=True, kw_only=True):
    """The burn of the treasury.

    amount: of each minute, as it was last decided here; null if it never was.
    approval_id: of that decision.
    burned_by_reserve, burned_by_trades: of the asset, so far.
    """

    asset: str
    amount: str | None
    approval_id: int | None
    burned_by_reserve: str
    burned_by_trades: str


class DecisionBody(RequestBody, frozen=True, kw_only=True):
    """Why it is turned down or taken back."""

    reason: Reason


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A change that needs a second person.

    target: what would be changed. proposal: the change itself, amounts in whole units.
    state: approved means that the change is on its way, executed and refused that it was made or
    not, by the ledger's answer.
    expires_time: nobody can approve it from then on.
    decided_by: who approved or turned it down. position: of the ledger's event, once executed.
    code: why the ledger refused it.
    """

    id: int
    kind: ProposalKind
    target: str
    proposal: dict[str, str | int | None]
    reason: str
    proposed_by: str
    proposed_time: int
    expires_time: int
    state: ApprovalState
    decided_by: str | None = None
    decided_time: int | None = None
    position: int | None = None
    code: str | None = None


class AdminRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the record of who did what.

    request_id: of the request, as in X-Request-Id. role: of who did it, at that time.
    phase: done: in one step with its effect; intent: begun; outcome: what became of an intent.
    outcome: accepted or refused, null of an intent. intent_id: which intent it is the outcome of.
    details: what was asked for, or the answer.
    hash: hex SHA-256 of this line and the hash before it.
    """

    id: int
    time: int
    request_id: str
    who: str
    role: str
    action: str
    target: str
    phase: RecordPhase
    outcome: Literal["accepted", "refused"] | None
    intent_id: int | None
    approval_id: int | None
    details: dict[str, str | int | bool | None]
    hash: str


class RecordCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a check of the chain.

    holds: every line's hash is the one that it and the line before it make, and none is missing.
    first_wrong: id of the first line that is not as it was written; null if all are.
    next_id: where to go on if the check stopped at its limit; null at the end.
    head: hash of the last line looked at; who keeps it can tell later that nothing was changed.
    """

    holds: bool
    checked: int
    first_wrong: int | None
    last_id: int
    next_id: int | None
    head: str


class JobBody(RequestBody, frozen=True, kw_only=True):
    """kind: rebuild makes views anew from the log, compare_views compares them with a fold of it,
    verify_log checks the stored snapshots against the whole log, verify_topic compares Kafka with
    the log.
    name: which views; "all" for the jobs that are not about views.
    """

    kind: JobKind
    name: JobName = "all"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Work in the background.

    progress_ppm: millionths that are done. eta_seconds: what is left, null if nobody knows.
    exit_code: of the command that was run; 1 means that it found something wrong.
    """

    id: int
    kind: JobKind
    name: JobName
    state: JobState
    requested_by: str
    requested_time: int
    started_time: int | None
    finished_time: int | None
    progress_ppm: int
    eta_seconds: int | None
    is_cancelling: bool
    exit_code: int | None


class JobDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A job with what it said.

    result: what the command printed, JSON as a text, cut at 64 KiB. log: its last lines.
    """

    job: Job
    result: str
    log: tuple[str, ...]


class PartHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the stack as its supervisor sees it.

    since_time: of the last change of state. addresses: without passwords.
    """

    name: str
    state: str
    is_ready: bool
    since_time: int
    restarts: int
    text: str
    addresses: tuple[str, ...]


class Dependency(msgspec.Struct, frozen=True, kw_only=True):
    """A server that was asked just now. text: what is wrong, "" if nothing is."""

    name: str
    answers: bool
    milliseconds: int
    text: str


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """How far one reader of the log is behind.

    position: that it reached; null if it does not say. positions, milliseconds: behind the log.
    """

    name: str
    position: int | None
    positions: int | None
    milliseconds: int | None


class Lags(msgspec.Struct, frozen=True, kw_only=True):
    """head: the log's last position; null if the engine does not say."""

    head: int | None
    epoch: int | None
    items: tuple[Lag, ...]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Every part.

    is_well: all parts are ready and all servers answer. parts: empty where no supervisor of ours
    runs the parts.
    """

    is_well: bool
    parts: tuple[PartHealth, ...]
    dependencies: tuple[Dependency, ...]
    lags: Lags
