"""What a user has, how it came about, and deposits from outside."""

import re
from typing import Annotated, Final, Literal

import msgspec

from gateway.access import Access, Scope
from gateway.commands import required_key, submit
from gateway.endpoint import Call, Endpoint, Limit, NoBody, Parameters, Reading
from gateway.errors import Refusal
from gateway.reading import caught_up
from gateway.requests import amount
from gateway.transactions import transactions
from schemas.amounts import format_amount
from schemas.commands import DepositFunds
from schemas.publications import AssetBalance
from schemas.rejections import RejectionCode
from schemas.views import ACCOUNTS, HISTORY
from schemas.wire import DepositBody, DepositResult, Page, WireCode
from schemas.wire_trading import Transaction
from schemas.wire_values import AssetId, UserRef

READS: Final = Access(Scope.READ, Scope.READ_OTHERS)
POSITION_MAX: Final = (1 << 53) - 1
# Who could book one of these would keep a withdrawal from being returned.
_OF_WITHDRAWALS: Final = re.compile("w_[0-9a-f]{32}")
TransactionType = Literal[
    "accrual_settled",
    "funds_deposited",
    "funds_withdrawn",
    "order_placed",
    "order_reduced",
    "order_cancelled",
    "trade_executed",
    "asset_burned",
]
Cursor = Annotated[int, msgspec.Meta(ge=1, le=POSITION_MAX, description="A page's next_cursor.")]


class BalanceParameters(Reading, frozen=True, kw_only=True):
    user_id: UserRef | None = None


class TransactionParameters(Reading, frozen=True, kw_only=True):
    """asset, type: only changes of this asset, by this kind of event."""

    user_id: UserRef | None = None
    asset: AssetId | None = None
    type: TransactionType | None = None
    limit: Limit = 100
    cursor: Cursor | None = None


async def get_balances(call: Call[BalanceParameters, NoBody]) -> Page[AssetBalance]:
    """Only assets that the user ever had a posting in, by id."""
    user_id = call.subject(call.parameters.user_id)
    await caught_up(call, ACCOUNTS, user_id)
    state = await call.resources.views.account(user_id)
    balances = state.account.balances
    scales = await call.resources.catalogue.scales(sorted(balances))
    items = tuple(
        AssetBalance(
            asset=asset_id,
            scale=scale,
            available=format_amount(balances[asset_id].available, scale),
            held=format_amount(balances[asset_id].held, scale),
            total=format_amount(balances[asset_id].available + balances[asset_id].held, scale),
        )
        for asset_id, scale in scales.items()
    )
    return Page(items=items)


async def get_transactions(call: Call[TransactionParameters, NoBody]) -> Page[Transaction]:
    """Every change of the user's balances, newest first.

    With asset or type a page looks through a part of them only: it may be short, even empty, and
    still have a next_cursor. The rows of one event are never torn apart: there may be one more than
    `limit`.
    """
    asked = call.parameters
    user_id = call.subject(asked.user_id)
    await caught_up(call, HISTORY)
    history = call.resources.history
    if history is None:
        raise Refusal(WireCode.HISTORY_UNAVAILABLE, "No deep history is configured here.")
    found = await history.transactions(
        user_id,
        before=POSITION_MAX if asked.cursor is None else asked.cursor,
        limit=asked.limit,
        asset_id=asked.asset,
        kind=asked.type,
    )
    items = await transactions(call.resources.catalogue, found.rows)
    return Page(items=items, next_cursor=None if found.before is None else str(found.before))


async def deposit(call: Call[Parameters, DepositBody]) -> DepositResult:
    """Book funds that came from outside; opens the user's account if there is none yet.

    Nobody books a deposit for oneself.
    """
    body = call.body
    if body.user_id == call.principal.user_id:
        raise Refusal(WireCode.SAME_PERSON, "Another person must book a deposit of one's own.")
    reference = required_key(call, body.reference, "reference")
    if _OF_WITHDRAWALS.match(reference):
        raise Refusal(
            RejectionCode.INVALID_ID,
            "The references of withdrawals are not for deposits.",
            {"field": "reference"},
        )
    scale = await call.resources.catalogue.scale(body.asset)
    command = DepositFunds(
        user_id=call.subject(body.user_id),
        asset_id=body.asset,
        amount_minor=amount(body.amount, scale, "amount"),
        reference=reference,
    )
    accepted = await submit(call, command, scales={"amount_minor": scale})
    return DepositResult(
        user_id=command.user_id,
        asset=command.asset_id,
        amount=format_amount(command.amount_minor, scale),
        reference=command.reference,
        position=accepted.last_position,
    )


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/v1/balances",
        handle=get_balances,
        summary="Balances of a user",
        access=READS,
        parameters=BalanceParameters,
        answer=Page[AssetBalance],
    ),
    Endpoint(
        method="GET",
        path="/v1/transactions",
        handle=get_transactions,
        summary="What changed a user's balances",
        access=READS,
        parameters=TransactionParameters,
        answer=Page[Transaction],
        refuses=(WireCode.HISTORY_UNAVAILABLE,),
    ),
    Endpoint(
        method="POST",
        path="/v1/deposits",
        handle=deposit,
        summary="Book a deposit",
        access=Access(Scope.OPERATE, Scope.OPERATE),
        body=DepositBody,
        answer=DepositResult,
        status=201,
        is_command=True,
        refuses=(
            RejectionCode.INVALID_ID,
            RejectionCode.INVALID_AMOUNT,
            RejectionCode.UNKNOWN_ASSET,
            RejectionCode.DUPLICATE_REFERENCE,
            WireCode.SAME_PERSON,
        ),
    ),
)
