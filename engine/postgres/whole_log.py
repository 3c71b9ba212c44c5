"""The whole log as one, wherever its events lie: in archives, in the table, or in turns.

Stand-ins for LedgerRecorder and PostgresTail. They look for archives only where the table has a
hole, so that the usual reader of the log's end pays nothing.
"""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from eventsourcing.postgres import PostgresDatastore
from psycopg.rows import tuple_row

from engine.archive import Archive, ArchivedLog
from engine.errors import LogCorrupt
from engine.ports import LoggedEvent
from engine.postgres.archive import ARCHIVES
from engine.postgres.connection import Statement
from engine.postgres.recorder import LedgerRecorder
from engine.postgres.tail import PostgresTail

_ARCHIVES = Statement(b"archives", ARCHIVES.encode(), [])


def read_whole_log(
    recorder: LedgerRecorder, directory: Path, after: int = 0
) -> Iterator[LoggedEvent]:
    """Every event after a position, in order; `directory` holds the archives.

    Raises LogCorrupt at a hole, ArchiveUnusable (it names the file) if an archive is missing or
    damaged, StoreUnavailable.
    """
    while True:
        try:
            for event in LedgerRecorder.read(recorder, after):
                yield event
                after = event.position
        except LogCorrupt:
            for event in _archived(directory, _archives(recorder), after):
                yield event
                after = event.position
        else:
            return


def _archives(recorder: LedgerRecorder) -> list[Archive]:
    with (
        recorder.datastore.get_connection() as connection,
        connection.cursor(row_factory=tuple_row) as cursor,
    ):
        return [Archive._make(row) for row in cursor.execute(ARCHIVES.encode())]


def _archived(directory: Path, archives: list[Archive], after: int) -> Iterator[LoggedEvent]:
    """What archives hold directly after a position. Raises LogCorrupt if that is nothing."""
    archived = ArchivedLog(directory, archives)
    following = archived.following(after)
    if following is None or following.first > after + 1:
        raise LogCorrupt(after + 1, "missing: it is neither in the table nor in an archive")
    return archived.read(after)


class WholeLog(LedgerRecorder):
    """A LedgerRecorder that also reads what has been archived."""

    def __init__(self, datastore: PostgresDatastore, directory: Path) -> None:
        super().__init__(datastore)
        self._directory = directory

    def read(self, after: int = 0) -> Iterator[LoggedEvent]:
        """See read_whole_log."""
        return read_whole_log(self, self._directory, after)


class WholeTail(PostgresTail):
    """A PostgresTail whose pages also come from archives."""

    def __init__(self, url: str, directory: Path) -> None:
        super().__init__(url)
        self._directory = directory
        self._archived: Iterator[LoggedEvent] = iter(())
        self._archived_after = -1  # where the open archive goes on; -1 if none is open
        self._archive_turn = asyncio.Lock()

    async def page(self, after: int, limit: int) -> Sequence[LoggedEvent]:
        """The next events after a position, in order, none if there are none yet.

        Quick while each page follows the one before. Raises LogCorrupt at a hole, ArchiveUnusable.
        """
        async with self._archive_turn:
            while True:
                page = await self._archived_page(after, limit)
                if not page:
                    page = _dense(await super().page(after, limit))
                if not page or page[0].position == after + 1:
                    return page
                archives = await self._rows(_ARCHIVES, Archive._make)
                self._archived = _archived(self._directory, archives, after)
                self._archived_after = after

    async def _archived_page(self, after: int, limit: int) -> Sequence[LoggedEvent]:
        if after != self._archived_after:
            return ()
        archived = self._archived
        # A page takes milliseconds to decompress, and a page in the middle of a file much longer.
        page = await asyncio.to_thread(lambda: list(islice(archived, limit)))
        self._archived_after = page[-1].position if page else -1
        return page


def _dense(page: Sequence[LoggedEvent]) -> Sequence[LoggedEvent]:
    """The page up to the first hole inside it."""
    if not page or page[-1].position - page[0].position + 1 == len(page):
        return page
    first = page[0].position
    return [event for index, event in enumerate(page) if event.position == first + index]
