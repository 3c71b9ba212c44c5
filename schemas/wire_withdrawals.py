"""Wire shapes of withdrawals. A destination is personal data: it is kept with the withdrawal, never
in the ledger.
"""

import enum
from typing import Annotated, Final

import msgspec

from schemas.wire import RequestBody
from schemas.wire_values import Amount, AssetId, UserRef

# No control characters, which neither a person nor PostgreSQL could read.
_TEXT: Final = r"^[^\x00-\x1f\x7f]+$"
Destination = Annotated[
    str,
    msgspec.Meta(
        pattern=_TEXT,
        max_length=512,
        description="Where the amount shall go, as whoever pays it out needs it.",
        examples=["DE89 3704 0044 0532 0130 00"],
    ),
]
PayoutReference = Annotated[
    str,
    msgspec.Meta(
        pattern=_TEXT,
        max_length=128,
        description="The payment's id outside.",
        examples=["SEPA-2026-11-0042"],
    ),
]
Reason = Annotated[
    str, msgspec.Meta(pattern=_TEXT, max_length=512, description="Shown to the user.")
]
WithdrawalId = Annotated[
    str,
    msgspec.Meta(
        pattern="^w_[0-9a-f]{32}$",
        description="A withdrawal's id.",
        examples=["w_0123456789abcdef0123456789abcdef"],
    ),
]


class WithdrawalState(enum.StrEnum):
    """requested: the ledger's answer is not known yet. pending: taken from the balance, waits for
    an operator. approved: paid out. rejected, cancelled: by an operator, by the user; on its way
    back. returned: back in the balance. refused: by the ledger, nothing was taken.
    """

    REQUESTED = "requested"
    REFUSED = "refused"
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    RETURNED = "returned"


class WithdrawalBody(RequestBody, frozen=True, kw_only=True):
    """The amount leaves the available balance at once, and the ledger when an operator approves."""

    asset: AssetId
    amount: Amount
    destination: Destination
    user_id: UserRef | None = None


class ApproveWithdrawalBody(RequestBody, frozen=True, kw_only=True):
    payout_reference: PayoutReference


class RejectWithdrawalBody(RequestBody, frozen=True, kw_only=True):
    reason: Reason


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """One withdrawal as it stands.

    requested_by: the user, or who asked on the user's behalf. code: why the ledger refused it.
    decided_by: who approved, rejected or cancelled it, null until then. position: of the event that
    took the amount. returned_position: of the event that gave it back.
    """

    withdrawal_id: str
    user_id: str
    requested_by: str
    asset: str
    amount: str
    destination: str
    state: WithdrawalState
    code: str | None
    requested_time: int
    decided_by: str | None
    decided_time: int | None
    payout_reference: str | None
    reason: str | None
    position: int | None
    returned_position: int | None
