"""`durian bench lists`: every list of the API from its first page to its last, with cursors, over
100,000 rows each. What counts is the slowest page: it shows whether a list counts from its start.

All services in one process, PostgreSQL, Redis and an engine beside it, one client without haste.
"""

import asyncio
import contextlib
import http.client
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import msgspec

from ops.bench import long_lists
from ops.bench.engine_servers import Servers, await_true, free_port, private_servers
from ops.bench.long_lists import BUYER
from ops.bench.mixed_log import write_events
from ops.bench.order_mix import MARKET
from ops.bench.report import Report, Row, row
from ops.config import inherited_environment
from ops.datadir import DataDir, open_data_dir
from ops.demo.progress import Tasks
from ops.errors import ServerUnavailable
from ops.history_database import provision_history
from ops.servers import postgres
from ops.service_databases import provision_auth, provision_desk
from ops.tokens import ensure_keys, public_key_file, sign_token

ROWS = 100_000
PAGE_ITEMS = 500
PAGE_MS_MAX = 100
# Building the log takes about so long for each second of it; it must not end in the future.
AHEAD_SECONDS = 60
SERVICES = ("auth", "contribution", "mining", "trading", "admin")
PASSWORD = "services"
TOKEN_LIFETIME_S = 24 * 3600
REASON = "so that there is one"


class Pages(msgspec.Struct, frozen=True):
    """items: of all pages together. repeated: of these, how many were there before. ms: by page."""

    items: int
    repeated: int
    ms: list[float]


class List(msgspec.Struct, frozen=True):
    """path: with the query. least: how many items it must have."""

    service: str
    path: str
    least: int

    @property
    def name(self) -> str:
        return self.path.replace(BUYER, "U").partition("&from=")[0]


class Gateway:
    """All services, and a client that asks them one thing after the other as an administrator."""

    def __init__(self, data_dir: DataDir) -> None:
        self.ports = {service: free_port() for service in SERVICES}
        self._token = sign_token(data_dir, user="bench", role="admin", lifetime_s=TOKEN_LIFETIME_S)
        self._connections = {
            service: http.client.HTTPConnection("127.0.0.1", port)
            for service, port in self.ports.items()
        }

    def ask(
        self, service: str, path: str, *, method: str = "GET", body: object = None
    ) -> tuple[dict[str, object], float]:
        """The answer and how many milliseconds it took. Raises ServerUnavailable if it is bad."""
        connection = self._connections[service]
        headers = {"authorization": f"Bearer {self._token}"}
        content = None
        if method != "GET":
            headers |= {"content-type": "application/json", "idempotency-key": path}
            content = msgspec.json.encode(body)
        # Services close what was silent for some seconds.
        connection.close()
        connection.connect()
        began = time.perf_counter()
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        received = answer.read()
        took = (time.perf_counter() - began) * 1_000
        if answer.status >= 300:
            raise ServerUnavailable(f"{method} {path}: {answer.status} {received.decode()}")
        return msgspec.json.decode(received), took

    def pages(self, one: List) -> Pages:
        """Every page of a list."""
        seen: set[bytes] = set()
        count, ms, cursor = 0, [], ""
        while True:
            path = f"{one.path}&limit={PAGE_ITEMS}{cursor}"
            page, took = self.ask(one.service, path)
            items = page["items"]
            assert isinstance(items, list)
            count += len(items)
            seen.update(msgspec.json.encode(item) for item in items)
            ms.append(took)
            if page["next_cursor"] is None:
                return Pages(count, count - len(seen), ms)
            cursor = f"&cursor={quote(str(page['next_cursor']))}"


def run_lists(seconds: float, tasks: Tasks, rows: int = ROWS) -> Report:
    """seconds: not looked at, it takes as long as the lists are. Raises ServerUnavailable."""
    with private_servers() as servers, contextlib.ExitStack() as stack:
        gateway, lists = _prepared(servers, stack, rows, tasks)
        progress = tasks.task("lists", len(lists))
        measured: list[Row] = []
        for number, one in enumerate(lists, 1):
            measured += _rows(one, gateway.pages(one))
            progress(number)
    return Report(name="lists", rows=tuple(measured), notes=_notes(rows))


def _rows(one: List, pages: Pages) -> Iterator[Row]:
    if pages.items < one.least or pages.repeated:
        raise ServerUnavailable(
            f"{one.path}: {pages.items} items of {one.least}, {pages.repeated} of them repeated"
        )
    yield row(
        f"{one.name}: slowest of {len(pages.ms)} pages, ms",
        max(pages.ms),
        reference=statistics.median(pages.ms),
        reference_name=f"its median page; p99 {_p99(pages.ms):.1f} ms",
        at_most=PAGE_MS_MAX,
    )


def _p99(ms: list[float]) -> float:
    return sorted(ms)[min(len(ms) - 1, int(len(ms) * 0.99))]


def _notes(rows: int) -> tuple[str, ...]:
    return (
        f"Each list has {rows:,} items or more and was read page by page, {PAGE_ITEMS} items each,"
        " from its first page to its last with next_cursor; no item came twice.",
        "Time is from a request's first byte to its answer's last, as one client sees it. Of"
        " /v1/contributions/expiring a page may wait for the count of all grants, made anew at most"
        " every ten seconds.",
    )


