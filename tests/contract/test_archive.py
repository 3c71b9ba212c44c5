"""Archiving a real log: what is moved, that nothing is lost at any instant, and the way back."""

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from engine.archive import Archive, LogRow, read_rows
from engine.errors import ArchiveUnusable, LogCorrupt, StoreUnavailable
from engine.fold import LedgerFold
from engine.ports import LoggedEvent
from engine.postgres import archive as postgres_archive
from engine.postgres.archive import LogArchivist
from engine.postgres.datastore import datastore_of
from engine.postgres.recorder import LedgerRecorder
from engine.postgres.whole_log import WholeLog, WholeTail, read_whole_log
from engine.snapshots import take
from ops.cli import run
from schemas.codecs import encode_event
from schemas.events import LedgerEvent
from schemas.history import history_keys, stream_key
from schemas.streams import stream_id
from tests.fixtures.ledger_logs import random_log
from tests.fixtures.postgres import LedgerDatabase, provisioned

pytestmark = pytest.mark.services
PARTITION_EVENTS = 500
BATCH = 100
DEADLINE_SECONDS = 60.0
_ROWS = (
    "SELECT notification_id, epoch, originator_id, originator_version, topic, state, hash"
    " FROM ledger_events ORDER BY notification_id"
)


@pytest.fixture(scope="module")
def events() -> list[LedgerEvent]:
    return random_log(11, seconds=1_500, trades=100)


@pytest.fixture
def database(empty_database: str, events: list[LedgerEvent]) -> LedgerDatabase:
    """A log in partitions of 500 events, the last one not full, and no snapshot."""
    made = provisioned(empty_database, partition_events=PARTITION_EVENTS)
    asyncio.run(_fill(made, events))
    return made


async def _fill(database: LedgerDatabase, events: list[LedgerEvent]) -> None:
    versions: dict[str, int] = {}
    with datastore_of(database.writer_url) as datastore:
        recorder = LedgerRecorder(datastore)
        recorder.lead()
        for first in range(0, len(events), BATCH):
            page = events[first : first + BATCH]
            batch, history = [], []
            for index, event in enumerate(page):
                stream = stream_id(event)
                versions[stream] = versions.get(stream, 0) + 1
                topic = f"{type(event).__name__}:1"
                batch.append(StoredEvent(stream, versions[stream], topic, encode_event(event)))
                history += [(key, index) for key in history_keys(event)]
            await recorder.append(batch, history)
        recorder.close_writer()


def _full_partitions(events: list[LedgerEvent]) -> int:
    return (len(events) - 1) // PARTITION_EVENTS


def _keep_snapshot(database: LedgerDatabase, position: int | None = None) -> None:
    fold = LedgerFold()
    with _recorder(database) as recorder:
        fold.apply(event for event in recorder.read() if position is None or event[0] <= position)
    snapshot = take(fold)
    with psycopg.connect(database.writer_url) as writer:
        writer.execute(
            "INSERT INTO ledger_snapshots (position, version, log_hash, digest, body)"
            " VALUES (%s, %s, %b, %b, %b)",
            snapshot,
        )


@contextmanager
def _recorder(database: LedgerDatabase) -> Iterator[LedgerRecorder]:
    with datastore_of(database.reader_url) as datastore:
        yield LedgerRecorder(datastore)


def _whole(database: LedgerDatabase, directory: Path, after: int = 0) -> list[LoggedEvent]:
    with _recorder(database) as recorder:
        return list(read_whole_log(recorder, directory, after))


def _table(database: LedgerDatabase) -> list[LogRow]:
    with psycopg.connect(database.reader_url) as reader:
        return [LogRow(*row) for row in reader.execute(_ROWS)]


def _history(database: LedgerDatabase) -> set[tuple[int, int]]:
    with psycopg.connect(database.reader_url) as reader:
        return set(
            reader.execute(
                "SELECT key, unnest(positions) FROM ledger_history UNION ALL"
                " SELECT key, first_position + index FROM ledger_history_recent,"
                " unnest(keys, indexes) AS entry (key, index)"
            )
        )


