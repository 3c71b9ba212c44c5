"""`durian project` processes on a benchmark's servers: to the end of a log, or live."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import cast

from redis import Redis

from ops.bench.engine_servers import Servers, await_true, free_port, process_cpu_seconds
from ops.bench.projection_loops import Consumed
from ops.config import inherited_environment
from schemas import views
from schemas.records import POSTINGS_PARTITIONS

POLL_SECONDS = 0.001
FOLD_SECONDS_MAX = 300.0
_METERED = ("market", "mining", "accounts", "history")

Positions = Callable[[], list[int]]
"""Of every partition of a projection, as stored with its views; 0 if there are none."""


class Workers:
    """Starts workers on one Kafka and one Redis; environment: what they need besides."""

    def __init__(self, servers: Servers, environment: Mapping[str, str] | None = None) -> None:
        self._servers = servers
        self._redis = Redis.from_url(servers.redis_url())
        self._homes = {
            projection: Redis.from_url(f"{servers.redis_url()}/{database}")
            for projection, database in views.HOME_DB.items()
        }
        self._environment = {
            **inherited_environment(),
            "DURIAN_KAFKA_URL": servers.kafka_url(),
            "DURIAN_REDIS_URL": servers.redis_url(),
            "DURIAN_DATA": str(servers.home / "projecting"),
            **{f"DURIAN_PORT_{name.upper()}_METRICS": str(free_port()) for name in _METERED},
            **(environment or {}),
        }

    def close(self) -> None:
        for client in (self._redis, *self._homes.values()):
            client.close()

    def empty(self) -> None:
        """No views any more; no worker may run."""
        self._redis.flushall()

    def positions(self, projection: str) -> list[int]:
        """Of the live generation's partitions."""
        count = POSTINGS_PARTITIONS if projection == views.ACCOUNTS else 1
        keys = [views.checkpoint_key(projection, partition) for partition in range(count)]
        home = self._homes[projection]
        pointer = cast("bytes | None", home.get(views.generation_key(projection)))
        live = pointer.decode() if pointer else views.FIRST_GENERATION
        stored = [home.hget(views.stored_key(projection, live, key), "position") for key in keys]
        return [int(position or 0) for position in stored]  # type: ignore[arg-type]  # shared stubs

    def start(self, projection: str) -> "subprocess.Popen[bytes]":
        """A worker that folds until it is stopped."""
        argv = (sys.executable, "-m", "ops", "project", projection)
        return self._servers.start(f"worker-{projection}", argv, self._environment)

    def fold(self, projection: str, last: int, positions: Positions | None = None) -> Consumed:
        """Run a worker until its views are at `last`; counted from its first commit on."""
        read = positions or (lambda: self.positions(projection))
        process = self.start(projection)
        output = self._servers.home / f"worker-{projection}.out"
        await_true(lambda: max(read()) > 0, process, output)
        began, cpu_began, first = time.perf_counter(), process_cpu_seconds(process.pid), read()
        deadline = began + FOLD_SECONDS_MAX
        while min(read()) < last:
            assert process.poll() is None, f"{projection}: see {output.name}"
            assert time.perf_counter() < deadline, f"{projection}: {read()} of {last:,}"
            time.sleep(POLL_SECONDS)
        consumed = Consumed(
            # A log so short that the first commit holds all of it measures nothing.
            events=max(last - sum(first) // len(first), 1),
            seconds=time.perf_counter() - began,
            cpu_seconds=process_cpu_seconds(process.pid) - cpu_began,
        )
        process.kill()
        process.wait()
        return consumed
