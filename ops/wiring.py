"""Where rooms are joined: the engine, the relay and the migration, built from one Config."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from engine.clock import VirtualClock, WallClock
from engine.kafka import KafkaPublisher, create_topics
from engine.ports import Clock
from engine.postgres.provision import datastore_of, provision
from engine.postgres.recorder import LedgerRecorder
from engine.postgres.tail import PostgresTail
from engine.relay import Progress, Relay
from engine.sequencer import Sequencer
from engine.server import serve
from ops.config import Config, require
from ops.errors import UsageError
from ops.notify import Notifier
from schemas.genesis import Genesis

log = logging.getLogger("durian")

STATUS_SECONDS = 1.0


def address_of(url: str) -> tuple[str, int]:
    """Host and port of tcp://host:port or kafka://host:port. Raises UsageError without a port."""
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        raise UsageError(f"{url!r} has no host and port")
    return parts.hostname, parts.port


def bootstrap_of(config: Config) -> str:
    """Kafka's bootstrap address as host:port."""
    host, port = address_of(require(config, "kafka_url"))
    return f"{host}:{port}"


def read_genesis(path: str) -> Genesis:
    """The genesis file, or the default genesis for "". Raises UsageError naming the bad field."""
    if not path:
        return Genesis()
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Genesis)
    except (OSError, msgspec.DecodeError) as exc:
        raise UsageError(f"genesis file {path}: {exc}") from exc


def stop_on_signals(stop: Callable[[], object]) -> None:
    """SIGTERM and SIGINT call stop once; the loop then ends what it does and returns."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


async def run_migrate(config: Config) -> list[str]:
    """Tables, roles and topics; returns the Kafka topics that were created now."""
    await asyncio.to_thread(
        provision,
        require(config, "postgres_url"),
        writer_password=require(config, "log_writer_password"),
        reader_password=require(config, "log_reader_password"),
    )
    return await create_topics(bootstrap_of(config))


async def run_engine(config: Config) -> None:
    """The single writer until SIGTERM. Any fault of the log is raised: the process must end."""
    notifier = Notifier(config.notify_socket)
    clock: Clock = VirtualClock() if config.clock == "virtual" else WallClock()
    with datastore_of(require(config, "postgres_url")) as datastore:
        recorder = LedgerRecorder(datastore)
        sequencer = Sequencer(recorder, clock)
        notifier.status("folding the log")
        await sequencer.start(read_genesis(config.genesis))
        # The folded state lives as long as the process: no garbage collection walks it again.
        gc.freeze()
        stop_on_signals(sequencer.stop)
        host, port = address_of(require(config, "engine_url"))
        server = await serve(sequencer, host, port)
        notifier.ready(_position(sequencer))
        log.info("epoch %d leads from position %d", recorder.head.epoch, recorder.head.position)
        status = asyncio.create_task(_tell_position(sequencer, notifier))
        try:
            await sequencer.run()
        finally:
            status.cancel()
            server.close()
            recorder.close_writer()


def _position(sequencer: Sequencer) -> str:
    head = sequencer.log.head
    return f"epoch {head.epoch}, position {head.position:,}"


async def _tell_position(sequencer: Sequencer, notifier: Notifier) -> None:
    while True:
        notifier.status(_position(sequencer))
        await asyncio.sleep(STATUS_SECONDS)


async def run_relay(config: Config) -> None:
    """The relay until SIGTERM; raises what PostgreSQL or Kafka raise."""
    notifier = Notifier(config.notify_socket)
    async with (
        PostgresTail(require(config, "postgres_url")) as tail,
        KafkaPublisher(bootstrap_of(config)) as publisher,
    ):
        relay = Relay(tail, publisher)
        notifier.ready(f"resumed at position {await relay.resume():,}")

        def report(progress: Progress) -> None:
            notifier.status(f"position {progress.last:,}{', catching up' * progress.behind}")

        running = asyncio.create_task(relay.run(report))
        stop_on_signals(running.cancel)
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()