def _archive_all(
    database: LedgerDatabase, directory: Path, *, keep_partitions: int = 0
) -> list[Archive]:
    with LogArchivist(database.owner_url, directory) as archivist:
        planned = archivist.archivable(keep_partitions=keep_partitions)
        return [archivist.archive(partition, lambda _: None) for partition in planned]


def _archivable(database: LedgerDatabase, keep_partitions: int = 0) -> list[int]:
    with LogArchivist(database.owner_url, Path("unused")) as archivist:
        planned = archivist.archivable(keep_partitions=keep_partitions)
        return [partition.first for partition in planned]


# -- what may go ------------------------------------------------------------------------------


def test_nothing_goes_without_a_sound_snapshot(database: LedgerDatabase) -> None:
    assert _archivable(database) == []
    _keep_snapshot(database)
    assert len(_archivable(database)) > 2
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("UPDATE ledger_snapshots SET body = body || 'x'")
    assert _archivable(database) == []


def test_a_snapshot_of_another_log_does_not_count(database: LedgerDatabase) -> None:
    _keep_snapshot(database)
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("UPDATE ledger_snapshots SET log_hash = sha256('another')")
    assert _archivable(database) == []


def test_only_what_ends_at_or_below_the_snapshot_goes(database: LedgerDatabase) -> None:
    _keep_snapshot(database, 999)
    assert _archivable(database) == [1]
    _keep_snapshot(database, 1_000)
    assert _archivable(database) == [1, 501]
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("UPDATE ledger_snapshots SET digest = '' WHERE position = 1000")
    assert _archivable(database) == [1]  # the older one is still sound


def test_the_heads_partition_and_the_newest_full_ones_stay(
    database: LedgerDatabase, events: list[LedgerEvent]
) -> None:
    _keep_snapshot(database)
    full = _full_partitions(events)
    assert full >= 3
    assert _archivable(database) == [1 + number * PARTITION_EVENTS for number in range(full)]
    assert _archivable(database, 2) == _archivable(database)[:-2]
    assert _archivable(database, full) == _archivable(database, 99) == []


# -- moved and read ---------------------------------------------------------------------------


def test_archived_events_read_on_as_one_log(
    database: LedgerDatabase, events: list[LedgerEvent], tmp_path: Path
) -> None:
    before, rows = _whole(database, tmp_path), _table(database)
    _keep_snapshot(database)
    archives = _archive_all(database, tmp_path, keep_partitions=1)
    last = archives[-1].last
    assert last == (_full_partitions(events) - 1) * PARTITION_EVENTS
    assert [row for a in archives for row in read_rows(tmp_path / a.file_name)] == rows[:last]
    assert _table(database) == rows[last:]
    for after in (0, 1, 499, 500, 501, last - 1, last, last + 1, len(rows) - 1, len(rows)):
        assert _whole(database, tmp_path, after) == before[after:]
    with _recorder(database) as recorder, pytest.raises(LogCorrupt):
        list(recorder.read())  # the table alone is not the log


def test_a_fold_from_the_first_event_is_the_same(database: LedgerDatabase, tmp_path: Path) -> None:
    def folded() -> LedgerFold:
        fold = LedgerFold()
        with _recorder(database) as recorder:
            fold.apply(read_whole_log(recorder, tmp_path))
        return fold

    before = folded()
    _keep_snapshot(database)
    assert _archive_all(database, tmp_path)
    after = folded()
    assert (after.position, after.hash, after.versions) == (
        before.position,
        before.hash,
        before.versions,
    )
    assert take(after) == take(before)


@pytest.mark.parametrize("limit", [1, 7, 500, 4_000])
def test_a_tail_gives_pages_across_archives_and_table(
    database: LedgerDatabase, tmp_path: Path, limit: int
) -> None:
    before = _whole(database, tmp_path)
    _keep_snapshot(database)
    archives = _archive_all(database, tmp_path)
    with LogArchivist(database.owner_url, tmp_path) as archivist:
        archivist.restore(tmp_path / archives[1].file_name, lambda _: None)

    async def follow() -> list[LoggedEvent]:
        found: list[LoggedEvent] = []
        async with WholeTail(database.reader_url, tmp_path) as tail:
            while page := await tail.page(len(found), limit):
                assert len(page) <= limit
                found += page
            assert list(await tail.page(700, 2)) == before[700:702]  # and anywhere else
            assert list(await tail.page(99, 1)) == before[99:100]
            assert list(await tail.page(100, 1)) == before[100:101]
        return found

    assert asyncio.run(follow()) == before
    with datastore_of(database.reader_url) as datastore:
        assert list(WholeLog(datastore, tmp_path).read()) == before


