"""What `durian bench http` runs: `durian serve trading` on a core of its own, its references, and
on the other core all else: PostgreSQL, Redis, one engine for each contestant, the load.

Both engines begin with the same log, and Redis holds its views, written by the projections' own
folds; no relay, Kafka or worker takes time from what is measured.
"""

import asyncio
import contextlib
import sys
import time
from itertools import islice

import msgspec

from ops.bench import gateway_meters
from ops.bench.engine_servers import Engine, Servers, await_true, free_port, listens
from ops.bench.gateway_feed import Views
from ops.bench.gateway_servers import Served, Talker, pinned
from ops.bench.http_floor import write_bodies
from ops.bench.http_load import Draw, Figures, Orders, Prepare, Reads
from ops.bench.http_orders import users
from ops.bench.mixed_log import LogShape, mixed_log, write_log
from ops.config import inherited_environment
from ops.datadir import open_data_dir
from ops.demo.progress import Tasks
from ops.tokens import ensure_keys, public_key_file, sign_token
from schemas.records import RECORD_EVENTS_MAX

TOKEN_LIFETIME_S = 24 * 3600
SERVING = "serving trading"
REQUESTS_PER_S_MAX = 1_000_000
# More than a second of the ledger holds, so that the log ends in the past.
EVENTS_PER_SECOND = 6
OURS, DIRECT, FLOOR = "ours", "direct", "floor"


class Surroundings:
    """Everything that runs from the first slice to the last."""

    def __init__(
        self, servers: Servers, stack: contextlib.ExitStack, shape: LogShape, tasks: Tasks
    ) -> None:
        cores = gateway_meters.cores()
        self._server_core = cores[0] if len(cores) > 1 else None
        self._load_core = cores[1] if len(cores) > 1 else None
        self._servers = servers
        genesis_second = int(time.time()) - shape.events // EVENTS_PER_SECOND
        self._shape = msgspec.structs.replace(shape, genesis_second=genesis_second)
        with pinned(self._load_core):
            self._engines = {name: self._engine(name, tasks) for name in (OURS, DIRECT)}
            redis_url = servers.redis_url()
            with asyncio.Runner() as runner:
                runner.run(self._fold_views(redis_url, tasks))
            self._load = Talker(stack, "ops.bench.http_load")
        self.users = tuple(users(self._shape))
        self._data_dir = open_data_dir(servers.home / "gateway")
        ensure_keys(self._data_dir)
        tokens = servers.home / "tokens.json"
        tokens.write_bytes(msgspec.json.encode({user: self.token(user) for user in self.users}))
        self._load.ask(Prepare(self._shape, str(tokens)), type(None))
        self._gateway = self._start_gateway()
        self._floor: Served | None = None

    @property
    def gateway_port(self) -> int:
        return self._gateway.port

    def token(self, user: str) -> str:
        return sign_token(self._data_dir, user=user, role="user", lifetime_s=TOKEN_LIFETIME_S)

    def draw(self, target: str, commands: int) -> None:
        """Have so many orders at hand before a slice."""
        self._load.ask(Draw(target, commands), type(None))

    def orders(self, target: str, *, seconds: float, depth: int, rate: int) -> Figures:
        """A slice through HTTP, or DIRECT."""
        engine = self._engines[target]
        is_http = target == OURS
        wanted = Orders(
            target,
            self._gateway.port if is_http else engine.port,
            is_http=is_http,
            seconds=seconds,
            process_ids=self._gateway.process_ids if is_http else (engine.process.pid,),
            depth=depth,
            rate=rate,
        )
        return self._load.ask(wanted, Figures)

    def reads(
        self, target: str, path: str, *, seconds: float, depth: int, users: tuple[str, ...]
    ) -> Figures:
        """A slice of GETs of ours, or of FLOOR."""
        served = self._gateway
        if target == FLOOR:
            assert self._floor is not None, "start_floor comes first"
            served = self._floor
        wanted = Reads(served.port, path, seconds, served.process_ids, depth=depth, users=users)
        return self._load.ask(wanted, Figures)

    def start_floor(self, bodies: dict[str, bytes]) -> None:
        """bodies: by path, without its query."""
        path, port = self._servers.home / "floor.json", free_port()
        write_bodies(path, bodies)
        with pinned(self._server_core):
            process = self._servers.start(
                FLOOR,
                (sys.executable, "-m", "ops.bench.http_floor", str(port), str(path)),
                inherited_environment(),
            )
        output = self._servers.home / f"{FLOOR}.out"
        await_true(lambda: listens(port), process, output)
        self._floor = Served(port, [process], self._server_core)

    def _engine(self, name: str, tasks: Tasks) -> Engine:
        database = self._servers.database()
        write_log(database, self._shape, tasks.task(f"log of {name}", self._shape.events))
        return self._servers.engine(name, database)

    async def _fold_views(self, redis_url: str, tasks: Tasks) -> None:
        views, log = Views(redis_url), mixed_log(self._shape)
        told, folded = tasks.task("views", self._shape.events), 0
        try:
            while events := list(islice(log, RECORD_EVENTS_MAX)):
                await views.fold(events)
                folded += len(events)
                told(min(folded, self._shape.events))
        finally:
            await views.close()

    def _start_gateway(self) -> Served:
        port = free_port()
        environment = {
            **inherited_environment(),
            "DURIAN_DATA": str(self._data_dir.root),
            "DURIAN_REDIS_URL": self._servers.redis_url(),
            "DURIAN_ENGINE_URL": f"tcp://127.0.0.1:{self._engines[OURS].port}",
            "DURIAN_TOKEN_PUBLIC_KEY": public_key_file(self._data_dir),
            "DURIAN_PORT_TRADING": str(port),
            # Counted as ever, but one machine is all users here.
            "DURIAN_REQUESTS_USER": str(REQUESTS_PER_S_MAX),
            "DURIAN_REQUESTS_ADDRESS": str(REQUESTS_PER_S_MAX),
            # Where replaced orders are looked for when the views do not show them yet.
            "DURIAN_POSTGRES_URL": self._engines[OURS].database.reader_url,
        }
        argv = (sys.executable, "-m", "ops", "serve", "trading")
        with pinned(self._server_core):
            process = self._servers.start("http", argv, environment)
        output = self._servers.home / "http.out"
        await_true(lambda: SERVING in output.read_text(errors="replace"), process, output)
        return Served(port, [process], self._server_core)
