"""The log's schema: made, upgraded from before versions were kept, checked, and who may do what."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import psycopg
import pytest
from alembic.script import ScriptDirectory
from eventsourcing.persistence import StoredEvent
from psycopg import errors

from engine.errors import Fenced, SchemaVersion, StoreUnavailable
from engine.hashing import GENESIS_HASH, chain
from engine.ports import LoggedEvent
from engine.postgres import provision as provisioning
from engine.postgres.datastore import datastore_of
from engine.postgres.migrations.versions import v0001_one_table, v0002_partitions
from engine.postgres.provision import provision
from engine.postgres.recorder import LedgerRecorder
from engine.postgres.schema import SCHEMA_VERSION, require_schema, schema_version
from ops.cli import run
from schemas.codecs import encode_event
from schemas.events import LedgerEvent
from schemas.history import history_keys, order_key, stream_key, trade_key, user_key
from schemas.streams import stream_id
from tests.fixtures.ledger_logs import random_log
from tests.fixtures.postgres import PASSWORDS, LedgerDatabase, provisioned

pytestmark = pytest.mark.services
PARTITION_EVENTS = 100
DEADLINE_SECONDS = 30.0


# -- the old shape ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def events() -> list[LedgerEvent]:
    return random_log(7, seconds=60, trades=20)


def _stored(events: Sequence[LedgerEvent]) -> Iterator[StoredEvent]:
    versions: dict[str, int] = {}
    for event in events:
        stream = stream_id(event)
        versions[stream] = versions.get(stream, 0) + 1
        yield StoredEvent(stream, versions[stream], "t:1", encode_event(event))


@pytest.fixture
def old_database(empty_database: str, events: list[LedgerEvent]) -> str:
    """A ledger with events as it was made before versions of the schema were kept."""
    stored = list(_stored(events))
    hashes = list(chain(GENESIS_HASH, (event.state for event in stored)))
    with psycopg.connect(empty_database) as owner:
        for role in (provisioning.WRITER_ROLE, provisioning.READER_ROLE):
            if not owner.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
                owner.execute(f"CREATE ROLE {role} LOGIN".encode())
        owner.execute(v0001_one_table.TABLES.encode())
        owner.execute(v0001_one_table.RIGHTS.encode())
        owner.cursor().executemany(
            "INSERT INTO ledger_events VALUES (%s, %s, %s, %b, %s, 1, %b)",
            [
                (event.originator_id, event.originator_version, event.topic, event.state, p, h)
                for p, (event, h) in enumerate(zip(stored, hashes, strict=True), start=1)
            ],
        )
        owner.execute(
            "UPDATE ledger_events_head SET epoch = 1, position = %s, hash = %b",
            (len(stored), hashes[-1]),
        )
    return empty_database


def _read(url: str) -> list[LoggedEvent]:
    with datastore_of(url) as datastore:
        return list(LedgerRecorder(datastore).read())


def _indexed(connection: psycopg.Connection[tuple[Any, ...]]) -> set[tuple[int, int]]:
    """Of ledger_history: every key with each of its positions."""
    found: set[tuple[int, int]] = set()
    for key, last, positions in connection.execute("SELECT * FROM ledger_history"):
        assert positions == sorted(positions)
        assert positions[-1] == last
        found |= {(key, position) for position in positions}
    return found


def _partitions(url: str) -> list[tuple[int, int]]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT first_position, last_position FROM ledger_partitions ORDER BY 1"
        )
        return [(first, last) for first, last in rows]


# -- versions ---------------------------------------------------------------------------------


def test_the_newest_migration_is_the_version_that_parts_require() -> None:
    scripts = ScriptDirectory(str(provisioning.MIGRATIONS))
    assert scripts.get_current_head() == SCHEMA_VERSION
    assert [step.revision for step in scripts.walk_revisions()] == ["0003", "0002", "0001"]


def test_a_run_tells_what_it_did_and_the_second_does_nothing(empty_database: str) -> None:
    first = provision(empty_database, **PASSWORDS)
    assert (first.before, first.after) == (None, SCHEMA_VERSION)
    assert [step.split(":")[0] for step in first.applied] == ["0001", "0002", "0003"]
    second = provision(empty_database, **PASSWORDS)
    assert (second.before, second.applied) == (SCHEMA_VERSION, [])


def test_a_part_starts_on_its_own_version(ledger_database: LedgerDatabase) -> None:
    for url in (ledger_database.writer_url, ledger_database.reader_url):
        require_schema(url)


@pytest.mark.parametrize("database", ["empty_database", "old_database"])
def test_a_part_does_not_start_without_a_schema(
    database: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(SchemaVersion, match="run `durian migrate`") as refused:
        require_schema(request.getfixturevalue(database))
    assert refused.value.found is None


@pytest.mark.parametrize(
    ("version", "advice"), [("0001", "run `durian migrate`"), ("9999", "newer than this program")]
)
def test_a_part_does_not_start_on_another_version(
    ledger_database: LedgerDatabase, version: str, advice: str
) -> None:
    with psycopg.connect(ledger_database.owner_url) as owner:
        owner.execute("UPDATE alembic_version SET version_num = %s", (version,))
    with pytest.raises(SchemaVersion, match=advice) as refused:
        require_schema(ledger_database.writer_url)
    assert (refused.value.found, refused.value.expected) == (version, SCHEMA_VERSION)


def test_a_newer_database_is_not_touched(ledger_database: LedgerDatabase) -> None:
    with psycopg.connect(ledger_database.owner_url) as owner:
        owner.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaVersion, match="newer than this program"):
        provision(ledger_database.owner_url, **PASSWORDS)
    assert schema_version(ledger_database.owner_url) == "9999"


@pytest.mark.parametrize(("version", "code"), [(SCHEMA_VERSION, 0), ("0001", 1), ("9999", 1)])
def test_the_command_checks_the_version(
    ledger_database: LedgerDatabase,
    version: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DURIAN_POSTGRES_URL", ledger_database.owner_url)
    with psycopg.connect(ledger_database.owner_url) as owner:
        owner.execute("UPDATE alembic_version SET version_num = %s", (version,))
    assert run(["migrate", "--check", "--json"]) == code
    shown = msgspec.json.decode(capsys.readouterr().out)
    assert shown == {"present": version, "expected": SCHEMA_VERSION}
    assert run(["migrate", "--check"]) == code


def test_an_absent_server_is_a_fault_of_the_store() -> None:
    with pytest.raises(StoreUnavailable):
        require_schema("postgresql://nobody:x@127.0.0.1:1/none")


# -- runs -------------------------------------------------------------------------------------


def test_several_runs_at_once_make_one_schema(empty_database: str) -> None:
    together = threading.Barrier(4)

    def run(_: int) -> list[str]:
        together.wait()
        return provision(empty_database, **PASSWORDS).applied

    with ThreadPoolExecutor(4) as pool:
        applied = sorted(pool.map(run, range(4)))
    assert [len(steps) for steps in applied] == [0, 0, 0, 3]
    assert len(_partitions(empty_database)) == 2


def test_a_failed_run_leaves_the_old_schema(old_database: str, events: list[LedgerEvent]) -> None:
    def shape() -> list[object]:
        with psycopg.connect(old_database) as owner:
            rows = owner.execute(
                "SELECT relname, relkind, relacl::text FROM pg_class"
                " WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
            )
            return list(rows)

    before = shape()
    with psycopg.connect(old_database) as owner:
        # In the way of 0002, near its end.
        owner.execute("CREATE FUNCTION durian_extend_log() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    with pytest.raises(StoreUnavailable, match="durian_extend_log"):
        provision(old_database, **PASSWORDS)
    assert shape() == before
    assert schema_version(old_database) is None
    with psycopg.connect(old_database) as owner:
        owner.execute("DROP FUNCTION durian_extend_log")
    provision(old_database, **PASSWORDS)
    assert len(_read(old_database)) == len(events)


# -- a ledger from before ---------------------------------------------------------------------


@pytest.mark.parametrize("partition_events", [None, PARTITION_EVENTS])
def test_an_old_log_is_kept_to_the_byte_and_goes_on(
    old_database: str, events: list[LedgerEvent], partition_events: int | None
) -> None:
    with psycopg.connect(old_database) as owner:
        before = [LoggedEvent(*row) for row in owner.execute(_OLD_READ)]
        (file,) = owner.execute("SELECT pg_relation_filenode('ledger_events')").fetchone() or ()
    database = provisioned(old_database, partition_events=partition_events)
    assert _read(database.reader_url) == before
    with psycopg.connect(old_database) as owner:
        same = owner.execute("SELECT pg_relation_filenode('ledger_events_p000000000001')")
        assert same.fetchone() == (file,)  # attached, not copied

    async def go_on() -> None:
        with datastore_of(database.writer_url) as datastore:
            recorder = LedgerRecorder(datastore)
            assert recorder.lead()[:2] == (3, len(events))  # the migration fenced who led
            await recorder.append([StoredEvent("later", 1, "t:1", b"{}")])
            recorder.close_writer()

    asyncio.run(go_on())
    assert [event.payload for event in _read(database.reader_url)[-2:]] == [
        encode_event(events[-1]),
        b"{}",
    ]


_OLD_READ = (
    "SELECT notification_id, originator_id, state, hash FROM ledger_events ORDER BY notification_id"
)


def test_the_history_of_an_old_log_is_filled(old_database: str, events: list[LedgerEvent]) -> None:
    database = provisioned(old_database)
    expected = {
        (key, position)
        for position, event in enumerate(events, 1)
        for key in (stream_key(stream_id(event)), *history_keys(event))
    }
    with psycopg.connect(database.reader_url) as reader:
        assert _indexed(reader) == expected
    assert {order_key(1), trade_key(1), user_key("maker")} <= {key for key, _ in expected}


def test_an_old_log_longer_than_a_partition_is_one_partition(
    old_database: str, events: list[LedgerEvent]
) -> None:
    provisioned(old_database, partition_events=PARTITION_EVENTS)
    full = -(-len(events) // PARTITION_EVENTS) * PARTITION_EVENTS
    assert full > PARTITION_EVENTS
    assert _partitions(old_database) == [(1, full), (full + 1, full + PARTITION_EVENTS)]


def test_a_writer_that_runs_on_is_fenced(old_database: str) -> None:
    with psycopg.connect(old_database) as owner:
        owner.execute("GRANT durian_log_writer TO CURRENT_USER")

    async def append() -> None:
        with datastore_of(old_database) as datastore:
            recorder = LedgerRecorder(datastore)
            recorder.lead()
            provision(old_database, **PASSWORDS)
            try:
                await recorder.append([StoredEvent("later", 1, "t:1", b"{}")])
            finally:
                recorder.close_writer()

    with pytest.raises((Fenced, StoreUnavailable)):
        asyncio.run(append())


# -- partitions -------------------------------------------------------------------------------


def test_a_new_log_begins_with_two_partitions(ledger_database: LedgerDatabase) -> None:
    size = v0002_partitions.PARTITION_EVENTS
    assert _partitions(ledger_database.owner_url) == [(1, size), (size + 1, 2 * size)]


def test_the_log_grows_into_new_partitions(empty_database: str) -> None:
    database = provisioned(empty_database, partition_events=PARTITION_EVENTS)

    async def fill() -> None:
        with datastore_of(database.writer_url) as datastore:
            recorder = LedgerRecorder(datastore)
            recorder.lead()
            for after in range(0, 450, 50):
                batch = [
                    StoredEvent("s", version, "t:1", b"{}")
                    for version in range(after + 1, after + 51)
                ]
                await recorder.append(batch, [(1, 0), (2, 49)])
            recorder.close_writer()

    asyncio.run(fill())
    assert [event.position for event in _read(database.reader_url)] == list(range(1, 451))
    firsts = [first for first, _ in _partitions(database.owner_url)]
    assert firsts == list(range(1, firsts[-1] + 1, PARTITION_EVENTS))
    assert firsts[-1] > 450
    with psycopg.connect(database.writer_url) as writer:
        writer.execute("SELECT durian_index_history(1000000)")
        assert {p for key, p in _indexed(writer) if key == 2} == set(range(50, 451, 50))


def test_extending_waits_for_no_reader_and_holds_nobody_up(empty_database: str) -> None:
    database = provisioned(empty_database, partition_events=PARTITION_EVENTS)
    with (
        psycopg.connect(database.reader_url) as reader,
        psycopg.connect(database.owner_url, autocommit=True) as owner,
        psycopg.connect(database.writer_url) as writer,
    ):
        reader.execute("SELECT count(*) FROM ledger_events")  # its locks last to its end
        owner.execute("UPDATE ledger_events_head SET position = 250")
        writer.execute("SET lock_timeout = '5s'")
        assert writer.execute("SELECT durian_extend_log()").fetchone() == (301,)
        # Before the writer's commit: readers plan around what they cannot see.
        reader.execute("SET lock_timeout = '5s'")
        reader.execute("SELECT count(*) FROM ledger_events")
    assert _partitions(database.owner_url)[-1] == (301, 400)


def test_extending_again_and_at_once_makes_nothing_twice(empty_database: str) -> None:
    database = provisioned(empty_database, partition_events=PARTITION_EVENTS)
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("UPDATE ledger_events_head SET position = 1000")

    def extend(_: int) -> object:
        deadline = time.monotonic() + DEADLINE_SECONDS
        with psycopg.connect(database.writer_url, autocommit=True) as writer:
            while True:
                try:
                    return writer.execute("SELECT durian_extend_log()").fetchone()
                except errors.LockNotAvailable:  # another one is at it; the writer tries later
                    assert time.monotonic() < deadline

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(extend, range(8))) == {(1101,)}
    assert len(_partitions(database.owner_url)) == 12


def test_history_of_batches_moves_into_the_index(empty_database: str) -> None:
    database = provisioned(empty_database, partition_events=PARTITION_EVENTS)
    batches = [(1, [7, 8, 7], [0, 1, 2]), (4, [8], [0]), (98, [9, 7], [0, 3])]
    expected = {(7, 1), (8, 2), (7, 3), (8, 4), (9, 98), (7, 101)}
    with psycopg.connect(database.writer_url, autocommit=True) as writer:
        writer.cursor().executemany(
            "INSERT INTO ledger_history_recent VALUES (%s, %s, %s)", batches
        )
        moved = [writer.execute("SELECT durian_index_history(3)").fetchone() for _ in range(3)]
        assert moved == [(3,), (3,), (0,)]  # whole batches, until the limit is reached
        assert _indexed(writer) == expected
        assert list(writer.execute("SELECT FROM ledger_history_recent")) == []


def test_two_do_not_index_at_once(ledger_database: LedgerDatabase) -> None:
    with (
        psycopg.connect(ledger_database.writer_url) as first,
        psycopg.connect(ledger_database.writer_url) as second,
    ):
        first.execute("INSERT INTO ledger_history_recent VALUES (1, '{5}', '{0}')")
        first.commit()
        assert first.execute("SELECT durian_index_history(10)").fetchone() == (1,)
        assert second.execute("SELECT durian_index_history(10)").fetchone() == (0,)


# -- rights -----------------------------------------------------------------------------------

READABLE = (
    "events",
    "events_head",
    "history",
    "history_recent",
    "answers",
    "snapshots",
    "partitions",
    "archives",
)
LOG_TABLES = (
    "ledger_events",
    "ledger_events_p000000000001",
    "ledger_history",
    "ledger_history_p000000000001",
)
CHANGES = ("UPDATE {} SET {} = 1", "DELETE FROM {}", "TRUNCATE {}")


FORBIDDEN_TO_THE_WRITER = (
    "CREATE TABLE mine (x int)",
    "DROP TABLE ledger_events_p000000000001",
    "ALTER TABLE ledger_events DETACH PARTITION ledger_events_p000000000001",
    "ALTER TABLE ledger_events DISABLE TRIGGER append_only",
    "CREATE OR REPLACE FUNCTION durian_refuse_change() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NULL; END'",
    "SELECT durian_make_partition(99, 100)",
    "SELECT durian_attach_partition(1, 2)",
    "INSERT INTO ledger_events_p000000000001 VALUES ('s', 1, 't', '', 1, 1, '')",
    "INSERT INTO ledger_history VALUES (1, 1, '{1}')",
    "INSERT INTO ledger_history_p000000000001 VALUES (1, 1, '{1}')",
    "UPDATE ledger_settings SET partition_events = 1",
    "UPDATE ledger_snapshots SET body = ''",
    "UPDATE ledger_answers SET records = ''",
    "DELETE FROM ledger_events_head",
    "DELETE FROM ledger_archives",
    "DELETE FROM ledger_history_recent",
    "UPDATE ledger_history_recent SET indexes = '{}'",
    "UPDATE alembic_version SET version_num = '9'",
)


def _refused(url: str, statement: str, reason: str = "permission denied|must be owner") -> None:
    with (
        psycopg.connect(url) as connection,
        pytest.raises(errors.InsufficientPrivilege, match=reason),
    ):
        connection.execute(statement.encode())


@pytest.mark.parametrize("who", ["owner_url", "writer_url", "reader_url"])
def test_nobody_changes_what_is_logged(ledger_database: LedgerDatabase, who: str) -> None:
    reason = "append-only" if who == "owner_url" else "permission denied"
    for table in LOG_TABLES:
        column = "last_position" if "history" in table else "epoch"
        for change in CHANGES:
            _refused(getattr(ledger_database, who), change.format(table, column), reason)


def test_the_writer_changes_nothing_but_by_appending(ledger_database: LedgerDatabase) -> None:
    for statement in FORBIDDEN_TO_THE_WRITER:
        _refused(ledger_database.writer_url, statement)


def test_the_writer_may_forget_answers_and_snapshots(ledger_database: LedgerDatabase) -> None:
    with psycopg.connect(ledger_database.writer_url) as writer:
        writer.execute("INSERT INTO ledger_answers VALUES (1, 1, '')")
        writer.execute("INSERT INTO ledger_snapshots VALUES (1, 1, '', '', '')")
        writer.execute("DELETE FROM ledger_answers WHERE at_ns < 2")
        writer.execute("DELETE FROM ledger_snapshots WHERE position < 2")
        writer.execute("UPDATE ledger_events_head SET address = 'tcp://127.0.0.1:1'")


def test_the_reader_only_reads(ledger_database: LedgerDatabase) -> None:
    with psycopg.connect(ledger_database.reader_url) as reader:
        for table in READABLE:
            reader.execute(f"SELECT * FROM ledger_{table}".encode())
    for statement in (
        "SELECT durian_extend_log()",
        "SELECT durian_index_history(1)",
        "INSERT INTO ledger_events VALUES ('s', 1, 't', '', 1, 1, '')",
        "UPDATE ledger_events_head SET position = 9",
    ):
        _refused(ledger_database.reader_url, statement)
