"""The eventsourcing library's own paths work on LedgerRecorder's tables, and read the ledger's."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import (
    BaseAggregate,
    CanInitAggregate,
    CanMutateAggregate,
    MetaDomainEvent,
    event,
)
from eventsourcing.persistence import (
    IntegrityError,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Tracking,
)
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import ApplicationSubscription, Projection, ProjectionRunner

from engine.postgres.datastore import datastore_of
from engine.postgres.recorder import LedgerRecorder
from tests.fixtures.postgres import LedgerDatabase, provisioned

pytestmark = pytest.mark.services
DEADLINE_SECONDS = 30.0


class PurseEvent(CanMutateAggregate[str], metaclass=MetaDomainEvent):
    originator_id: str
    originator_version: int
    timestamp: datetime


class Purse(BaseAggregate[str]):
    """An aggregate with text ids, as the ledger's streams have."""

    class Event(PurseEvent):
        pass

    class Opened(CanInitAggregate[str], Event):
        originator_topic: str
        name: str

    class Filled(Event):
        amount_minor: int

    @event(Opened)
    def __init__(self, name: str) -> None:
        self.name = name
        self.total_minor = 0

    @staticmethod
    def create_id(name: str) -> str:
        return f"purse:{name}"

    @event(Filled)
    def fill(self, amount_minor: int) -> None:
        self.total_minor += amount_minor


class Purses(Application[str]):
    """Stored in purses_events."""


@pytest.fixture
def environment(empty_database: str) -> dict[str, str]:
    parts = urlsplit(empty_database)
    return {
        "PERSISTENCE_MODULE": "engine.postgres.recorder:LedgerFactory",
        "ORIGINATOR_ID_TYPE": "text",
        "POSTGRES_ORIGINATOR_ID_TYPE": "text",
        "POSTGRES_DBNAME": parts.path.strip("/"),
        "POSTGRES_HOST": str(parts.hostname),
        "POSTGRES_PORT": str(parts.port),
        "POSTGRES_USER": str(parts.username),
        "POSTGRES_PASSWORD": str(parts.password),
    }


@pytest.fixture
def purses(environment: dict[str, str]) -> Iterator[Purses]:
    application = Purses(env=environment)
    yield application
    _recorder(application).close_writer()
    application.close()


def _recorder(application: Purses) -> LedgerRecorder:
    recorder = application.recorder
    assert isinstance(recorder, LedgerRecorder)
    return recorder


def test_saved_aggregates_are_read_back(purses: Purses) -> None:
    purse = Purse("a")
    purse.fill(5)
    saved = purses.save(purse)
    assert [recording.notification.id for recording in saved] == [1, 2]
    read: Purse = purses.repository.get("purse:a")
    assert (read.total_minor, read.version) == (5, 2)
    read.fill(7)
    purses.save(read, Purse("b"))
    old: Purse = purses.repository.get("purse:a", version=2)
    latest: Purse = purses.repository.get("purse:a")
    assert (old.total_minor, latest.total_minor) == (5, 12)
    assert purses.save() == []


def test_a_stale_aggregate_is_an_integrity_error_and_stores_nothing(purses: Purses) -> None:
    purse = Purse("a")
    purses.save(purse)
    stale: Purse = purses.repository.get("purse:a")
    purse.fill(1)
    purses.save(purse)
    stale.fill(2)
    with pytest.raises(IntegrityError):
        purses.save(stale)
    assert purses.recorder.max_notification_id() == 2
    purse.fill(3)
    assert [recording.notification.id for recording in purses.save(purse)] == [3]


def test_two_applications_fence_each_other(purses: Purses, environment: dict[str, str]) -> None:
    purses.save(Purse("a"))
    other = Purses(env=environment)
    other.save(Purse("b"))
    with pytest.raises(IntegrityError, match="not the log's head"):
        purses.save(Purse("c"))
    _recorder(purses).lead()
    assert [recording.notification.id for recording in purses.save(Purse("c"))] == [3]
    _recorder(other).close_writer()
    other.close()


def test_a_lost_connection_is_an_operational_error(purses: Purses) -> None:
    purses.save(Purse("a"))
    with purses.recorder.datastore.get_connection() as connection:  # type: ignore[attr-defined]  # a LedgerRecorder
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(OperationalError):
        purses.save(Purse("b"))
    _recorder(purses).lead()
    purses.save(Purse("b"))


def test_notifications_are_selected_by_position_and_topic(purses: Purses) -> None:
    for name in "abc":
        purse = Purse(name)
        purse.fill(1)
        purses.save(purse)
    log = purses.notification_log
    assert [n.id for n in log.select(1, 10)] == [1, 2, 3, 4, 5, 6]
    assert [n.id for n in log.select(3, 2)] == [3, 4]
    assert [n.id for n in log.select(3, 10, inclusive_of_start=False)] == [4, 5, 6]
    assert [n.id for n in log.select(2, 10, stop=4)] == [2, 3, 4]
    filled = [n for n in log.select(1, 10) if n.topic.endswith("Filled")]
    assert [n.id for n in log.select(1, 10, topics=[filled[0].topic])] == [2, 4, 6]
    assert log["1,3"].items[0].id == 1
    section = log["1,10"]
    assert (section.id, len(section.items), section.next_id) == ("1,6", 6, None)