def test_a_tail_names_what_is_missing(database: LedgerDatabase, tmp_path: Path) -> None:
    _keep_snapshot(database)
    archives = _archive_all(database, tmp_path)

    async def first_page() -> None:
        async with WholeTail(database.reader_url, tmp_path) as tail:
            await tail.page(0, 10)

    (tmp_path / archives[0].file_name).unlink()
    with pytest.raises(ArchiveUnusable, match=archives[0].file_name):
        asyncio.run(first_page())
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("DELETE FROM ledger_archives")
    with pytest.raises(LogCorrupt, match="neither in the table nor in an archive"):
        asyncio.run(first_page())


def test_archives_are_noted_with_what_proves_them(database: LedgerDatabase, tmp_path: Path) -> None:
    _keep_snapshot(database)
    archives = _archive_all(database, tmp_path)
    with LogArchivist(database.owner_url, tmp_path) as archivist:
        assert archivist.archives() == archives
        assert archivist.archivable(keep_partitions=0) == []
    for archive in archives:
        assert (tmp_path / archive.file_name).stat().st_size == archive.bytes
    assert [a.hash_after for a in archives[:-1]] == [a.hash_before for a in archives[1:]]


def test_a_missing_archive_is_named_only_when_it_is_needed(
    database: LedgerDatabase, tmp_path: Path
) -> None:
    _keep_snapshot(database)
    archives = _archive_all(database, tmp_path)
    (tmp_path / archives[1].file_name).unlink()
    with pytest.raises(ArchiveUnusable, match=archives[1].file_name):
        _whole(database, tmp_path)
    assert _whole(database, tmp_path, archives[1].last)[0].position == archives[1].last + 1


def test_a_hole_in_the_table_is_not_taken_for_an_archive(
    database: LedgerDatabase, tmp_path: Path
) -> None:
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("DROP TABLE ledger_events_p000000000501")
    with pytest.raises(LogCorrupt) as hole:
        _whole(database, tmp_path)
    assert hole.value.position == 501


def test_a_damaged_partition_stays(database: LedgerDatabase, tmp_path: Path) -> None:
    _keep_snapshot(database)
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("ALTER TABLE ledger_events_p000000000501 DISABLE TRIGGER append_only")
        owner.execute(
            "UPDATE ledger_events_p000000000501 SET state = '{}' WHERE notification_id = 700"
        )
    with pytest.raises(LogCorrupt) as damage:
        _archive_all(database, tmp_path)
    assert damage.value.position == 700
    assert [row.position for row in _table(database)][:2] == [501, 502]
    assert len(list(tmp_path.glob("*.zst"))) == 1


# -- while the ledger runs --------------------------------------------------------------------


def test_appends_go_on_while_a_reader_is_in_the_way(
    database: LedgerDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_archive, "LOCK_PAUSE_SECONDS", 0.1)
    _keep_snapshot(database)
    slowest, appended, done = 0.0, threading.Event(), threading.Event()

    async def append_until_done() -> int:
        nonlocal slowest
        with datastore_of(database.writer_url) as datastore:
            recorder = LedgerRecorder(datastore)
            recorder.lead()
            count = 0
            while not done.is_set():
                started = time.monotonic()
                await recorder.append([StoredEvent("x", count + 1, "t:1", b"{}")])
                slowest = max(slowest, time.monotonic() - started)
                count += 1
                appended.set()
            recorder.close_writer()
            return count

    with (
        psycopg.connect(database.reader_url) as reader,
        ThreadPoolExecutor(2) as pool,
        LogArchivist(database.owner_url, tmp_path) as archivist,
    ):
        reader.execute("SELECT count(*) FROM ledger_events")
        (partition, *_) = archivist.archivable(keep_partitions=0)
        appending = pool.submit(asyncio.run, append_until_done())
        assert appended.wait(DEADLINE_SECONDS)
        archiving = pool.submit(archivist.archive, partition, lambda _: None)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not _waits_for_the_table(database):
            assert time.monotonic() < deadline, "dropping does not wait for the reader"
            time.sleep(0.01)
        assert not archiving.done()
        reader.rollback()
        assert archiving.result(DEADLINE_SECONDS).last == PARTITION_EVENTS
        done.set()
        assert appending.result(DEADLINE_SECONDS) > 1
    assert slowest < 2.0  # an append's own deadline is 4 s


