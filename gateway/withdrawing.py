"""A withdrawal's way: row, ledger, row. Whatever dies in between, the row says where to go on.

The amount leaves the ledger under the withdrawal's id as reference, and comes back, if it does,
under "<id>:returned". A reference is booked at most once ever, and the ledger says so before it
looks at anything that may change, so that anybody may send both again at any time.
Source: docs/adr/0016-withdrawals.md.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.database import Database
from gateway.desk.withdrawals import KeptRefusal, WithdrawalRow, Withdrawals
from gateway.errors import DatabaseUnavailable, EngineUnavailable, Refusal, ViewsUnavailable
from gateway.ports import CommandPort
from gateway.rejections import wire_details
from schemas.amounts import format_amount
from schemas.commands import DepositFunds, LedgerCommand, WithdrawFunds
from schemas.frames import OWN_KEY_MARK, Accepted
from schemas.rejections import Rejection, RejectionCode
from schemas.wire_withdrawals import Withdrawal, WithdrawalState

logger = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 60.0
SWEPT_AT_ONCE: Final = 100
RETURNED: Final = ":returned"
# The ledger did not look at the command: it may be sent again.
_UNDECIDED: Final = frozenset({RejectionCode.OVERLOADED, RejectionCode.LEDGER_NOT_OPEN})
ScaleOf = Callable[[str], Awaitable[int]]
"""Decimals of an asset."""


class Withdrawing:
    """Carries withdrawals on. Every method raises EngineUnavailable, DatabaseUnavailable, and
    Refusal(overloaded, ledger_not_open): then it may be tried again.
    """

    def __init__(self, withdrawals: Withdrawals, engine: CommandPort, scale_of: ScaleOf) -> None:
        self.withdrawals = withdrawals
        self._engine = engine
        self._scale_of = scale_of

    @property
    def database(self) -> Database:
        return self.withdrawals.database

    async def carry_on(self, withdrawal_id: str) -> WithdrawalRow:
        """As far as it comes without a person: requested to pending or refused, rejected or
        cancelled to returned. Raises Refusal(unknown_withdrawal).
        """
        row = await self.withdrawals.get(withdrawal_id)
        if row.state is WithdrawalState.REQUESTED:
            await self._debit(row)
        elif row.state in (WithdrawalState.REJECTED, WithdrawalState.CANCELLED):
            await self._give_back(row)
        else:
            return row
        return await self.withdrawals.get(withdrawal_id)

    async def carry_on_if_possible(self, withdrawal_id: str) -> WithdrawalRow:
        """carry_on(), or the row as it stands if the ledger cannot be asked now.

        What is written down will happen: to say that it failed would have it asked for twice.
        """
        try:
            return await self.carry_on(withdrawal_id)
        except (EngineUnavailable, Refusal) as exc:
            logger.warning("%s waits: %s", withdrawal_id, exc)
            return await self.withdrawals.get(withdrawal_id)

    async def _debit(self, row: WithdrawalRow) -> None:
        command = WithdrawFunds(
            user_id=row.user_id,
            asset_id=row.asset_id,
            amount_minor=row.amount_minor,
            reference=row.withdrawal_id,
        )
        answer = await self._submit(command, row)
        if isinstance(answer, Accepted):
            await self.withdrawals.debited(row.withdrawal_id, answer.last_position)
        elif answer.code == RejectionCode.DUPLICATE_REFERENCE:
            # Booked, and its key was forgotten since: nobody else has this reference.
            await self.withdrawals.debited(row.withdrawal_id, None)
        else:
            scale = await self._scale_of(row.asset_id)
            details = wire_details(
                answer, scales={"amount_minor": scale}, asset_scales={row.asset_id: scale}
            )
            await self.withdrawals.refused(row.withdrawal_id, KeptRefusal(answer.code, details))

    async def _give_back(self, row: WithdrawalRow) -> None:
        command = DepositFunds(
            user_id=row.user_id,
            asset_id=row.asset_id,
            amount_minor=row.amount_minor,
            reference=row.withdrawal_id + RETURNED,
        )
        answer = await self._submit(command, row)
        if isinstance(answer, Accepted):
            await self.withdrawals.returned(row.withdrawal_id, answer.last_position)
        elif answer.code == RejectionCode.DUPLICATE_REFERENCE:
            await self.withdrawals.returned(row.withdrawal_id, None)
        else:
            # The ledger took exactly this; that it does not take it back must be looked at.
            logger.error("%s cannot be returned: %s", row.withdrawal_id, answer.code)
            raise Refusal(answer.code, "The ledger does not take the amount back.")

    async def _submit(self, command: LedgerCommand, row: WithdrawalRow) -> Accepted | Rejection:
        # Clients cannot send withdrawals themselves, nor deposits under a key of the gateway's own.
        mark = OWN_KEY_MARK if isinstance(command, DepositFunds) else ""
        key = f"{mark}withdrawal:{row.withdrawal_id}"
        reply = await self._engine.submit(command, key=key, trace=row.trace)
        if isinstance(reply, Accepted):
            return reply
        if reply.rejection.code in _UNDECIDED:
            code = reply.rejection.code
            raise Refusal(code, f"The ledger refused: {code.replace('_', ' ')}.", retry_after=1)
        return reply.rejection

    async def shown(self, row: WithdrawalRow) -> Withdrawal:
        """As the wire shows it. Raises ViewsUnavailable."""
        scale = await self._scale_of(row.asset_id)
        return Withdrawal(
            withdrawal_id=row.withdrawal_id,
            user_id=row.user_id,
            requested_by=row.requested_by,
            asset=row.asset_id,
            amount=format_amount(row.amount_minor, scale),
            destination=row.destination,
            state=row.state,
            code=None if row.refusal is None else row.refusal.code,
            requested_time=row.requested_ms,
            decided_by=row.decided_by,
            decided_time=row.decided_ms,
            payout_reference=row.payout_reference,
            reason=row.reason,
            position=row.position,
            returned_position=row.returned_position,
        )

    async def sweep(self) -> int:
        """Carry on with everything that waits for the ledger; how many there were."""
        after, count = 0, 0
        while True:
            found = await self.withdrawals.unfinished(after=after, limit=SWEPT_AT_ONCE)
            for number, withdrawal_id in found:
                after = number
                await self._carry_on_or_tell(withdrawal_id)
            count += len(found)
            if len(found) < SWEPT_AT_ONCE:
                return count

    async def _carry_on_or_tell(self, withdrawal_id: str) -> None:
        # One that cannot go on must not keep the others waiting.
        try:
            await self.carry_on(withdrawal_id)
        except Refusal as exc:
            logger.warning("%s waits: %s", withdrawal_id, exc.code)

    async def keep_sweeping(self, *, pause: float = SWEEP_SECONDS) -> None:
        """Never returns; what is away now is there the next time."""
        while True:
            try:
                count = await self.sweep()
            except (DatabaseUnavailable, EngineUnavailable, ViewsUnavailable) as exc:
                logger.warning("withdrawals wait: %s", exc)
            else:
                if count:
                    logger.info("%d withdrawals were carried on", count)
            await asyncio.sleep(pause)
