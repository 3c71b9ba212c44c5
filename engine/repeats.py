"""Keys that are used again: their first answer is read back from the log's database and given once
more, beside the sequencer and never ahead of the first one's commit.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from engine.answers import AnswerRecord, records_of
from engine.errors import StoreUnavailable
from engine.outcomes import Outcome, Pending, Stored, code_of
from engine.ports import Figures, LogTail
from schemas.rejections import Rejection, RejectionCode

log = logging.getLogger("durian.engine")

OpenTail = Callable[[], AbstractAsyncContextManager[LogTail]]

REPEATS_MAX = 10_000
RETRY_SECONDS = 0.2
BLOCKS_KEPT = 16


class _Repeat(NamedTuple):
    block_id: int
    scope: bytes
    body: bytes
    pending: Pending


class _Block(NamedTuple):
    """A batch's first answers, and the payloads of the events they name, by position."""

    records: dict[bytes, AnswerRecord]
    payloads: dict[int, bytes]


class Repeats:
    """Answers in the order in which they can be answered; run() does the reading."""

    def __init__(self, open_tail: OpenTail, figures: Figures) -> None:
        self.open_tail = open_tail
        self._figures = figures
        self._ready: deque[_Repeat] = deque()
        self._uncommitted: dict[int, list[_Repeat]] = {}
        self._committed_id = 0
        self._blocks: dict[int, _Block] = {}
        self._wake = asyncio.Event()

    def ask(self, block_id: int, scope: bytes, body: bytes, pending: Pending) -> None:
        """Give `pending` the answer that block has for scope; refuse it if bodies differ."""
        waiting = len(self._ready) + sum(map(len, self._uncommitted.values()))
        if waiting >= REPEATS_MAX:
            refused = Rejection(RejectionCode.OVERLOADED, {"repeats_waiting": waiting})
            self._figures.answered({code_of(refused): 1})
            pending.answer(pending.request.id, refused, False)
            return
        repeat = _Repeat(block_id, scope, body, pending)
        if block_id > self._committed_id:
            self._uncommitted.setdefault(block_id, []).append(repeat)
        else:
            self._ready.append(repeat)
            self._wake.set()

    def committed(self, block_id: int) -> None:
        """Every block up to this one is on disk."""
        self._committed_id = block_id
        for known in [known for known in self._uncommitted if known <= block_id]:
            self._ready += self._uncommitted.pop(known)
            self._wake.set()

    async def run(self) -> None:
        """For ever; waits for the store when it goes away."""
        while True:
            if not self._ready:
                self._wake.clear()
                await self._wake.wait()
            try:
                async with self.open_tail() as tail:
                    await self._answer_all(tail)
            except StoreUnavailable as exc:
                log.warning("first answers cannot be read at the moment: %s", exc)
                await asyncio.sleep(RETRY_SECONDS)

    async def _answer_all(self, tail: LogTail) -> None:
        while True:
            while self._ready:
                repeat = self._ready[0]
                outcome, is_repeat = await self._first_answer(tail, repeat)
                self._ready.popleft()
                self._figures.answered({"repeated" if is_repeat else code_of(outcome): 1})
                repeat.pending.answer(repeat.pending.request.id, outcome, is_repeat)
            self._wake.clear()
            await self._wake.wait()

    async def _first_answer(self, tail: LogTail, repeat: _Repeat) -> tuple[Outcome, bool]:
        block = await self._block(tail, repeat.block_id)
        record = block.records[repeat.scope]
        if record.body != repeat.body:
            return Rejection(RejectionCode.IDEMPOTENCY_KEY_REUSED), False
        if record.rejection is not None:
            return record.rejection, True
        positions = range(record.first, record.first + record.count)
        payloads = tuple(block.payloads[position] for position in positions)
        return Stored(positions.stop - 1, payloads), True

    async def _block(self, tail: LogTail, block_id: int) -> _Block:
        known = self._blocks.get(block_id)
        if known is not None:
            return known
        (stored,) = await tail.answers_page(block_id - 1, 1)
        records = records_of(stored)
        accepted = [record for record in records if record.count]
        payloads: dict[int, bytes] = {}
        if accepted:
            before = min(record.first for record in accepted) - 1
            last = max(record.first + record.count - 1 for record in accepted)
            page = await tail.page(before, last - before)
            payloads = {logged.position: logged.payload for logged in page}
        known = _Block({record.scope: record for record in records}, payloads)
        if len(self._blocks) >= BLOCKS_KEPT:
            del self._blocks[next(iter(self._blocks))]
        self._blocks[block_id] = known
        return known