def _waits_for_the_table(database: LedgerDatabase) -> bool:
    with psycopg.connect(database.owner_url) as owner:
        row = owner.execute(
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
        ).fetchone()
        return row is not None and row[0] > 0


def test_a_reader_that_never_ends_is_a_clear_error(
    database: LedgerDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_archive, "LOCK_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(postgres_archive, "LOCK_PATIENCE_SECONDS", 0.5)
    _keep_snapshot(database)
    with psycopg.connect(database.reader_url) as reader:
        reader.execute("SELECT count(*) FROM ledger_events")
        with pytest.raises(StoreUnavailable, match="somebody reads the log"):
            _archive_all(database, tmp_path)
    assert _table(database)[0].position == 1
    assert _archive_all(database, tmp_path)


def test_two_at_once_archive_everything_once(
    database: LedgerDatabase, events: list[LedgerEvent], tmp_path: Path
) -> None:
    before = _whole(database, tmp_path)
    _keep_snapshot(database)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(_archive_all, database, tmp_path) for _ in range(2)]
        assert sorted(len(run.result()) for run in runs) == [0, _full_partitions(events)]
    assert _whole(database, tmp_path) == before


def test_a_reader_of_all_does_not_notice(database: LedgerDatabase, tmp_path: Path) -> None:
    before = _whole(database, tmp_path)
    _keep_snapshot(database)
    done = threading.Event()

    def read_on() -> int:
        count = 0
        while not done.is_set():
            assert _whole(database, tmp_path) == before
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_on)
        try:
            assert _archive_all(database, tmp_path)
        finally:
            done.set()
        assert reading.result(DEADLINE_SECONDS) > 0


def test_killed_at_any_instant_nothing_is_lost(database: LedgerDatabase, tmp_path: Path) -> None:
    before = _whole(database, tmp_path)
    _keep_snapshot(database)
    kills, limit = 0, 0.02
    while _archivable(database):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, database.owner_url, tmp_path], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()  # it begins with a partition
        try:
            child.wait(random.uniform(0, limit))  # seeded by pytest-randomly
        except subprocess.TimeoutExpired:
            child.kill()
            kills += 1
            limit *= 1.7
        child.communicate()
        assert _whole(database, tmp_path) == before
    assert _archive_all(database, tmp_path) == []
    assert kills > 0


_CHILD = """
import sys
from pathlib import Path
from engine.postgres.archive import LogArchivist
with LogArchivist(sys.argv[1], Path(sys.argv[2])) as archivist:
    for partition in archivist.archivable(keep_partitions=0):
        print(partition.first, flush=True)
        archivist.archive(partition, lambda _: None)
"""


# -- and back ---------------------------------------------------------------------------------


def test_a_restored_partition_is_as_it_was(
    database: LedgerDatabase, events: list[LedgerEvent], tmp_path: Path
) -> None:
    rows, before = _table(database), _whole(database, tmp_path)
    _keep_snapshot(database)
    archives = _archive_all(database, tmp_path)
    with LogArchivist(database.owner_url, tmp_path) as archivist:
        # Out of order: a partition between two archives is read where it belongs.
        for number in (1, 0, *range(2, len(archives))):
            path = tmp_path / archives[number].file_name
            assert archivist.restore(path, lambda _: None) == archives[number]
            assert _whole(database, tmp_path) == before
        assert archivist.archives() == []
    assert _table(database) == rows
    last = archives[-1].last
    assert {entry for entry in _history(database) if entry[1] <= last} == {
        (key, position)
        for position, event in enumerate(events[:last], start=1)
        for key in (stream_key(stream_id(event)), *history_keys(event))
    }
    with (
        psycopg.connect(database.owner_url) as owner,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
    ):
        owner.execute("DELETE FROM ledger_events_p000000000001")
    assert _archive_all(database, tmp_path) == archives


