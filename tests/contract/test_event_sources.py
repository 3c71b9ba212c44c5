"""Where a rebuild reads from: the log in PostgreSQL, its archives, and what is wrong in either."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest

from engine.errors import LogCorrupt
from engine.memory import MemoryLog, MemoryStore, MemoryTail
from engine.postgres.archive import LogArchivist
from engine.postgres.datastore import datastore_of
from engine.postgres.operations import OperationsRecord
from engine.postgres.recorder import LedgerRecorder
from engine.postgres.snapshots import PostgresSnapshots
from engine.sequencer import DecidedEvent
from ops.config import Config
from ops.event_sources import LogSource, open_source
from ops.snapshotting import keep_snapshot
from projections.rebuild import EventSource, Positioned
from schemas.codecs import encode_event, topic_of
from schemas.events import LedgerEvent
from schemas.history import history_keys
from schemas.streams import stream_id
from tests.fixtures.ledger_logs import random_log
from tests.fixtures.postgres import LedgerDatabase, provisioned

PARTITION_EVENTS = 500


@pytest.fixture(scope="module")
def events() -> list[LedgerEvent]:
    return random_log(71, seconds=1_500, trades=60)


def _decided(events: Sequence[LedgerEvent]) -> list[DecidedEvent]:
    versions: dict[str, int] = {}
    decided = []
    for event in events:
        stream = stream_id(event)
        versions[stream] = versions.get(stream, 0) + 1
        decided.append(DecidedEvent(stream, versions[stream], topic_of(event), encode_event(event)))
    return decided


async def _all(source: EventSource, limit: int, after: int = 0) -> list[Positioned]:
    found: list[Positioned] = []
    while page := await source.page(after, limit):
        found += page
        after = page[-1][0]
    return found


def _memory(events: Sequence[LedgerEvent]) -> MemoryStore:
    store = MemoryStore()
    log = MemoryLog(store)
    log.lead()
    asyncio.run(log.append(_decided(events)))
    return store


@pytest.mark.parametrize("after", [0, 1, 700])
def test_log_is_read_in_pages_from_anywhere(events: list[LedgerEvent], after: int) -> None:
    store = _memory(events)

    async def run() -> list[Positioned]:
        source = LogSource(MemoryTail(store))
        try:
            return await _all(source, 64, after)
        finally:
            await source.close()

    assert asyncio.run(run()) == list(enumerate(events, 1))[after:]


def test_log_may_be_read_again_from_before(events: list[LedgerEvent]) -> None:
    store = _memory(events)

    async def run() -> None:
        source = LogSource(MemoryTail(store))
        await source.page(0, 500)
        assert [position for position, _ in await source.page(100, 3)] == [101, 102, 103]
        await source.close()

    asyncio.run(run())


@pytest.mark.services
def test_changed_event_is_found_by_the_hash_chain(
    ledger_database: LedgerDatabase, events: list[LedgerEvent]
) -> None:
    _fill(ledger_database, events[:300])
    with psycopg.connect(ledger_database.owner_url) as owner:
        owner.execute("ALTER TABLE ledger_events DISABLE TRIGGER ALL")
        owner.execute("ALTER TABLE ledger_events_p000000000001 DISABLE TRIGGER ALL")
        owner.execute(
            "UPDATE ledger_events SET state = replace(encode(state, 'escape'), '\"at_ns\":1',"
            " '\"at_ns\":2')::bytea WHERE notification_id = 200"
        )
    with pytest.raises(LogCorrupt, match="position 200: its hash does not follow"):
        asyncio.run(_read(ledger_database, Path("unused")))


@pytest.mark.services
def test_archived_events_are_read_from_their_files(
    empty_database: str, events: list[LedgerEvent], tmp_path: Path
) -> None:
    database = provisioned(empty_database, partition_events=PARTITION_EVENTS)
    _fill(database, events)
    keep_snapshot(database.writer_url, tmp_path)
    assert list(PostgresSnapshots(database.reader_url).snapshots())
    with LogArchivist(database.owner_url, tmp_path) as archivist:
        planned = archivist.archivable(keep_partitions=0)
        for partition in planned:
            archivist.archive(partition, lambda _: None)
    assert len(planned) >= 2
    assert asyncio.run(_read(database, tmp_path)) == list(enumerate(events, 1))


async def _read(database: LedgerDatabase, archive: Path) -> list[Positioned]:
    config = Config(postgres_url=database.reader_url, archive_dir=archive)
    async with open_source(config, "log") as source:
        return await _all(source, 200)


def _fill(database: LedgerDatabase, events: Sequence[LedgerEvent]) -> None:
    async def append() -> None:
        with datastore_of(database.writer_url) as datastore:
            recorder = LedgerRecorder(datastore)
            recorder.lead()
            decided = _decided(events)
            for first in range(0, len(decided), 100):
                keys = [
                    (key, at)
                    for at, event in enumerate(events[first : first + 100])
                    for key in history_keys(event)
                ]
                await recorder.append(decided[first : first + 100], keys)
            recorder.close_writer()

    asyncio.run(append())


@pytest.mark.services
def test_operations_are_added_by_the_writer_and_changed_by_nobody(
    ledger_database: LedgerDatabase,
) -> None:
    record = OperationsRecord(ledger_database.writer_url)
    assert record.may_add()
    assert not OperationsRecord(ledger_database.reader_url).may_add()
    for number in (1, 2):
        record.add(
            actor="me@here",
            operation="rebuild",
            projection="market",
            outcome="switched",
            detail={"positions": [number]},
        )
    newest = OperationsRecord(ledger_database.reader_url).newest(5)
    assert [(one.id, one.detail) for one in newest] == [
        (2, {"positions": [2]}),
        (1, {"positions": [1]}),
    ]
    for url, statement in (
        (ledger_database.writer_url, "DELETE FROM ledger_operations"),
        (ledger_database.writer_url, "UPDATE ledger_operations SET actor = 'x'"),
        (ledger_database.owner_url, "UPDATE ledger_operations SET actor = 'x'"),
        (
            ledger_database.reader_url,
            "INSERT INTO ledger_operations (actor, operation, projection, outcome, detail)"
            " SELECT actor, operation, projection, outcome, detail FROM ledger_operations",
        ),
    ):
        with (
            psycopg.connect(url) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement.encode())
