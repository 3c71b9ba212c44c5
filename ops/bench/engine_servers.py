"""What benchmarks of whole processes run on: private servers, engines and the load generator.

All in one temporary directory with ports of their own; everything ends and is deleted with the
`with` block. The servers are those of `durian up`, with the same durable settings.
"""

import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import psycopg

from engine.postgres.provision import provision
from ops.bench.order_load import Draw, Figures, Order, Prepare, Reconnect, Slice
from ops.bench.order_mix import RULES
from ops.config import inherited_environment, load_config
from ops.datadir import open_data_dir
from ops.demo.progress import Tasks
from ops.errors import ServerUnavailable
from ops.part import Part
from ops.processes import dies_with_parent
from ops.servers import kafka, postgres, redis
from schemas.genesis import Genesis

PROJECT_ROOT = Path(__file__).parents[2]
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.002
OUTPUT_CHARS_MAX = 2_000
# Connections of the load generator, as of a few gateways.
LANES = 4
FILL_ORDERS = 10_000
FILL_DEPTH = 1_000
_OWNER_PASSWORD = "owner"
_WRITER_PASSWORD = "writer"
_READER_PASSWORD = "reader"
_REDIS_PASSWORD = "views"
_CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAA"


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """The same database as its owner, and as the log's two roles if it has a log."""

    owner_url: str
    writer_url: str
    reader_url: str


