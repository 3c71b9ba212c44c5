"""One suite for every EventLog: the twin in memory and the recorder on real PostgreSQL.

Then what only PostgreSQL promises: rights, the append-only trigger, and the relay's tail.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent
from psycopg import errors

from engine.errors import Fenced, LogCorrupt, StoreUnavailable
from engine.hashing import GENESIS_HASH, chain
from engine.memory import MemoryLog, MemoryStore
from engine.ports import EventLog, Head, LoggedEvent
from engine.postgres.datastore import datastore_of
from engine.postgres.provision import provision
from engine.postgres.recorder import LedgerRecorder
from engine.postgres.tail import PostgresTail
from tests.fixtures.postgres import PASSWORDS, LedgerDatabase, provisioned

pytestmark = pytest.mark.services
OpenLog = Callable[[], EventLog]
DEADLINE_SECONDS = 30.0


def _batch(size: int, *, stream: str = "s", after: int = 0) -> list[StoredEvent]:
    """Events of one stream with versions from after + 1; payloads tell them apart."""
    return [
        StoredEvent(stream, version, "t:1", b'{"%s":%d}' % (stream.encode(), version))
        for version in range(after + 1, after + size + 1)
    ]


def _append(log: EventLog, *batches: Sequence[StoredEvent]) -> Head:
    async def each() -> None:
        for batch in batches:
            await log.append(batch)

    asyncio.run(each())
    return log.head


def _stored(log: EventLog, after: int = 0) -> list[LoggedEvent]:
    return list(log.read(after))


class EventLogContract:
    """What every EventLog keeps; `open_log` gives one more writer of the same ledger."""

    def test_empty_log_starts_at_zero_in_epoch_one(self, open_log: OpenLog) -> None:
        log = open_log()
        assert log.lead() == log.head == Head(1, 0, GENESIS_HASH)
        assert _stored(log) == []

    def test_positions_are_dense_and_hashes_chain(self, open_log: OpenLog) -> None:
        log = open_log()
        log.lead()
        batches = [_batch(3), _batch(1, stream="o"), _batch(2, after=3)]
        head = _append(log, *batches)
        stored = _stored(log)
        payloads = [event.state for batch in batches for event in batch]
        assert [event.position for event in stored] == [1, 2, 3, 4, 5, 6]
        assert [event.stream_id for event in stored] == ["s", "s", "s", "o", "s", "s"]
        assert [event.payload for event in stored] == payloads
        assert [event.hash for event in stored] == list(chain(GENESIS_HASH, payloads))
        assert head == Head(1, 6, stored[-1].hash)

    def test_any_bytes_are_stored_exactly(self, open_log: OpenLog) -> None:
        log = open_log()
        log.lead()
        payloads = [b"", b"\0\n\xff\\x00", bytes(range(256)) * 300]
        _append(log, [StoredEvent("\u00fc", v, "t:1", p) for v, p in enumerate(payloads, start=1)])
        assert [event.payload for event in _stored(log)] == payloads
        assert {event.stream_id for event in _stored(log)} == {"\u00fc"}

    def test_reading_starts_after_a_position(self, open_log: OpenLog) -> None:
        log = open_log()
        log.lead()
        _append(log, _batch(5))
        assert [event.position for event in _stored(log, after=3)] == [4, 5]
        assert _stored(log, after=5) == []
        assert _stored(log, after=99) == []

    def test_an_empty_batch_changes_nothing(self, open_log: OpenLog) -> None:
        log = open_log()
        head = log.lead()
        assert _append(log, []) == head
        assert _stored(log) == []

    def test_an_empty_batch_of_a_stale_leader_is_fenced(self, open_log: OpenLog) -> None:
        stale, leader = open_log(), open_log()
        stale.lead()
        _append(stale, [])
        leader.lead()
        with pytest.raises(Fenced):
            _append(stale, [])

    def test_who_does_not_lead_cannot_append(self, open_log: OpenLog) -> None:
        log = open_log()
        with pytest.raises(StoreUnavailable):
            _append(log, _batch(1))
        assert _stored(log) == []

    def test_next_leader_goes_on_where_the_log_ends(self, open_log: OpenLog) -> None:
        first, second = open_log(), open_log()
        first.lead()
        head = _append(first, _batch(2))
        assert second.lead() == Head(2, 2, head.hash)
        _append(second, _batch(1, after=2))
        assert [event.position for event in _stored(second)] == [1, 2, 3]

    def test_stale_leader_is_fenced_also_the_second_time(self, open_log: OpenLog) -> None:
        stale, leader = open_log(), open_log()
        stale.lead()
        _append(stale, _batch(2))
        leader.lead()
        for attempt in range(2):
            with pytest.raises(Fenced) as fenced:
                _append(stale, _batch(1, stream=f"stale{attempt}"))
            assert (fenced.value.epoch, fenced.value.position) == (1, 2)
            assert len(_stored(leader)) == 2
        _append(leader, _batch(1, after=2))
        with pytest.raises(Fenced):
            _append(stale, _batch(1, stream="stale2"))
        assert [event.stream_id for event in _stored(leader)] == ["s"] * 3
        assert stale.lead().position == 3
        assert _append(stale, _batch(1, after=3)).position == 4

    def test_leading_again_learns_what_became_of_a_cut_off_append(self, open_log: OpenLog) -> None:
        log = open_log()
        log.lead()
        _append(log, _batch(2))

        async def cut_off() -> None:
            loop = asyncio.get_running_loop()
            appending = asyncio.create_task(log.append(_batch(3, after=2)))
            loop.call_soon(appending.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await appending

        asyncio.run(cut_off())
        head = log.lead()
        stored = _stored(log)
        assert head.position == len(stored)
        assert head.position in (2, 5)  # all of the batch or nothing
        assert head.hash == stored[-1].hash
        assert _append(log, _batch(1, after=head.position)).position == head.position + 1

    def test_a_batch_of_thousands_is_one_step(self, open_log: OpenLog) -> None:
        log = open_log()
        log.lead()
        head = _append(log, _batch(5_000), _batch(5_000, after=5_000))
        assert head.position == 10_000
        assert [event.position for event in _stored(log)] == list(range(1, 10_001))

    def test_a_batch_larger_than_any_socket_buffer_does_not_hang(self, open_log: OpenLog) -> None:
        log = open_log()
        log.lead()
        batch = [StoredEvent("s", v, "t:1", b"%d" % v * 10_000) for v in range(1, 1_001)]
        assert _append(log, batch).position == 1_000
        assert [event.payload for event in _stored(log)] == [event.state for event in batch]

    def test_a_reader_never_sees_a_hole_while_batches_arrive(self, open_log: OpenLog) -> None:
        log, reader = open_log(), open_log()
        log.lead()
        done, seen = threading.Event(), []

        def read_on() -> None:
            finished = False
            while not finished:
                finished = done.is_set()
                seen.append([event.position for event in reader.read()])

        thread = threading.Thread(target=read_on)
        thread.start()
        try:
            _append(log, *(_batch(7, after=7 * number) for number in range(150)))
        finally:
            done.set()
            thread.join()
        assert all(positions == list(range(1, len(positions) + 1)) for positions in seen)
        assert all(len(positions) % 7 == 0 for positions in seen)
        assert len(seen[-1]) == 1_050


class TestMemoryLog(EventLogContract):
    @pytest.fixture
    def open_log(self) -> OpenLog:
        store = MemoryStore()
        return lambda: MemoryLog(store)


class TestLedgerRecorder(EventLogContract):
    @pytest.fixture
    def open_log(self, ledger_database: LedgerDatabase) -> Iterator[OpenLog]:
        with contextlib.ExitStack() as opened:

            def open_recorder() -> EventLog:
                datastore = opened.enter_context(datastore_of(ledger_database.writer_url))
                recorder = LedgerRecorder(datastore)
                opened.callback(recorder.close_writer)
                return recorder

            yield open_recorder


@pytest.fixture
def recorder(ledger_database: LedgerDatabase) -> Iterator[LedgerRecorder]:
    """Leads an empty log."""
    with datastore_of(ledger_database.writer_url) as datastore:
        leading = LedgerRecorder(datastore)
        leading.lead()
        yield leading
        leading.close_writer()


CHANGES = (
    "UPDATE ledger_events SET state = 'x'",
    "DELETE FROM ledger_events",
    "TRUNCATE ledger_events",
)
SCHEMA_CHANGES = (
    "ALTER TABLE ledger_events DISABLE TRIGGER append_only",
    "DROP TRIGGER append_only ON ledger_events",
    "DROP TABLE ledger_events",
    "ALTER TABLE ledger_events ADD COLUMN extra int",
)
INSERT = "INSERT INTO ledger_events VALUES ('x', 1, 't', 'x', 9, 1, 'x')"
HEAD_CHANGES = (
    "DELETE FROM ledger_events_head",
    "INSERT INTO ledger_events_head VALUES (2, 0, 0, '')",
    "UPDATE ledger_events_head SET id = 2",
)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        *(("owner_url", statement) for statement in CHANGES),
        *(("writer_url", statement) for statement in (*CHANGES, *SCHEMA_CHANGES, *HEAD_CHANGES)),
        *(
            ("reader_url", statement)
            for statement in (
                *CHANGES,
                *SCHEMA_CHANGES,
                *HEAD_CHANGES,
                INSERT,
                "UPDATE ledger_events_head SET epoch = 9",
            )
        ),
    ],
)
def test_stored_events_cannot_be_changed(
    ledger_database: LedgerDatabase, recorder: LedgerRecorder, role: str, statement: str
) -> None:
    _append(recorder, _batch(2))
    before = _stored(recorder)
    with (
        psycopg.connect(getattr(ledger_database, role)) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())
    assert _stored(recorder) == before
    assert recorder.lead().position == 2


def test_writer_can_append_and_reader_can_read(
    ledger_database: LedgerDatabase, recorder: LedgerRecorder
) -> None:
    _append(recorder, _batch(2))
    with datastore_of(ledger_database.reader_url) as datastore:
        reader = LedgerRecorder(datastore)
        assert _stored(reader) == _stored(recorder)
        with pytest.raises(StoreUnavailable, match="permission denied"):
            reader.lead()


def test_provisioning_again_keeps_what_is_there(
    ledger_database: LedgerDatabase, recorder: LedgerRecorder
) -> None:
    _append(recorder, _batch(2))
    provision(ledger_database.owner_url, **PASSWORDS)
    assert _append(recorder, _batch(1, after=2)).position == 3
    provision(ledger_database.owner_url, **(PASSWORDS | {"reader_password": "another"}))
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(ledger_database.reader_url)


def test_provisioning_an_absent_server_is_a_fault_of_the_store() -> None:
    with pytest.raises(StoreUnavailable, match="cannot set up the database"):
        provision("postgresql://nobody:x@127.0.0.1:1/none", **PASSWORDS)


def test_url_without_its_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="user:password@host:port/database"):
        datastore_of("postgresql://127.0.0.1:5432/ledger")


def test_leading_an_absent_log_is_a_fault_of_the_store(empty_database: str) -> None:
    with datastore_of(empty_database) as datastore:
        recorder = LedgerRecorder(datastore)
        with pytest.raises(StoreUnavailable, match="cannot take the lead"):
            recorder.lead()
        with pytest.raises(StoreUnavailable):
            _stored(recorder)


def test_leading_without_the_head_row_says_what_to_do(
    ledger_database: LedgerDatabase, recorder: LedgerRecorder
) -> None:
    with psycopg.connect(ledger_database.owner_url) as connection:
        connection.execute("DELETE FROM ledger_events_head")
    with pytest.raises(StoreUnavailable, match="durian migrate"):
        recorder.lead()


def test_a_hole_is_reported_at_its_position(
    ledger_database: LedgerDatabase, recorder: LedgerRecorder
) -> None:
    _append(recorder, _batch(5))
    with psycopg.connect(ledger_database.owner_url) as connection:
        connection.execute("ALTER TABLE ledger_events DISABLE TRIGGER append_only")
        connection.execute("DELETE FROM ledger_events WHERE notification_id IN (3, 4)")
    with pytest.raises(LogCorrupt) as corrupt:
        _stored(recorder)
    assert corrupt.value.position == 3


def test_a_lost_connection_is_not_retried_and_leading_again_goes_on(
    ledger_database: LedgerDatabase, recorder: LedgerRecorder
) -> None:
    _append(recorder, _batch(2))
    with psycopg.connect(ledger_database.owner_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE usename = 'durian_log_writer' AND datname = current_database()"
        )
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            _append(recorder, _batch(1, after=2))
    assert recorder.lead().position == 2
    assert _append(recorder, _batch(1, after=2)).position == 3


def test_new_leader_waits_for_the_batch_in_flight(
    ledger_database: LedgerDatabase, recorder: LedgerRecorder
) -> None:
    """The batch waits for a row being written here; the new leader waits for the batch."""
    with (
        psycopg.connect(ledger_database.owner_url) as blocker,
        datastore_of(ledger_database.writer_url) as datastore,
    ):
        blocker.execute("INSERT INTO ledger_events VALUES ('s', 1, 't', 'x', 1, 1, 'x')")
        heads: list[Head] = []
        leader = LedgerRecorder(datastore)

        def append() -> None:
            _append(recorder, _batch(3))

        def lead() -> None:
            heads.append(leader.lead())

        appending, leading = threading.Thread(target=append), threading.Thread(target=lead)
        appending.start()
        _await_waiting(ledger_database, 1)
        leading.start()
        _await_waiting(ledger_database, 2)
        assert heads == []
        blocker.rollback()
        appending.join()
        leading.join()
        leader.close_writer()
    assert [(head.epoch, head.position) for head in heads] == [(2, 3)]


def _recorder_of(database: LedgerDatabase, opened: contextlib.ExitStack) -> LedgerRecorder:
    recorder = LedgerRecorder(opened.enter_context(datastore_of(database.writer_url)))
    opened.callback(recorder.close_writer)
    return recorder


@pytest.mark.parametrize("batch_events", [1, 30, 100])
def test_the_log_grows_from_partition_to_partition(empty_database: str, batch_events: int) -> None:
    database = provisioned(empty_database, partition_events=100)
    with contextlib.ExitStack() as opened:
        recorder = _recorder_of(database, opened)
        recorder.lead()
        batches = [
            _batch(batch_events, after=after) for after in range(0, 600 - 600 % 30, batch_events)
        ]
        head = _append(recorder, *batches)
        assert head.position == len(_stored(recorder))
        assert _stored(recorder, after=250) == _stored(recorder)[250:]
        with psycopg.connect(database.reader_url) as connection:
            (partitions,) = connection.execute(
                "SELECT count(*) FROM ledger_partitions"
            ).fetchone() or (0,)
        # The partition of the next event, and at most two beyond it.
        assert 0 <= partitions - (head.position // 100 + 1) <= 2
        assert recorder.lead() == head._replace(epoch=2)
        assert _append(recorder, _batch(1, stream="o")).position == head.position + 1


def test_a_partition_that_cannot_be_made_stops_nothing_while_one_is_free(
    empty_database: str,
) -> None:
    database = provisioned(empty_database, partition_events=100)
    with contextlib.ExitStack() as opened:
        recorder = _recorder_of(database, opened)
        recorder.lead()
        with psycopg.connect(database.owner_url) as connection:
            connection.execute(
                "REVOKE EXECUTE ON FUNCTION durian_extend_log FROM durian_log_writer"
            )
        _append(recorder, *(_batch(50, after=50 * number) for number in range(4)))
        with pytest.raises(StoreUnavailable, match="no partition"):
            _append(recorder, _batch(50, after=200))
        with psycopg.connect(database.owner_url) as connection:
            connection.execute("GRANT EXECUTE ON FUNCTION durian_extend_log TO durian_log_writer")
        assert recorder.lead().position == 200
        assert _append(recorder, _batch(50, after=200)).position == 250


def _await_waiting(database: LedgerDatabase, count: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        while True:
            waiting = connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone()
            if waiting == (count,):
                return
            assert time.monotonic() < deadline, waiting
            time.sleep(0.02)


def _with_tail(
    database: LedgerDatabase, use: Callable[[PostgresTail], Coroutine[Any, Any, None]]
) -> None:
    async def once() -> None:
        async with PostgresTail(database.reader_url) as tail:
            await use(tail)

    asyncio.run(once())


def test_tail_pages_through_the_log(
    ledger_database: LedgerDatabase, recorder: LedgerRecorder
) -> None:
    async def use(tail: PostgresTail) -> None:
        assert await tail.page(0, 10) == []
        await recorder.append(_batch(5))
        stored = _stored(recorder)
        assert await tail.page(0, 2) == stored[:2]
        assert await tail.page(2, 2) == stored[2:4]
        assert await tail.page(4, 2) == stored[4:]
        assert await tail.page(5, 2) == []

    _with_tail(ledger_database, use)


def test_tail_wakes_by_an_append_and_once_for_many(
    ledger_database: LedgerDatabase, recorder: LedgerRecorder
) -> None:
    async def use(tail: PostgresTail) -> None:
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(tail.wait(DEADLINE_SECONDS))
        await recorder.append(_batch(1))
        started = loop.time()
        await waiting
        assert loop.time() - started < DEADLINE_SECONDS / 2
        for number in range(1, 30):
            await recorder.append(_batch(1, after=number))
        assert len(await tail.page(0, 100)) == 30
        await tail.wait(DEADLINE_SECONDS)
        started = loop.time()
        await tail.wait(0.2)
        assert loop.time() - started >= 0.15

    _with_tail(ledger_database, use)


def test_tail_of_a_lost_server_is_a_fault_of_the_store(
    ledger_database: LedgerDatabase, recorder: LedgerRecorder
) -> None:
    async def use(tail: PostgresTail) -> None:
        with psycopg.connect(ledger_database.owner_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE usename = 'durian_log_reader' AND datname = current_database()"
            )
        with pytest.raises(StoreUnavailable):
            await tail.wait(1.0)
        with pytest.raises(StoreUnavailable):
            await tail.page(0, 1)
        with pytest.raises(StoreUnavailable):
            async with PostgresTail("postgresql://nobody:x@127.0.0.1:1/none"):
                pass

    _with_tail(ledger_database, use)
