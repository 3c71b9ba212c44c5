"""Figures of the engine and of the relay for Prometheus, each on a registry of its own.

Nothing here decides anything or can stop its caller. A batch costs a handful of additions;
docs/operating/metrics.md says what each figure means and when to worry.
"""

import time
from collections.abc import Callable, Mapping
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_UP_TO_A_SECOND = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
COMMIT_SECONDS = (0.0002, 0.0005, *_UP_TO_A_SECOND, 2.0, 5.0)
BATCH_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)
TICK_SECONDS = (*_UP_TO_A_SECOND, 2.0, 5.0, 10.0)

Settled = Literal["committed", "lost", "fenced"]
"""What became of a commit whose outcome was unknown; fenced: another writer leads by now."""


def new_registry() -> CollectorRegistry:
    """An empty registry but for the process's own memory, CPU time and descriptors."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class EngineMetrics:
    """Called by the sequencer and the standby, once per batch or rarer."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or new_registry()
        self._commands = Counter(
            "durian_engine_commands",
            "Commands answered, by outcome: accepted, repeated, or the rejection's code",
            ["outcome"],
            registry=self.registry,
        )
        self._events = self._counter("events", "Events appended to the log")
        self._batch_events = self._histogram("batch_events", "Events per commit", BATCH_EVENTS)
        self._commit_seconds = self._histogram(
            "commit_seconds", "From sending a batch to PostgreSQL to its commit", COMMIT_SECONDS
        )
        self._tick_seconds = self._histogram(
            "tick_lateness_seconds", "From a second's begin to its event's batch", TICK_SECONDS
        )
        self._leading = self._gauge("leading", "1 while this process is the writer, else 0")
        self._epoch = self._gauge("epoch", "Epoch this process leads in, 0 if it never led")
        self._position = self._gauge("position", "Last position committed or, as standby, folded")
        self._standby_lag = self._gauge("standby_lag_events", "Events the standby has to fold yet")
        self._clock_offset = self._gauge(
            "clock_offset_seconds", "Wall clock minus engine time, a step that is not followed"
        )
        self._queue = self._gauge("queue_commands", "Commands waiting to be decided")
        self._unknown = Counter(
            "durian_engine_unknown_commits",
            "Commits whose outcome was unknown at first, by what had become of them",
            ["result"],
            registry=self.registry,
        )
        self._answers = self._gauge("answers_remembered", "First answers held for repeated keys")
        self._snapshot = self._gauge("snapshot_position", "Position of the newest snapshot")

    def committed(self, *, events: int, seconds: float, outcomes: Mapping[str, int]) -> None:
        """One batch is on disk. outcomes: how many commands by "accepted", "repeated" or code."""
        self._events.inc(events)
        self._position.inc(events)
        self._batch_events.observe(events)
        self._commit_seconds.observe(seconds)
        self.answered(outcomes)

    def answered(self, outcomes: Mapping[str, int]) -> None:
        """Commands answered without a commit of their own, such as "overloaded"."""
        for outcome, count in outcomes.items():
            self._commands.labels(outcome).inc(count)

    def ticked(self, lateness_s: float) -> None:
        """A second's event went into a batch so long after the second began."""
        self._tick_seconds.observe(lateness_s)

    def leads(self, epoch: int, position: int) -> None:
        """This process is the writer from now on; also right again after an unknown outcome."""
        self._leading.set(1)
        self._epoch.set(epoch)
        self._position.set(position)
        self._standby_lag.set(0)

    def standby(self, position: int, lag: int) -> None:
        """This process follows: folded up to `position`, `lag` events behind the log's head."""
        self._leading.set(0)
        self._position.set(position)
        self._standby_lag.set(lag)

    def clock_offset(self, seconds: float) -> None:
        self._clock_offset.set(seconds)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """depth: asked at each scrape, from another thread."""
        self._queue.set_function(depth)

    def settled(self, result: Settled) -> None:
        """An unknown outcome was found out."""
        self._unknown.labels(result).inc()

    def remembers(self, answers: int) -> None:
        self._answers.set(answers)

    def snapshot(self, position: int) -> None:
        """The newest snapshot known ends there."""
        self._snapshot.set(position)

    def _counter(self, name: str, meaning: str) -> Counter:
        return Counter(f"durian_engine_{name}", meaning, registry=self.registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"durian_engine_{name}", meaning, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"durian_engine_{name}", meaning, buckets=buckets, registry=self.registry)


class RelayMetrics:
    """Called by the relay after each page, and while it waits for a server."""

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """now_s: any clock in seconds that does not go back."""
        self.registry = registry or new_registry()
        self._now_s = now_s
        self._level_at = now_s()
        self._is_level = True
        self._records = Counter(
            "durian_relay_records", "Records that Kafka acknowledged", registry=self.registry
        )
        self._position = self._gauge("position", "Last position that Kafka holds")
        self._head = self._gauge("log_position", "Last position of the log, as the relay saw it")
        self._lag_events = self._gauge("lag_events", "Events in the log that Kafka lacks")
        self._lag_seconds = self._gauge(
            "lag_seconds", "Since Kafka last held the whole log; 0 while it does"
        )
        self._lag_seconds.set_function(self._behind_s)
        self._away = self._gauge(
            "away_seconds", "Since Kafka or PostgreSQL stopped answering; 0 while both do"
        )

    def published(self, position: int, head: int, records: int) -> None:
        """Kafka holds the log up to `position` of `head`; `records` were acknowledged just now."""
        self._is_level = position >= head
        if self._is_level:
            self._level_at = self._now_s()
        self._records.inc(records)
        self._position.set(position)
        self._head.set(head)
        self._lag_events.set(max(0, head - position))
        self._away.set(0)

    def away(self, seconds: float) -> None:
        """Kafka or PostgreSQL has not answered for so long."""
        self._away.set(seconds)

    def _behind_s(self) -> float:
        return 0.0 if self._is_level else self._now_s() - self._level_at

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"durian_relay_{name}", meaning, registry=self.registry)
