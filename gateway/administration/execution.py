"""Carrying out intents: asking the ledger or the accounts, once, and keeping the answer.

An intent is an order given: what is not known to have been carried out, because the engine or this
process went away, is asked for again until there is an answer.
"""

import asyncio
import logging
import time
from functools import partial
from typing import Final

from gateway.administration.acting import accounts_of, desk_of
from gateway.desk.changes import (
    AnyAccountChange,
    DisableUser,
    EnableUser,
    EraseUser,
    SetRole,
    action_of,
)
from gateway.desk.intents import Answer, Intent
from gateway.errors import EngineUnavailable, GatewayError, Refusal
from gateway.ports import Resources
from gateway.rejections import wire_details
from schemas.frames import Refused
from schemas.rejections import RejectionCode

logger = logging.getLogger(__name__)

# A request that is being answered is left alone for so long.
LEFT_ALONE_SECONDS: Final = 3
LOOK_SECONDS: Final = 1.0
# Also those who erased themselves, of whom only the accounts know.
FORGET_SECONDS: Final = 600.0
ERASED_AT_ONCE: Final = 500
RETRY_SECONDS: Final = 1
# The ledger did not look at the command: it may be sent again.
_UNDECIDED: Final = frozenset({RejectionCode.OVERLOADED, RejectionCode.LEDGER_NOT_OPEN})


async def carry_out(resources: Resources, intent: Intent, *, trace: str = "") -> Answer:
    """The intent's answer; all who ask at once in this process wait for the same one.

    It goes on if the caller is cancelled. Raises EngineUnavailable(unknown), DatabaseUnavailable,
    Refusal(overloaded, ledger_not_open): then finish_intents() goes on.
    """
    if intent.answer is not None:
        return intent.answer
    under_way = desk_of(resources).under_way
    task = under_way.get(intent.record_id)
    if task is None:
        task = asyncio.create_task(_carry_out(resources, intent, trace))
        under_way[intent.record_id] = task
        task.add_done_callback(partial(_forget, under_way, intent.record_id))
    return await asyncio.shield(task)


async def finish_intents(resources: Resources) -> None:
    """Carry out, for ever, what was begun and has no answer; at first also what is quite new."""
    older_than_seconds, forgotten_at = 0, 0.0
    clock = asyncio.get_running_loop().time
    while True:
        try:
            await finish_once(resources, older_than_seconds=older_than_seconds)
            older_than_seconds = LEFT_ALONE_SECONDS
            if clock() - forgotten_at >= FORGET_SECONDS or not forgotten_at:
                await forget_erased(resources)
                forgotten_at = clock()
        except GatewayError as exc:
            logger.warning("what was begun waits: %s: %s", type(exc).__name__, exc)
        await asyncio.sleep(LOOK_SECONDS)


async def finish_once(resources: Resources, *, older_than_seconds: int) -> int:
    """Carry out the open intents of such an age; gives how many have an answer now.

    One that cannot be carried out keeps those behind it waiting only if they go the same way.
    """
    intents, finished = desk_of(resources).intents, 0
    stuck: set[bool] = set()
    after = 0
    while found := await intents.open_ones(older_than_seconds=older_than_seconds, after=after):
        after = found[-1].record_id
        for intent in found:
            is_of_account = isinstance(intent.change, AnyAccountChange)
            if is_of_account in stuck:
                continue
            try:
                await carry_out(resources, intent)
                finished += 1
            except GatewayError as exc:
                stuck.add(is_of_account)
                logger.warning("record %d stays open: %s: %s", after, type(exc).__name__, exc)
    return finished


async def forget_erased(resources: Resources) -> None:
    """Delete where erased persons had money sent, of withdrawals that have ended since, too."""
    accounts, withdrawals = accounts_of(resources), desk_of(resources).withdrawals
    cursor: str | None = None
    while True:
        page = await accounts.page(cursor=cursor, limit=ERASED_AT_ONCE, state="erased")
        if page.items:
            await withdrawals.forget_destinations([one.user_id for one in page.items])
        cursor = page.next_cursor
        if cursor is None:
            return


def _forget(
    under_way: dict[int, asyncio.Task[Answer]], record_id: int, task: asyncio.Task[Answer]
) -> None:
    del under_way[record_id]
    if not task.cancelled() and task.exception() is not None:
        logger.info("intent of record %d stays open: %r", record_id, task.exception())


async def _carry_out(resources: Resources, intent: Intent, trace: str) -> Answer:
    intents = desk_of(resources).intents
    # It may have been answered since the caller read it; asking accounts again could undo later.
    known = await intents.answer(intent.record_id)
    if known is not None:
        return known
    change = intent.change
    if isinstance(change, SetRole | DisableUser | EnableUser | EraseUser):
        answer = await _change_account(resources, change, by=intent.who)
    else:
        answer = await _ask_ledger(resources, intent, trace)
    return await intents.close(intent, answer)


async def _change_account(resources: Resources, change: AnyAccountChange, *, by: str) -> Answer:
    accounts = accounts_of(resources)
    try:
        match change:
            case SetRole():
                await accounts.set_role(change.user_id, change.role, by=by)
            case DisableUser():
                await accounts.disable(change.user_id, by=by)
            case EnableUser():
                await accounts.enable(change.user_id, by=by)
            case EraseUser():
                await accounts.erase(change.user_id, by=by)
                await desk_of(resources).withdrawals.forget_destinations([change.user_id])
    except Refusal as refusal:
        return Answer(code=refusal.code, detail=refusal.detail, details=refusal.details)
    return Answer()


async def _ask_ledger(resources: Resources, intent: Intent, trace: str) -> Answer:
    change = intent.change
    assert not isinstance(change, SetRole | DisableUser | EnableUser | EraseUser)
    began, outcome = time.perf_counter(), "failed"
    try:
        reply = await resources.engine.submit(change, key=intent.engine_key, trace=trace)
        outcome = reply.rejection.code if isinstance(reply, Refused) else "accepted"
    except EngineUnavailable as exc:
        outcome = exc.outcome
        # Even if it was not sent it will be: the intent stays open.
        raise EngineUnavailable("unknown") from exc
    finally:
        resources.metrics.answered(
            command=action_of(change), outcome=outcome, seconds=time.perf_counter() - began
        )
    if not isinstance(reply, Refused):
        return Answer(position=reply.last_position)
    code = reply.rejection.code
    if code in _UNDECIDED:
        raise Refusal(
            code, "The ledger has no time; it will be asked again.", retry_after=RETRY_SECONDS
        )
    details = wire_details(reply.rejection)
    return Answer(
        code=code, detail=f"The ledger refused: {code.replace('_', ' ')}.", details=details
    )
