"""What every part is joined with: addresses, genesis, signals."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ops.config import Config, require
from ops.errors import UsageError
from schemas.genesis import Genesis


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


async def first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends, end the others, and raise what it raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