class Servers:
    """Starts what a measurement needs; see `private_servers`."""

    def __init__(self, home: Path, stack: contextlib.ExitStack) -> None:
        self.home = home
        self._stack = stack
        self._data_dir = open_data_dir(home / "servers")
        self._postgres_url = ""
        self._kafka_url = ""
        self._redis_url = ""
        self._databases = 0

    def database(self, *, has_log: bool = True) -> Database:
        """A new one, empty or with the log's tables; starts PostgreSQL if it is the first."""
        self._databases += 1
        if not self._postgres_url:
            port = free_port()
            self._run_part(
                postgres.part(
                    self._data_dir,
                    port=port,
                    owner_password=_OWNER_PASSWORD,
                    environment=inherited_environment(),
                )
            )
            self._postgres_url = postgres.url(port, role=postgres.OWNER, password=_OWNER_PASSWORD)
        name = f"bench{self._databases}"
        with psycopg.connect(self._postgres_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        owner_url = f"{self._postgres_url.rpartition('/')[0]}/{name}"
        if has_log:
            provision(owner_url, writer_password=_WRITER_PASSWORD, reader_password=_READER_PASSWORD)
        as_role = functools.partial(postgres.with_role, owner_url)
        writer = as_role(role=postgres.LOG_WRITER, password=_WRITER_PASSWORD)
        reader = as_role(role=postgres.LOG_READER, password=_READER_PASSWORD)
        return Database(owner_url=owner_url, writer_url=writer, reader_url=reader)

    def kafka_url(self) -> str:
        """Of an empty broker; starts it if it does not run yet."""
        if not self._kafka_url:
            port = free_port()
            self._run_part(
                kafka.part(
                    self._data_dir,
                    port=port,
                    controller_port=free_port(),
                    cluster_id=_CLUSTER_ID,
                    cache_dir=load_config().cache_dir,
                    environment=inherited_environment(),
                )
            )
            self._kafka_url = kafka.url(port)
        return self._kafka_url

    def redis_url(self) -> str:
        """Of an empty Redis; starts it if it does not run yet."""
        if not self._redis_url:
            port = free_port()
            self._run_part(
                redis.part(
                    self._data_dir,
                    port=port,
                    password=_REDIS_PASSWORD,
                    environment=inherited_environment(),
                )
            )
            self._redis_url = redis.url(port, _REDIS_PASSWORD)
        return self._redis_url

    def _run_part(self, part: Part) -> None:
        assert part.prepare is not None and part.probe is not None
        part.prepare()
        process = self.start(part.name, part.argv, part.environment, part=part)
        probe = part.probe
        await_true(lambda: asyncio.run(probe()), process, self._output(part.name))

    def start(
        self,
        name: str,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        part: Part | None = None,
    ) -> "subprocess.Popen[bytes]":
        """A process that ends with us, SIGTERM first; its output goes to a file of the name."""
        uid, gid = (part.run_as if part else None) or (None, None)
        order = part.stop_signal if part else signal.SIGTERM
        with self._output(name).open("ab") as output:
            process = subprocess.Popen(
                argv,
                env=dict(environment),
                cwd=part.working_dir if part else PROJECT_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=uid,
                group=gid,
                extra_groups=None if gid is None else [gid],
                preexec_fn=dies_with_parent(order),
            )
        self._stack.callback(_stop, process, order)
        return process

    def _output(self, name: str) -> Path:
        return self.home / f"{name}.out"

    def engine(self, name: str, database: Database, *module: str) -> "Engine":
        """A running engine on that database. module: what python -m runs; ours if left out."""
        return Engine(self, name, database, module or ("ops", "engine"))

    def engine_environment(self, database: Database, port: int) -> dict[str, str]:
        genesis = self.home / "genesis.json"
        if not genesis.exists():
            genesis.write_bytes(msgspec.json.encode(bench_genesis()))
        return {
            **inherited_environment(),
            "DURIAN_POSTGRES_URL": database.writer_url,
            "DURIAN_ENGINE_URL": f"tcp://127.0.0.1:{port}",
            "DURIAN_PORT_ENGINE_METRICS": str(free_port()),
            "DURIAN_GENESIS": str(genesis),
            "DURIAN_CLOCK": "wall",
        }

    def load(self, engines: Mapping[str, "Engine"], *, users: int, resting: int) -> "Load":
        """A load generator whose orders wait to be sent; every engine is funded already."""
        ports = {name: engine.port for name, engine in engines.items()}
        load = Load(self._stack)
        load.ask(Prepare(ports, lanes=LANES, users=users, resting=resting))
        return load


def bench_genesis() -> Genesis:
    """The default one with the fees of the order mix, from the second of the first start."""
    genesis = Genesis()
    markets = tuple(msgspec.structs.replace(market, rules=RULES) for market in genesis.markets)
    return msgspec.structs.replace(genesis, markets=markets)


class Engine:
    """One engine process that listens."""

    def __init__(
        self, servers: Servers, name: str, database: Database, module: tuple[str, ...]
    ) -> None:
        self.name = name
        self.database = database
        self._servers = servers
        self._module = module
        self.port = 0
        self.process = self._start()

    def restart(self) -> float:
        """Kill it and start it again; seconds from the start of the process until it listens."""
        self.process.kill()
        self.process.wait()
        began = time.perf_counter()
        self.process = self._start()
        return time.perf_counter() - began

    def stop(self) -> None:
        """End it, politely."""
        _stop(self.process, signal.SIGTERM)

    def _start(self) -> "subprocess.Popen[bytes]":
        self.port = free_port()
        process = self._servers.start(
            self.name,
            (sys.executable, "-m", *self._module),
            self._servers.engine_environment(self.database, self.port),
        )
        await_true(lambda: listens(self.port), process, self._servers.home / f"{self.name}.out")
        return process

    def cpu_seconds(self) -> float:
        """User and system time so far; 0 where the kernel has no /proc."""
        return process_cpu_seconds(self.process.pid)


class Load:
    """The load generator's process; `ask` waits until it has done what it was told."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._process = subprocess.Popen(
            (sys.executable, "-m", "ops.bench.order_load"),
            env=inherited_environment(),
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=dies_with_parent(signal.SIGTERM),
        )
        stack.callback(_stop, self._process, signal.SIGTERM)

    def slice(self, wanted: Slice) -> Figures:
        answer = self.ask(wanted)
        return msgspec.json.decode(answer, type=Figures)

    def draw(self, engine: Engine, commands: int) -> None:
        """Have so many at hand before a slice."""
        self.ask(Draw(engine.name, commands))

    def reconnect(self, engine: Engine) -> None:
        self.ask(Reconnect(engine.name, engine.port))

    def ask(self, wanted: Order) -> bytes:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(wanted) + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise ServerUnavailable("the load generator ended; its own words are above")
        return answer


@contextlib.contextmanager
def private_servers() -> Iterator[Servers]:
    """Nothing runs yet; whatever is started through the result ends here."""
    with tempfile.TemporaryDirectory(prefix="durian-bench-") as directory:
        home = Path(directory)
        home.chmod(0o755)  # PostgreSQL may have to run as another user
        with contextlib.ExitStack() as stack:
            yield Servers(home, stack)


def fill(engine: Engine, load: Load, *, events: int, tasks: Tasks, after: int = 0) -> int:
    """Send orders of the mix until the log has so many events after a position; its last one."""
    progress, last = tasks.task("filling the log", events), 0
    while last - after < events:
        load.draw(engine, FILL_ORDERS)
        last = load.slice(Slice(engine.name, seconds=0, depth=FILL_DEPTH)).last_position
        progress(min(last - after, events))
    return last


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def process_cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def await_true(ask: Callable[[], bool], process: "subprocess.Popen[bytes]", output: Path) -> None:
    """Poll until True. Raises ServerUnavailable, with its last words, if the process ends first."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while not ask():
        if process.poll() is not None or time.monotonic() > deadline:
            words = output.read_text(errors="replace")[-OUTPUT_CHARS_MAX:]
            raise ServerUnavailable(f"{output.stem} did not start:\n{words}")
        time.sleep(POLL_SECONDS)


def listens(port: int) -> bool:
    """Whether something takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _stop(process: "subprocess.Popen[bytes]", order: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(order)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
