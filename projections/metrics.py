"""Figures of one projection's worker for Prometheus, on a registry of its own.

Nothing here decides anything; docs/operating/metrics.md says what each figure means and when to
worry.
"""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from projections.partition import Committed, Observer
from projections.ports import Held, Moved, Overtaken, Refused

_UP_TO_TEN_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
COMMIT_SECONDS = (0.0002, 0.0005, *_UP_TO_TEN_SECONDS)
DELAY_SECONDS = (*_UP_TO_TEN_SECONDS, 60.0, 600.0)
BATCH_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
BATCH_RECORDS = (1, 2, 5, 10, 20, 50, 100, 256)


class ProjectionMetrics(Observer):
    """Called by the partitions' workers once per batch.

    now_ns: wall clock, nanoseconds since 1970, that the engine's clock follows.
    """

    def __init__(self, projection: str, *, now_ns: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._now_ns = now_ns
        self._projection = projection
        self._events = self._counter("events", "Lines of Kafka records folded into views")
        self._batches = self._counter("batches", "Batches committed to the views' store")
        self._batch_events = self._histogram("batch_events", "Lines per batch", BATCH_EVENTS)
        self._batch_records = self._histogram("batch_records", "Records per batch", BATCH_RECORDS)
        self._commit_seconds = self._histogram(
            "commit_seconds", "From sending a batch to the store to its answer", COMMIT_SECONDS
        )
        self._delay_seconds = self._histogram(
            "delay_seconds",
            "From a batch's last event to its commit, by both clocks",
            DELAY_SECONDS,
        )
        self._held = self._counter("held", "Commits put off while a rebuild compared and switched")
        self._moved = self._counter("moved", "Times readers had been switched to other views")
        self._overtaken = self._counter("overtaken", "Times another worker was first")
        self._position = self._gauge("position", "Last position in the views, by partition")
        self._lag = self._gauge("lag_records", "Records in Kafka that are not folded, by partition")
        self._stopped = self._gauge(
            "stopped", "1 if the partition stands still at an event that cannot be folded"
        )

    def committed(self, partition: int, committed: Committed) -> None:
        self._batches.inc()
        self._events.inc(committed.events)
        self._batch_events.observe(committed.events)
        self._batch_records.observe(committed.records)
        self._commit_seconds.observe(committed.seconds)
        if committed.at_ns:
            delay_ns = max(0, self._now_ns() - committed.at_ns)
            self._delay_seconds.observe(delay_ns / 1_000_000_000)
        self.reached(partition, committed.checkpoint.position)

    def refused(self, partition: int, refused: Refused) -> None:
        match refused:
            case Held():
                self._held.inc()
            case Moved():
                self._moved.inc()
            case Overtaken():
                self._overtaken.inc()

    def assigned(self, partitions: Sequence[int]) -> None:
        """Only these partitions have figures from now on."""
        for gauge in (self._position, self._lag, self._stopped):
            gauge.clear()
        for partition in partitions:
            self._stopped.labels(self._projection, partition).set(0)

    def reached(self, partition: int, position: int) -> None:
        self._position.labels(self._projection, partition).set(position)

    def lagging(self, partition: int, records: int) -> None:
        self._lag.labels(self._projection, partition).set(records)

    def stopped(self, partition: int) -> None:
        """The partition stands still until another program is started."""
        self._stopped.labels(self._projection, partition).set(1)

    def _counter(self, name: str, meaning: str) -> Counter:
        made = Counter(f"durian_projection_{name}", meaning, ["projection"], registry=self.registry)
        labelled: Counter = made.labels(self._projection)
        return labelled

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        made = Histogram(
            f"durian_projection_{name}",
            meaning,
            ["projection"],
            buckets=buckets,
            registry=self.registry,
        )
        labelled: Histogram = made.labels(self._projection)
        return labelled

    def _gauge(self, name: str, meaning: str) -> Gauge:
        labels = ["projection", "partition"]
        return Gauge(f"durian_projection_{name}", meaning, labels, registry=self.registry)