def test_a_subscription_gets_what_is_there_and_what_comes(purses: Purses) -> None:
    purses.save(Purse("a"))
    with ApplicationSubscription(purses) as subscription:
        seen = [next(subscription)[1].notification_id]
        purses.save(Purse("b"), Purse("c"))
        seen += [next(subscription)[1].notification_id for _ in range(2)]
    assert seen == [1, 2, 3]


class Totals(PostgresTrackingRecorder):
    """A view that keeps only how far it is."""


class TotalsProjection(Projection[Totals]):
    """Lives in the process of the test, which waits for `caught_up`."""

    name = "totals"
    caught_up_at = 4

    def __init__(self, view: Totals) -> None:
        super().__init__(view=view)
        self.seen: list[tuple[str, int]] = []
        self.caught_up = threading.Event()

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        self.view.insert_tracking(tracking)
        self.seen.append((type(domain_event).__name__, tracking.notification_id))
        if tracking.notification_id >= self.caught_up_at:
            self.caught_up.set()


class Ledger(Application[str]):
    """Stored in ledger_events, the engine's own partitioned table."""


def _stored(application: Application[str], *aggregates: Purse) -> list[StoredEvent]:
    return [
        application.mapper.to_stored_event(pending)
        for aggregate in aggregates
        for pending in aggregate.collect_events()
    ]


@pytest.fixture
def small_partitions(empty_database: str) -> LedgerDatabase:
    return provisioned(empty_database, partition_events=3)


@pytest.fixture
def ledger_environment(
    environment: dict[str, str], small_partitions: LedgerDatabase
) -> dict[str, str]:
    parts = urlsplit(small_partitions.writer_url)
    return environment | {
        "CREATE_TABLE": "n",
        "POSTGRES_USER": str(parts.username),
        "POSTGRES_PASSWORD": str(parts.password),
    }


def test_the_ledgers_own_table_is_read_as_any_other(ledger_environment: dict[str, str]) -> None:
    """In partitions of few events, and written by the engine's append only."""
    application = Ledger(env=ledger_environment)
    recorder = application.recorder
    assert isinstance(recorder, LedgerRecorder)
    recorder.lead()
    first, second = Purse("a"), Purse("b")
    for amount in range(1, 6):
        first.fill(amount)
    for stored in _stored(application, first, second):
        asyncio.run(recorder.append([stored]))
    read: Purse = application.repository.get("purse:a")
    old: Purse = application.repository.get("purse:a", version=3)
    assert (read.total_minor, read.version, old.total_minor) == (15, 6, 3)
    log = application.notification_log
    assert [n.id for n in log.select(3, 10)] == [3, 4, 5, 6, 7]
    assert recorder.max_notification_id() == 7
    with ApplicationSubscription(application, gt=5) as subscription:
        seen = [next(subscription)[1].notification_id for _ in range(2)]
        second.fill(1)
        asyncio.run(recorder.append(_stored(application, second)))
        seen.append(next(subscription)[1].notification_id)
    assert seen == [6, 7, 8]
    second.fill(1)
    with pytest.raises(ProgrammingError, match="its engine only"):
        application.save(second)
    recorder.close_writer()
    application.close()


def test_a_projection_runner_follows_the_ledgers_own_table(
    ledger_environment: dict[str, str], small_partitions: LedgerDatabase
) -> None:
    parts = urlsplit(small_partitions.owner_url)
    owner = {"POSTGRES_USER": str(parts.username), "POSTGRES_PASSWORD": str(parts.password)}
    with datastore_of(small_partitions.writer_url) as datastore:
        recorder = LedgerRecorder(datastore)
        recorder.lead()
        purse = Purse("a")
        for amount in range(1, 4):
            purse.fill(amount)
        application = Ledger(env=ledger_environment)
        asyncio.run(recorder.append(_stored(application, purse)))
        application.close()
        # Only the view's table is made, by who may.
        with ProjectionRunner(
            application_class=Ledger,
            projection_class=TotalsProjection,
            view_class=Totals,
            env=ledger_environment | owner | {"TOTALS_CREATE_TABLE": "y"},
        ) as runner:
            projection = runner.projection
            assert isinstance(projection, TotalsProjection)
            assert projection.caught_up.wait(DEADLINE_SECONDS)
            assert [position for _, position in projection.seen] == [1, 2, 3, 4]
        recorder.close_writer()


def test_a_projection_runner_follows_the_table(purses: Purses, environment: dict[str, str]) -> None:
    first = Purse("a")
    first.fill(1)
    purses.save(first)
    with ProjectionRunner(
        application_class=Purses,
        projection_class=TotalsProjection,
        view_class=Totals,
        env=environment,
    ) as runner:
        second = Purse("b")
        second.fill(2)
        purses.save(second)
        projection = runner.projection
        assert isinstance(projection, TotalsProjection)
        assert projection.caught_up.wait(DEADLINE_SECONDS)
        assert projection.seen == [("Opened", 1), ("Filled", 2), ("Opened", 3), ("Filled", 4)]
        assert runner.view.max_tracking_id("Purses") == 4
