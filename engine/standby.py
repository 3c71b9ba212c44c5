"""On the way to the lead: the newest snapshot and the log's tail, folded while another one leads.

The first engine of a ledger goes this way too, and finds nobody ahead of it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from engine.answers import FirstAnswers
from engine.fold import LedgerFold
from engine.ports import EventLog, Figures, Head, LogTail, SnapshotStore
from engine.snapshots import newest_fold

log = logging.getLogger("durian.engine")

PAGE_EVENTS = 5_000
PAGE_BLOCKS = 500
# Appends wake it; this is for a log in which nothing happens.
LOOK_SECONDS = 1.0


class Standby:
    """fold and answers: as far as this one has read. snapshot_position: 0 if none was used."""

    def __init__(
        self, ledger_log: EventLog, tail: LogTail, store: SnapshotStore, figures: Figures
    ) -> None:
        self._log = ledger_log
        self._tail = tail
        self._store = store
        self._figures = figures
        self.fold = LedgerFold()
        self.answers = FirstAnswers()
        self.snapshot_position = 0

    async def fold_log(self) -> None:
        """The newest snapshot, then everything that is in the log now, read in one go.

        Blocks the loop: nothing else can be done before.
        """
        self.fold = newest_fold(self._store, self._log, await self._tail.head())
        self.snapshot_position = self.fold.position
        self.fold.apply(self._log.read(self.fold.position))
        await self._read_answers()
        log.info(
            "snapshot of position %d, then folded up to %d",
            self.snapshot_position,
            self.fold.position,
        )

    async def take_lead(self, address: str, report: Callable[[], None]) -> None:
        """Follow the log until elected; fold and answers are then complete.

        report: called after each look. Raises LogCorrupt, StoreUnavailable.
        """
        electing = asyncio.ensure_future(self._log.elect(address))
        try:
            while not electing.done():
                await self._follow()
                report()
                await self._wait(electing)
            head = await electing
        finally:
            electing.cancel()
        # Nobody appends any more: a look that finds nothing has seen the end.
        before = -1
        while before < self.fold.position < head.position:
            before = self.fold.position
            await self._follow()
        await self._read_answers()
        self.fold.require_end(head)

    async def _wait(self, electing: "asyncio.Future[Head]") -> None:
        """Until the log has grown, or the lead is ours: that must not wait for anything."""
        growing = asyncio.ensure_future(self._tail.wait(LOOK_SECONDS))
        either: tuple[asyncio.Future[Any], ...] = electing, growing
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if growing.done():
            growing.result()
        growing.cancel()
        await asyncio.wait({growing})

    async def _follow(self) -> None:
        page = await self._tail.page(self.fold.position, PAGE_EVENTS)
        self.fold.apply(page)
        await self._read_answers()
        behind = (await self._tail.head()).position - self.fold.position
        self._figures.standby(self.fold.position, max(0, behind))

    async def _read_answers(self) -> None:
        while page := await self._tail.answers_page(self.answers.last_id, PAGE_BLOCKS):
            self.answers.load(page)
