"""Wire shapes of the contribution and mining services, beside those of schemas.wire.

Amounts are decimal strings in whole units, weights decimal strings of whole numbers, times Unix
milliseconds, `*_second` a Unix second.
"""

from typing import Annotated, Final, Literal

import msgspec

from schemas.wire import Grant, RequestBody
from schemas.wire_values import OwnId

SECOND_MAX: Final = 1 << 40

LedgerUserId = Annotated[
    str, msgspec.Meta(pattern="^[!-~]{1,64}$", description="An opaque user id.", examples=["alice"])
]
Source = Annotated[
    str,
    msgspec.Meta(
        pattern="^[!-~]{1,64}$",
        description="What the weight is for: 1 to 64 visible ASCII characters.",
        examples=["device"],
    ),
]
GivenWeight = (
    Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    | Annotated[
        str,
        msgspec.Meta(
            pattern="^[1-9][0-9]{0,18}$", description="At most 2^63; a string if it passes 2^53."
        ),
    ]
)
ExpirySecond = Annotated[
    int, msgspec.Meta(ge=0, le=SECOND_MAX, description="Unix second, the first without the weight.")
]
Whole = Annotated[str, msgspec.Meta(pattern="^[0-9]+$", description="A whole number.")]
Decimal = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+)?$")]
Percent = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9]+\.[0-9]{6}$", description="Of a hundred, rounded down to six decimals."
    ),
]

GrantChange = Literal["granted", "adjusted", "revoked", "expired"]
LineOutcome = Literal["applied", "already", "would_apply", "refused", "not_applied"]
EmissionState = Literal["past", "current", "scheduled"]
Board = Literal["mined", "holding", "weight"]


class GrantBody(RequestBody, frozen=True, kw_only=True):
    """Weight for a user.

    grant_id: unique among the user's grants, for ever; the Idempotency-Key if absent.
    expires_second: the first second without the weight; absent: until it is revoked.
    """

    user_id: LedgerUserId
    source: Source
    weight: GivenWeight
    grant_id: OwnId | None = None
    expires_second: ExpirySecond | None = None


class GrantTermsBody(RequestBody, frozen=True, kw_only=True):
    """What a grant is from now on; both are given, so that no expiry is dropped by mistake.

    expires_second: the first second without the weight; null: until it is revoked.
    """

    weight: GivenWeight
    expires_second: ExpirySecond | None


class GrantChanged(msgspec.Struct, frozen=True, kw_only=True):
    """weight: of the grant from now on, "0" if it was revoked. weight_after: the user's total."""

    user_id: str
    grant_id: str
    weight_before: Whole
    weight: Whole
    expires_second: int | None
    weight_after: Whole
    position: int


class PoolShare(msgspec.Struct, frozen=True, kw_only=True):
    """weight of weight_total, exactly; percent is that fraction for people."""

    weight: Whole
    weight_total: Whole
    percent: Percent


class ContributionShown(msgspec.Struct, frozen=True, kw_only=True):
    """One user's weight, its share of the pool and the grants that make it up.

    share: null while nobody has a weight. position: of the user's last event in these views.
    """

    user_id: str
    weight: Whole
    share: PoolShare | None
    grants: tuple[Grant, ...]
    position: int


class Contributor(msgspec.Struct, frozen=True, kw_only=True):
    """One user in the order of weights. rank: 1 is the heaviest. grants: how many are in force."""

    rank: int
    user_id: str
    weight: Whole
    share: PoolShare | None
    grants: int


class GrantHistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one grant.

    source: of what was granted, null for later changes. weight: of the grant from then on,
    weight_before: until then, "0" before it was granted. weight_after: the user's total.
    """

    position: int
    time: int
    change: GrantChange
    grant_id: str
    source: str | None
    weight_before: Whole
    weight: Whole
    expires_second: int | None
    weight_after: Whole


class SourceWeight(msgspec.Struct, frozen=True, kw_only=True):
    """What the grants in force of one source add up to. users: how many have one of them."""

    source: str
    weight: Whole
    grants: int
    users: int


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Heaviest source first. counted_at: when all users were counted, Unix ms; while they are, the
    ledger goes on, so the sum may differ a little from the pool's weight_total.
    """

    items: tuple[SourceWeight, ...]
    weight: Whole
    counted_at: int


class EndingGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A grant in force that ends. expires_second: the first second without it."""

    user_id: str
    grant_id: str
    source: str
    weight: Whole
    expires_second: int


class ImportLine(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one line of an import.

    line: in the file, from 1 (the header). outcome: applied (now, or by this line when the file was
    imported before), already (the user has this grant on these terms), would_apply (dry run),
    refused (see code, detail, allowed), not_applied (the line is good, others are not).
    position: of the grant's event, when applied.
    """

    line: int
    outcome: LineOutcome
    user_id: str | None = None
    grant_id: str | None = None
    position: int | None = None
    code: str | None = None
    detail: str | None = None
    allowed: str | None = None


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """One entry for each line that is not blank, in the file's order, and how many of each outcome.

    position: of the last event applied, 0 if there is none.
    """

    dry_run: bool
    applied: int
    already: int
    would_apply: int
    refused: int
    not_applied: int
    position: int
    lines: tuple[ImportLine, ...]


class EmissionStep(msgspec.Struct, frozen=True, kw_only=True):
    """From from_second on each second pays reward_per_second, until the next step."""

    from_second: int
    reward_per_second: Decimal
    state: EmissionState


class Emission(msgspec.Struct, frozen=True, kw_only=True):
    """The schedule as of `second`, oldest step first.

    reward_per_second: of the current step; nothing is paid while nobody has a weight.
    ends_second: the first second that finds the pool empty if nothing changes; null if none does.
    """

    asset: str
    scale: int
    second: int
    pool: Decimal
    allocated: Decimal
    remaining: Decimal
    reward_per_second: Decimal
    next_second: int | None
    ends_second: int | None
    items: tuple[EmissionStep, ...]
    position: int


class SecondAllocation(msgspec.Struct, frozen=True, kw_only=True):
    """What one second allocated to a user, exactly.

    amount: of reward, which all users share; the seconds of a minute add up to its mining record.
    cumulative: allocated to the user since genesis. index: after this second, scaled by 2^64.
    """

    second: int
    reward: Decimal
    weight: Whole
    weight_total: Whole
    amount: Decimal
    cumulative: Decimal
    index: Whole
    position: int


class Income(msgspec.Struct, frozen=True, kw_only=True):
    """What the seconds after `second` would pay: the next one, 3,600, 86,400 and 2,592,000."""

    second: Decimal
    hour: Decimal
    day: Decimal
    thirty_days: Decimal


class MiningProjection(msgspec.Struct, frozen=True, kw_only=True):
    """A user's income after `second` if nothing changes: no weight of anybody's. The emission's
    scheduled steps and the end of the pool are reckoned with.

    reward_per_second: of the next second. pool_ends_second: the first that finds the pool empty.
    weight_ends_second: when the first of the user's own grants expires, which is not reckoned with.
    """

    user_id: str
    asset: str
    scale: int
    second: int
    share: PoolShare | None
    reward_per_second: Decimal
    income: Income
    pool_ends_second: int | None
    weight_ends_second: int | None
    position: int


class Leader(msgspec.Struct, frozen=True, kw_only=True):
    """user_id: null for others, unless the caller may look at others. amount: exact; of board
    weight a whole number.
    """

    rank: int
    user_id: str | None
    is_you: bool
    amount: Decimal


class Leaderboard(msgspec.Struct, frozen=True, kw_only=True):
    """Largest first. asset: of the amounts, null for weights. you: the caller's own place, null
    without one. mined: what mining paid out so far; holding: available and held.
    """

    by: Board
    asset: str | None
    items: tuple[Leader, ...]
    next_cursor: str | None
    you: Leader | None