def _prepared(
    servers: Servers, stack: contextlib.ExitStack, rows: int, tasks: Tasks
) -> tuple[Gateway, list[List]]:
    genesis_second = int(time.time()) - rows - AHEAD_SECONDS - rows // 200

    database = servers.database()
    written = write_events(
        database, long_lists.long_log(rows, genesis_second), tasks.task("log", 7 * rows)
    )
    urls = {name: _owned(servers, name) for name in ("history", "auth", "desk")}
    writer = postgres.with_role(urls["history"], role=postgres.HISTORY_WRITER, password=PASSWORD)
    redis_url = servers.redis_url()
    folding = long_lists.fold(
        long_lists.long_log(rows, genesis_second),
        redis_url,
        writer,
        tasks.task("views", written.last),
    )
    asyncio.run(folding)
    asyncio.run(long_lists.add_users(redis_url, rows))
    first = asyncio.run(long_lists.add_minutes(redis_url, rows, genesis_second))
    long_lists.add_marks(urls["history"], rows, genesis_second)
    long_lists.add_accounts(urls["auth"], rows)
    data_dir = open_data_dir(servers.home / "gateway")
    ensure_keys(data_dir)
    engine = servers.engine("engine", database)
    gateway = Gateway(data_dir)
    environment = _environment(servers, data_dir, gateway, urls) | {
        "DURIAN_ENGINE_URL": f"tcp://127.0.0.1:{engine.port}",
        "DURIAN_POSTGRES_URL": database.reader_url,
    }
    argv = (sys.executable, "-m", "ops", "serve", *SERVICES)
    process = servers.start("serve", argv, environment)
    output = servers.home / "serve.out"
    await_true(lambda: "serving" in output.read_text(errors="replace"), process, output)
    _multiply(gateway, urls["desk"], rows)
    return gateway, _lists(rows, first, genesis_second)


def _owned(servers: Servers, name: str) -> str:
    url = servers.database(has_log=False).owner_url
    if name == "history":
        provision_history(url, writer_password=PASSWORD, reader_password=PASSWORD)
    else:
        provision: Callable[..., object] = {"auth": provision_auth, "desk": provision_desk}[name]
        provision(url, password=PASSWORD)
    return url


def _environment(
    servers: Servers, data_dir: DataDir, gateway: Gateway, urls: dict[str, str]
) -> dict[str, str]:
    roles = {
        "history": postgres.HISTORY_READER,
        "auth": postgres.AUTH,
        "desk": postgres.DESK,
    }
    return {
        **inherited_environment(),
        "DURIAN_DATA": str(data_dir.root),
        "DURIAN_REDIS_URL": servers.redis_url(),
        "DURIAN_TOKEN_PUBLIC_KEY": public_key_file(data_dir),
        "DURIAN_TOKEN_KEYS": str(data_dir.keys),
        "DURIAN_REQUESTS_STAFF": "0",
        "DURIAN_ACCESS_LOG": "none",
        **{f"DURIAN_PORT_{name.upper()}": str(port) for name, port in gateway.ports.items()},
        **{
            f"DURIAN_{name.upper()}_URL": postgres.with_role(
                url, role=roles[name], password=PASSWORD
            )
            for name, url in urls.items()
        },
    }


def _multiply(gateway: Gateway, desk_url: str, rows: int) -> None:
    """One of each through the API, and copies of it."""
    body = {"asset": "CNY", "amount": "1", "destination": "bank 12345678", "user_id": BUYER}
    gateway.ask("trading", "/v1/withdrawals", method="POST", body=body)
    emission = {"from_second": long_lists.FAR_SECOND, "reward": "1", "reason": REASON}
    gateway.ask("admin", "/v1/admin/emission", method="POST", body=emission)
    gateway.ask("admin", "/v1/admin/jobs", method="POST", body={"kind": "verify_log"})
    for table, changed in (
        ("withdrawals", "withdrawal_id = t.withdrawal_id || n"),
        ("approvals", "reason = t.reason || n"),
        ("jobs", "state = 'done'"),
        (
            "records",
            "id = t.id + n, hash = sha256(t.hash || int4send(n)),"
            " previous_hash = sha256(t.previous_hash || int4send(n))",
        ),
    ):
        long_lists.multiply(desk_url, table, rows, changed=changed)


def _lists(rows: int, first_second: int, genesis_second: int) -> list[List]:
    early = f"&from={first_second * 1_000}&to={genesis_second // 60 * 60 * 1_000}"
    seconds = f"&from={genesis_second * 1_000}&to={(genesis_second + rows) * 1_000}"
    paths = {
        "contribution": (
            "/v1/contributions?",
            f"/v1/contributions/expiring?before={1 << 52}",
            f"/v1/contributions/{BUYER}/history?",
        ),
        "mining": (
            f"/v1/mining/records?user_id={BUYER}{early}",
            f"/v1/mining/allocations?user_id={BUYER}{seconds}",
            "/v1/mining/leaderboard?by=mined",
            "/v1/mining/leaderboard?by=holding",
            "/v1/mining/leaderboard?by=weight",
        ),
        "trading": (
            f"/v1/orders?user_id={BUYER}&state=all",
            f"/v1/fills?user_id={BUYER}",
            f"/v1/transactions?user_id={BUYER}",
            f"/v1/trades?market={MARKET}",
            f"/v1/klines?market={MARKET}&interval=1m{early}",
            f"/v1/burns?market={MARKET}{early}",
            f"/v1/withdrawals?user_id={BUYER}",
            "/v1/withdrawals?all_users=true",
        ),
        "admin": (
            "/v1/admin/users?",
            "/v1/admin/approvals?",
            "/v1/admin/records?",
            "/v1/admin/jobs?",
        ),
    }
    return [List(service, path, rows) for service, some in paths.items() for path in some]
