"""An append whose outcome is known in the end: in, sent again, or fenced.

After a fault of the store nothing is sent blindly. The lead is taken again on a new connection;
the head's position and hash then say whether the batch is in the log. If they say anything else,
another writer has been there, and this one's state is not the ledger's any more.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Literal

from engine.errors import Fenced, StoreUnavailable
from engine.hashing import chain
from engine.ports import AnswerBlock, EventLog, Head, NewEvent
from engine.repeats import OpenTail

log = logging.getLogger("durian.engine")

Settled = Literal["committed", "lost"]

# As long as a database restart may take; then the process ends, and a new one folds the log.
SETTLE_SECONDS = 30.0
RETRY_SECONDS = 0.1
# How often a writer that waits for the lead looks whether another one has it.
LOOK_SECONDS = 0.25


async def append_settled(
    ledger_log: EventLog,
    open_tail: OpenTail,
    address: str,
    events: Sequence[NewEvent],
    history: Sequence[tuple[int, int]],
    block: AnswerBlock | None,
) -> Settled | None:
    """Append and see it in the log; None if that went at once.

    "committed": the outcome was unknown at first, but it was in. "lost": it was not and was sent
    again. In both cases the lead has been taken again.

    Raises Fenced if another writer leads; StoreUnavailable after SETTLE_SECONDS.
    """
    before = ledger_log.head
    try:
        await ledger_log.append(events, history, block)
    except StoreUnavailable as exc:
        log.warning("commit after position %d has an unknown outcome: %s", before.position, exc)
    else:
        return None
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            while True:
                try:
                    is_in = await _find_out(ledger_log, open_tail, address, before, events, block)
                    if not is_in:
                        await ledger_log.append(events, history, block)
                except StoreUnavailable as exc:
                    log.warning("not settled yet: %s", exc)
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    what = "was in the log" if is_in else "was not in the log and is now"
                    log.warning("settled in epoch %d: the batch %s", ledger_log.head.epoch, what)
                    return "committed" if is_in else "lost"
    except TimeoutError as exc:
        raise StoreUnavailable(f"no answer for {SETTLE_SECONDS:.0f} s") from exc


async def _find_out(
    ledger_log: EventLog,
    open_tail: OpenTail,
    address: str,
    before: Head,
    events: Sequence[NewEvent],
    block: AnswerBlock | None,
) -> bool:
    """True if the batch is in the log, False if it is not and we lead at `before`."""
    head = await _lead_again(ledger_log, open_tail, address)
    hashes = [before.hash, *chain(before.hash, (event.state for event in events))]
    if (head.position, head.hash) == (before.position + len(events), hashes[-1]):
        if events or block is None:
            return True
        async with open_tail() as tail:
            return bool(await tail.answers_page(block.id - 1, 1))
    if (head.position, head.hash) == (before.position, before.hash):
        return False
    raise Fenced(before.epoch, before.position)


async def _lead_again(ledger_log: EventLog, open_tail: OpenTail, address: str) -> Head:
    """Raises Fenced as soon as another one is seen to lead, rather than wait for its end."""
    known = ledger_log.head
    electing = asyncio.ensure_future(ledger_log.elect(address))
    try:
        while not (await asyncio.wait({electing}, timeout=LOOK_SECONDS))[0]:
            async with open_tail() as tail:
                stored, leader = await tail.head(), await tail.leader()
            # A newer epoch under our own address is one whose answer we have not heard.
            if stored.epoch != known.epoch and leader != address and not electing.done():
                raise Fenced(known.epoch, known.position)
        return await electing
    finally:
        electing.cancel()
