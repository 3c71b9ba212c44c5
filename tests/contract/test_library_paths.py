"""The eventsourcing library's own reading and writing paths work on the ledger's table."""

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
from eventsourcing.persistence import IntegrityError, OperationalError, Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import ApplicationSubscription, Projection, ProjectionRunner

from engine.postgres.recorder import LedgerRecorder

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
