"""Where snapshots are kept: one suite for the twin and PostgreSQL."""

import pytest

from engine.errors import StoreUnavailable
from engine.memory import MemorySnapshots
from engine.ports import SnapshotStore, StoredSnapshot
from engine.postgres.snapshots import PostgresSnapshots
from tests.fixtures.postgres import LedgerDatabase

pytestmark = pytest.mark.services


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> SnapshotStore:
    if request.param == "memory":
        return MemorySnapshots()
    database: LedgerDatabase = request.getfixturevalue("ledger_database")
    return PostgresSnapshots(database.writer_url)


def _snapshot(position: int, version: int = 1, body: bytes = b"body") -> StoredSnapshot:
    return StoredSnapshot(position, version, bytes(32), b"\1" * 32, body)


def test_nothing_is_kept_at_first(store: SnapshotStore) -> None:
    assert list(store.snapshots()) == []


def test_snapshots_are_read_as_they_were_saved_newest_first(store: SnapshotStore) -> None:
    large = _snapshot(20, body=bytes(range(256)) * 40_000)
    store.save_snapshot(_snapshot(10))
    store.save_snapshot(large)
    assert list(store.snapshots()) == [large, _snapshot(10)]


def test_the_three_newest_are_kept(store: SnapshotStore) -> None:
    for position in (10, 20, 30, 40, 50):
        store.save_snapshot(_snapshot(position))
    assert [one.position for one in store.snapshots()] == [50, 40, 30]


def test_versions_of_one_position_are_kept_apart(store: SnapshotStore) -> None:
    store.save_snapshot(_snapshot(10, version=1))
    store.save_snapshot(_snapshot(10, version=2))
    assert [(one.position, one.version) for one in store.snapshots()] == [(10, 2), (10, 1)]


def test_saving_again_changes_nothing(store: SnapshotStore) -> None:
    store.save_snapshot(_snapshot(10))
    store.save_snapshot(_snapshot(10, body=b"another"))
    assert list(store.snapshots()) == [_snapshot(10)]


def test_an_absent_server_is_a_fault_of_the_store(ledger_database: LedgerDatabase) -> None:
    absent = PostgresSnapshots("postgresql://nobody:x@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable):
        list(absent.snapshots())
    with pytest.raises(StoreUnavailable):
        absent.save_snapshot(_snapshot(1))
    with pytest.raises(StoreUnavailable):
        PostgresSnapshots(ledger_database.reader_url).save_snapshot(_snapshot(1))
