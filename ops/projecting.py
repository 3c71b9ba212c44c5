"""Joins one projection's parts: views in Redis, folds, the Faust worker, and news of its
progress.
"""

import asyncio
import logging
import secrets
import signal
from functools import partial

from ops.config import Config, require
from ops.logs import configure_logs
from ops.notify import Notifier
from projections.agents import ViewSource, WorkerSettings, run_worker
from projections.folders import TOPIC, folder
from projections.partition import PartitionWorker
from projections.ports import Checkpoint
from projections.redis_views import RedisViews

EPOCH_BYTES = 4
STATUS_SECONDS = 1.0

log = logging.getLogger("durian")


async def run_projection(config: Config, projection: str, *, instance: int = 0) -> None:
    """Fold a projection until SIGTERM or SIGINT; a crash ends the process with exit code 1."""
    configure_logs(config)
    store = RedisViews(projection, require(config, "redis_url"))
    notifier = Notifier(config.notify_socket)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def partition_worker(partition: int) -> PartitionWorker:
        return PartitionWorker(
            partition=partition,
            folder=folder(projection),
            store=store,
            new_epoch=lambda: secrets.token_hex(EPOCH_BYTES),
        )

    try:
        await run_worker(
            _settings(config, projection, instance),
            ViewSource(partition_worker, store.checkpoint),
            on_ready=partial(_tell_ready, notifier, projection),
            on_progress=_Progress(notifier, loop),
            stop=stop,
        )
    finally:
        await store.close()


def _tell_ready(notifier: Notifier, projection: str) -> None:
    notifier.ready("assigned")
    log.info("projection %s folds", projection)


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


class _Progress:
    """Tells the supervisor the positions reached, at most once in STATUS_SECONDS."""

    def __init__(self, notifier: Notifier, loop: asyncio.AbstractEventLoop) -> None:
        self._notifier = notifier
        self._loop = loop
        self._told_at = 0.0
        self._positions: dict[int, int] = {}

    def __call__(self, partition: int, checkpoint: Checkpoint) -> None:
        self._positions[partition] = checkpoint.position
        if self._loop.time() - self._told_at >= STATUS_SECONDS:
            self._told_at = self._loop.time()
            self._notifier.status(f"position {min(self._positions.values()):,}")
