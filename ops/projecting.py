"""Joins one projection's parts: the views' store, folds, the Faust worker, and news of its
progress.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any, Protocol

from engine.postgres.schema import require_schema
from ops.config import Config, require
from ops.logs import configure_logs
from ops.metrics_server import serve_metrics
from ops.notify import Notifier
from ops.relaying import quiet_driver
from ops.wiring import stop_on_signals
from projections.agents import run_worker
from projections.desk import Listener, ViewSource, WorkerSettings
from projections.errors import EventPoisoned
from projections.folders import TOPIC, Folder, folder
from projections.history.folder import HistoryFolder
from projections.history.schema import HISTORY_SCHEMA_VERSION
from projections.history.store import HistoryStore
from projections.metrics import ProjectionMetrics
from projections.partition import PartitionWorker
from projections.ports import Checkpoint, ViewStore
from projections.redis_views import RedisViews
from schemas.views import HISTORY

EPOCH_BYTES = 4
STATUS_SECONDS = 1.0

log = logging.getLogger("durian")


class Store(ViewStore[Any], Protocol):
    """A live store that must be closed."""

    async def close(self) -> None: ...


async def run_projection(config: Config, projection: str, *, instance: int = 0) -> None:
    """Fold a projection until SIGTERM or SIGINT; a crash ends the process with exit code 1."""
    configure_logs(config)
    quiet_driver()
    stop = asyncio.Event()
    stop_on_signals(stop.set)
    metrics = ProjectionMetrics(projection, now_ns=time.time_ns)
    store = open_store(config, projection)

    def partition_worker(partition: int) -> PartitionWorker[Any]:
        return PartitionWorker(
            partition=partition,
            folder=folder_of(projection, partition),
            store=store,
            new_epoch=lambda: secrets.token_hex(EPOCH_BYTES),
            observer=metrics,
        )

    news = _News(projection, Notifier(config.notify_socket), metrics)
    # Only one worker of a projection can have the well-known port.
    port = 0 if instance else getattr(config.ports, f"{projection}_metrics")
    try:
        with serve_metrics(metrics.registry, config.host, port) as bound:
            if instance:
                log.info("metrics at %s:%d", config.host, bound)
            await run_worker(
                _settings(config, projection, instance),
                ViewSource(partition_worker, store.checkpoint),
                listener=news,
                on_ready=news.ready,
                stop=stop,
            )
    finally:
        await store.close()


def open_store(config: Config, projection: str) -> Store:
    """The live store of a projection's views. Raises SchemaVersion for a history of another
    version.
    """
    if projection == HISTORY:
        url = require(config, "history_url")
        require_schema(url, HISTORY_SCHEMA_VERSION)
        return HistoryStore(url)
    return RedisViews(projection, require(config, "redis_url"))


def folder_of(projection: str, partition: int) -> Folder[Any]:
    """A folder of one partition, not yet loaded."""
    if projection == HISTORY:
        return HistoryFolder()
    return folder(projection, partition)


def _settings(config: Config, projection: str, instance: int) -> WorkerSettings:
    # Faust makes its own directory, but not the ones above.
    data_dir = config.data_dir / "faust" / f"{projection}-{instance}"
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    return WorkerSettings(
        projection=projection,
        topic=TOPIC[projection],
        kafka_url=require(config, "kafka_url"),
        data_dir=data_dir,
        instance=f"{projection}-{instance}",
    )


class _News(Listener):
    """Tells people how the worker gets on: its log, its figures, and a line for the supervisor.

    The line changes at most once in STATUS_SECONDS, but for news that somebody waits for.
    """

    def __init__(self, projection: str, notifier: Notifier, metrics: ProjectionMetrics) -> None:
        self._projection = projection
        self._notifier = notifier
        self._metrics = metrics
        self._told_at = 0.0
        self._positions: dict[int, int] = {}
        self._poisoned: dict[int, EventPoisoned] = {}

    def ready(self) -> None:
        self._notifier.ready(self._status())
        log.info("projection %s folds", self._projection)

    def waiting(self, what: str) -> None:
        self._notifier.status(f"waits: {what}")
        log.warning("projection %s waits: %s", self._projection, what)

    def assigned(self, partitions: Sequence[int]) -> None:
        self._positions, self._poisoned = {}, {}
        self._metrics.assigned(partitions)
        self._tell()

    def progressed(self, partition: int, checkpoint: Checkpoint) -> None:
        self._positions[partition] = checkpoint.position
        self._metrics.reached(partition, checkpoint.position)
        if time.monotonic() - self._told_at >= STATUS_SECONDS:
            self._tell()

    def lagging(self, partition: int, records: int) -> None:
        self._metrics.lagging(partition, records)

    def poisoned(self, partition: int, poisoned: EventPoisoned) -> None:
        self._poisoned[partition] = poisoned
        self._metrics.stopped(partition)
        self._tell()
        log.critical(
            "projection %s, partition %d, is stopped at position %d: the event (%s) cannot be"
            " folded: %s. All other projections go on; see docs/operating/poison-event.md",
            self._projection,
            partition,
            poisoned.position,
            poisoned.event_type or "of unknown type",
            poisoned.reason,
        )

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        self._notifier.status(self._status())

    def _status(self) -> str:
        if self._poisoned:
            first = self._poisoned[min(self._poisoned)]
            return f"stopped at position {first.position:,}: {first.event_type} {first.reason}"
        if self._positions:
            return f"position {min(self._positions.values()):,}"
        return "assigned"
