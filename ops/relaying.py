"""Joins the relay's parts, and keeps one going: whose turn it is, and servers that go away.

A relay ends for a topic that disagrees with the log or a database of another version; everything
else it waits for. The commands that check a topic or make it anew are in ops.topics.
"""

import asyncio
import logging
import random
import time

from engine.errors import EngineError, KafkaUnavailable, StoreUnavailable
from engine.kafka import KafkaPublisher
from engine.metrics import RelayMetrics
from engine.postgres.schema import require_schema
from engine.postgres.whole_log import WholeTail
from engine.relay import Progress, Relay
from engine.relay_turn import RelayTurn
from ops.backoff import Backoff
from ops.config import Config, archive_directory, require
from ops.metrics_server import serve_metrics
from ops.notify import Notifier
from ops.wiring import bootstrap_of, first_of, stop_on_signals

STAND_BY_SECONDS = 0.25
STATUS_SECONDS = 0.2
COMPLAIN_SECONDS = 60.0

log = logging.getLogger("durian.relay")


async def run_relay(config: Config) -> None:
    """The relay until SIGTERM. Raises KafkaDisagrees, SchemaVersion: the process must end."""
    quiet_driver()
    metrics = RelayMetrics()
    with serve_metrics(metrics.registry, config.host, config.ports.relay_metrics):
        running = asyncio.create_task(_Life(config, metrics).run())
        stop_on_signals(running.cancel)
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()


def quiet_driver() -> None:
    """Let the Kafka driver keep to itself what our own words say once."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class _Life:
    """One relay process: stands by, publishes, waits for servers, and says which of these."""

    def __init__(self, config: Config, metrics: RelayMetrics) -> None:
        self._url = require(config, "postgres_url")
        self._archive = archive_directory(config)
        self._bootstrap = bootstrap_of(config)
        self._metrics = metrics
        self._notifier = Notifier(config.notify_socket)
        self._backoff = Backoff(random.Random())
        self._away_since: float | None = None
        self._complained_at = 0.0
        self._told_at = 0.0

    async def run(self) -> None:
        while True:
            try:
                await self._turn()
            except (KafkaUnavailable, StoreUnavailable) as exc:
                await self._wait_for(exc)

    async def _turn(self) -> None:
        """Until a server goes away, or somebody else wishes the turn."""
        await asyncio.to_thread(require_schema, self._url)
        async with RelayTurn(self._url) as turn:
            if not await turn.take():
                await self._stand_by(turn)
            await first_of(self._publish(), turn.keep())
        log.info("gave the turn to somebody who makes topics anew")

    async def _stand_by(self, turn: RelayTurn) -> None:
        self._notifier.ready("stands by: another relay publishes")
        log.info("another relay publishes; standing by")
        is_ours = False
        while not is_ours:
            await asyncio.sleep(STAND_BY_SECONDS)
            is_ours = await turn.take()

    async def _publish(self) -> None:
        async with (
            WholeTail(self._url, self._archive) as tail,
            KafkaPublisher(self._bootstrap) as publisher,
        ):
            relay = Relay(tail, publisher, self._metrics)
            position = await relay.resume()
            self._notifier.ready(f"resumed at position {position:,}")
            log.info("resumed at position %d", position)
            await relay.run(self._tell)

    def _tell(self, progress: Progress) -> None:
        if self._away_since is not None:
            log.info("servers answer again after %.1f s", time.monotonic() - self._away_since)
            self._away_since = None
            self._backoff.reset()
        now = time.monotonic()
        if now - self._told_at >= STATUS_SECONDS:
            self._told_at = now
            behind = f" of {progress.head:,}, catching up" * progress.behind
            self._notifier.status(f"position {progress.last:,}{behind}")

    async def _wait_for(self, fault: EngineError) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since, self._complained_at = now, 0.0
        away_s = now - self._away_since
        server = "Kafka" if isinstance(fault, KafkaUnavailable) else "PostgreSQL"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - away_s))
        self._notifier.status(f"{server} does not answer since {since}")
        self._metrics.away(away_s)
        if now - self._complained_at >= COMPLAIN_SECONDS:
            self._complained_at = now
            log.warning("%s does not answer since %s: %s", server, since, fault)
        await asyncio.sleep(self._backoff.next_s())
