"""Making and checking snapshots, beside the running engine and without its help."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import StoreUnavailable
from engine.fold import LedgerFold
from engine.ports import Head, LoggedEvent, StoredSnapshot
from engine.postgres.datastore import datastore_of
from engine.postgres.schema import require_schema
from engine.postgres.snapshots import PostgresSnapshots
from engine.postgres.tail import PostgresTail
from engine.postgres.whole_log import WholeLog
from engine.snapshots import SnapshotRejected, newest_fold, opened, same_state, take
from ops.demo.progress import open_progress

PROGRESS_EVENTS = 20_000


@contextlib.contextmanager
def _log(url: str, archive: Path) -> Iterator[WholeLog]:
    require_schema(url)
    with datastore_of(url) as datastore:
        yield WholeLog(datastore, archive)


async def _head(url: str) -> Head:
    async with PostgresTail(url) as tail:
        return await tail.head()


def keep_snapshot(url: str, archive: Path) -> dict[str, Any]:
    """Store a snapshot of the log's end; what was done as plain values.

    url: of the log, with the writer's role. archive: directory.
    Raises LogCorrupt, StoreUnavailable.
    """
    started = time.monotonic()
    head, store = asyncio.run(_head(url)), PostgresSnapshots(url)
    with _log(url, archive) as ledger_log:
        fold = newest_fold(store, ledger_log, head)
        from_position = fold.position
        fold.apply(_reported(ledger_log.read(fold.position), head.position - fold.position))
    if fold.position == 0:
        raise StoreUnavailable("the log is empty: there is nothing to keep yet")
    snapshot = take(fold)
    if fold.position > from_position:
        store.save_snapshot(snapshot)
    return {
        "position": fold.position,
        "from_position": from_position,
        "bytes": len(snapshot.body),
        "seconds": round(time.monotonic() - started, 3),
    }


def check_snapshots(url: str, archive: Path) -> list[dict[str, Any]]:
    """Each stored snapshot against a fold of the log from its first event, oldest first."""
    stored = sorted(PostgresSnapshots(url).snapshots(), key=lambda one: one.position)
    head = asyncio.run(_head(url))
    findings: list[dict[str, Any]] = []
    with _log(url, archive) as ledger_log:
        fold, events = LedgerFold(), _reported(ledger_log.read(), head.position)
        for snapshot in stored:
            fold.apply(_up_to(events, fold.position, snapshot.position))
            finding = _difference(snapshot, fold)
            findings.append(
                {
                    "position": snapshot.position,
                    "equal": not finding,
                    "finding": finding or "equals the fold of the log",
                }
            )
    return findings


def _difference(snapshot: StoredSnapshot, fold: LedgerFold) -> str:
    if fold.position != snapshot.position:
        return f"the log ends at position {fold.position}"
    if snapshot.log_hash != fold.hash:
        return "the log's hash at its position is another"
    try:
        kept = opened(snapshot)
    except SnapshotRejected as exc:
        return str(exc)
    return "" if same_state(kept, fold) else "its state is not the fold's"


def _up_to(events: Iterator[LoggedEvent], after: int, last: int) -> Iterator[LoggedEvent]:
    for _ in range(last - after):
        event = next(events, None)
        if event is None:
            return
        yield event


def _reported(events: Iterator[LoggedEvent], total: int) -> Iterator[LoggedEvent]:
    with open_progress() as tasks:
        progress = tasks.task("folding the log", max(total, 1))
        for number, event in enumerate(events, start=1):
            if number % PROGRESS_EVENTS == 0:
                progress(number)
            yield event
        progress(max(total, 1))