def test_what_is_in_the_table_is_not_restored(database: LedgerDatabase, tmp_path: Path) -> None:
    _keep_snapshot(database)
    first, *_ = _archive_all(database, tmp_path)
    path = tmp_path / first.file_name
    with LogArchivist(database.owner_url, tmp_path) as archivist:
        archivist.restore(path, lambda _: None)
        with pytest.raises(ArchiveUnusable, match="has 1 to 500 in its table"):
            archivist.restore(path, lambda _: None)


def test_damaged_or_foreign_files_are_not_restored(
    database: LedgerDatabase, tmp_path: Path
) -> None:
    _keep_snapshot(database)
    first, second, *_ = _archive_all(database, tmp_path)
    path = tmp_path / second.file_name
    sound = path.read_bytes()
    with (
        LogArchivist(database.owner_url, tmp_path) as archivist,
        psycopg.connect(database.owner_url, autocommit=True) as owner,
    ):
        path.write_bytes(sound[:-9])
        with pytest.raises(ArchiveUnusable, match="damaged"):
            archivist.restore(path, lambda _: None)
        path.write_bytes(sound)
        owner.execute("UPDATE ledger_archives SET hash_after = '' WHERE first_position = 501")
        with pytest.raises(ArchiveUnusable, match="not this log's"):
            archivist.restore(path, lambda _: None)
        owner.execute("DELETE FROM ledger_archives WHERE first_position = 1")
        with pytest.raises(ArchiveUnusable, match="does not follow"):
            archivist.restore(path, lambda _: None)
    assert first.last == 500
    assert _table(database)[0].position > 1_000


# -- the command ------------------------------------------------------------------------------


@pytest.fixture
def as_owner(database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch) -> LedgerDatabase:
    monkeypatch.setenv("DURIAN_POSTGRES_URL", database.owner_url)
    return database


def test_the_command_archives_verifies_and_restores(
    as_owner: LedgerDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _whole(as_owner, tmp_path)
    _keep_snapshot(as_owner)
    options = ["--directory", str(tmp_path), "--keep-partitions", "1"]
    assert run(["log", "archive", *options, "--dry-run", "--json"]) == 0
    planned = msgspec.json.decode(capsys.readouterr().out)
    assert planned["archived"] == []
    assert list(tmp_path.iterdir()) == []
    assert run(["log", "archive", *options, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert [{k: a[k] for k in ("first", "last")} for a in done["archived"]] == planned["planned"]
    assert done["snapshot_position"] == len(before)
    assert run(["log", "archive", *options]) == 0
    assert "nothing to archive" in capsys.readouterr().out
    files = sorted(map(str, tmp_path.iterdir()))
    assert run(["log", "verify-archive", *files]) == 0
    assert capsys.readouterr().out.count("sound") == len(files)
    assert run(["log", "restore", files[0]]) == 0
    assert "restored 1 to 500" in capsys.readouterr().out
    assert _whole(as_owner, tmp_path) == before


def test_the_command_finds_damage(
    as_owner: LedgerDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _keep_snapshot(as_owner)
    archives = _archive_all(as_owner, tmp_path)
    files = [str(tmp_path / archive.file_name) for archive in archives]
    os.truncate(files[0], 200)
    assert run(["log", "verify-archive", *files, "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert [finding["file"] for finding in shown["findings"]] == files[:1]
    assert len(shown["archives"]) == len(files) - 1
    assert run(["log", "restore", files[0]]) == 1
    assert archives[0].file_name in capsys.readouterr().err


def test_the_command_says_what_it_needs(
    as_owner: LedgerDatabase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DURIAN_POSTGRES_URL", "postgresql://nobody:x@127.0.0.1:1/none")
    assert run(["log", "archive"]) == 3
    monkeypatch.setenv("DURIAN_POSTGRES_URL", as_owner.reader_url)
    assert run(["log", "archive", "--dry-run"]) == 0
    with psycopg.connect(as_owner.owner_url) as owner:
        owner.execute("UPDATE alembic_version SET version_num = '0001'")
    assert run(["log", "archive"]) == 1
    assert "run `durian migrate`" in capsys.readouterr().err
