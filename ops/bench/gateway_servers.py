"""What `durian bench gateway` runs: `durian serve stream` on private views, its references, and
the processes that write the views and that are the phones.

With two cores or more servers have one and all others another; children inherit it from us.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from ops.bench import gateway_feed, gateway_meters, gateway_tally
from ops.bench.engine_servers import PROJECT_ROOT, Servers, await_true, free_port, listens
from ops.bench.gateway_stamps import Stamps
from ops.bench.order_mix import user_name
from ops.config import inherited_environment
from ops.datadir import open_data_dir
from ops.errors import ServerUnavailable
from ops.processes import dies_with_parent
from ops.tokens import ensure_keys, public_key_file, sign_token

T = TypeVar("T")
TOKEN_LIFETIME_S = 24 * 3600
SOCKETIO_PACKAGE = "socket.io@4"
SOCKETIO_SERVER = Path(__file__).with_name("gateway_socketio.cjs")
INSTALL_SECONDS_MAX = 120
STOP_SECONDS_MAX = 30.0
SERVING = "serving stream"


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What starts inside the block stays on that core; None: wherever the system likes."""
    if core is None:
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


class Talker:
    """A child that answers each line with one."""

    def __init__(self, stack: contextlib.ExitStack, *argv: str) -> None:
        self._process = subprocess.Popen(
            (sys.executable, "-m", *argv),
            env=inherited_environment(),
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=dies_with_parent(signal.SIGTERM),
        )
        stack.callback(self._stop)

    def ask(self, wanted: msgspec.Struct, answer: type[T]) -> T:
        """Wait until it has done that. Raises ServerUnavailable if it has ended instead."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(wanted) + b"\n")
        self._process.stdin.flush()
        return self.hear(answer)

    def hear(self, answer: type[T]) -> T:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ServerUnavailable("a part of the benchmark ended; its own words are above")
        return msgspec.json.decode(line, type=answer)

    def _stop(self) -> None:
        self._process.terminate()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


class Served:
    """Running processes of one server. core: theirs, if they are pinned.

    idle_bytes: their memory before the first connection.
    """

    def __init__(
        self, port: int, processes: list["subprocess.Popen[bytes]"], core: int | None
    ) -> None:
        self.port = port
        self.core = core
        self._processes = processes
        self.process_ids = tuple(process.pid for process in processes)
        self.idle_bytes = gateway_meters.resident_bytes(self.process_ids)
        self._idle_cpu_seconds = gateway_meters.cpu_seconds(self.process_ids)

    def cpu_seconds(self) -> float:
        """Since it was ready."""
        return gateway_meters.cpu_seconds(self.process_ids) - self._idle_cpu_seconds

    def stop(self) -> None:
        """Politely; whoever was connected has left. Raises ServerUnavailable if one stays."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired as exc:
                raise ServerUnavailable(
                    f"{process.args!r} did not end within {STOP_SECONDS_MAX:.0f} s of SIGTERM"
                ) from exc


class Phones:
    """The load generator. tokens: a file; line n is the token of user n."""

    def __init__(self, talker: Talker, tokens: Path) -> None:
        self._talker = talker
        self._tokens = tokens

    def open(self, port: int, groups: tuple[gateway_tally.Group, ...], stamps: str = "") -> float:
        """Connections accepted a second. Raises ServerUnavailable if one was not."""
        wanted = gateway_tally.Open(port, groups, stamps)
        return self._rate(groups, wanted, "connect")

    def enter(self, groups: tuple[gateway_tally.Group, ...]) -> float:
        """Connections a second that have authenticated, subscribed and got their snapshots."""
        return self._rate(groups, gateway_tally.Enter(str(self._tokens)), "subscribe")

    def watch(
        self, seconds: float, served: Served, *, is_paced: bool = True, meters: int = 0
    ) -> gateway_tally.Figures:
        wanted = gateway_tally.Watch(
            seconds, served.process_ids, served.core, is_paced=is_paced, meters=meters
        )
        return self._talker.ask(wanted, gateway_tally.Figures)

    def stall(self, group: gateway_tally.Group) -> None:
        self._talker.ask(gateway_tally.Stall(group.name), gateway_tally.Done)

    def resume(self, group: gateway_tally.Group, seconds: float) -> dict[str, int]:
        wanted = gateway_tally.Resume(group.name, seconds)
        return self._talker.ask(wanted, gateway_tally.Resumed).ended

    def leave(self) -> None:
        self._talker.ask(gateway_tally.Leave(), gateway_tally.Done)

    def _rate(
        self, groups: tuple[gateway_tally.Group, ...], wanted: gateway_tally.Order, what: str
    ) -> float:
        done = self._talker.ask(wanted, gateway_tally.Done)
        if done.failed:
            words = "; ".join(done.faults)
            raise ServerUnavailable(f"{done.failed} connections could not {what}: {words}")
        return sum(group.count for group in groups) / done.seconds


class Feed:
    """The writer of the views."""

    def __init__(self, talker: Talker) -> None:
        self._talker = talker

    def pace(self, seconds: float, phones: int, *, trades: float = 0, changes: float = 0) -> None:
        self._talker.ask(gateway_feed.Pace(seconds, phones, trades, changes), gateway_feed.Written)

    def rest(self) -> gateway_feed.Written:
        return self._talker.ask(gateway_feed.Rest(), gateway_feed.Written)


class Surroundings:
    """Redis with the views of so many users, their tokens, the feed and the phones.

    An engine is only a port that takes connections: the stream sends it nothing.
    """

    def __init__(self, servers: Servers, stack: contextlib.ExitStack, users: int) -> None:
        cores = gateway_meters.cores()
        self.server_core = cores[0] if len(cores) > 1 else None
        self.load_core = cores[1] if len(cores) > 1 else None
        self._servers = servers
        self._started = 0
        engine = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        data_dir = open_data_dir(servers.home / "gateway")
        ensure_keys(data_dir)
        stamps, tokens = servers.home / "stamps", servers.home / "tokens"
        Stamps.create(stamps).close()
        with pinned(self.load_core):
            redis_url = servers.redis_url()
            arguments = (redis_url, str(stamps), str(users))
            feed = Talker(stack, "ops.bench.gateway_feed", *arguments)
            load = Talker(stack, "ops.bench.gateway_load")
        signed = (
            sign_token(data_dir, user=user_name(number), role="user", lifetime_s=TOKEN_LIFETIME_S)
            for number in range(users)
        )
        tokens.write_text("\n".join(signed))
        feed.hear(gateway_feed.Written)
        self.stamps = str(stamps)
        self.socketio_home = servers.home / "socketio"
        self.feed, self.phones = Feed(feed), Phones(load, tokens)
        self._environment = {
            **inherited_environment(),
            "DURIAN_DATA": str(data_dir.root),
            "DURIAN_REDIS_URL": redis_url,
            "DURIAN_ENGINE_URL": f"tcp://127.0.0.1:{engine.getsockname()[1]}",
            "DURIAN_TOKEN_PUBLIC_KEY": public_key_file(data_dir),
        }

    def gateway(self, processes: int = 1) -> Served:
        """Ours, all processes on one port and, like everything that is measured, on one core."""
        port = free_port()
        environment = {
            **self._environment,
            "DURIAN_PORT_STREAM": str(port),
            "DURIAN_STREAM_PROCESSES": str(processes),
        }
        argv = (sys.executable, "-m", "ops", "serve", "stream")
        return self._start(
            "gateway", argv, environment, port, is_up=_has_said(SERVING), processes=processes
        )

    def broadcast(self) -> Served:
        """Plain websockets."""
        port = free_port()
        argv = (sys.executable, "-m", "ops.bench.gateway_broadcast", str(port))
        return self._start("websockets", argv, inherited_environment(), port, is_up=_listens(port))

    def socketio(self) -> Served:
        """Socket.IO on Node; install_socketio(socketio_home) first."""
        port = free_port()
        environment = {
            **inherited_environment(),
            "NODE_PATH": str(self.socketio_home / "node_modules"),
        }
        argv = ("node", str(SOCKETIO_SERVER), str(port))
        return self._start("socketio", argv, environment, port, is_up=_listens(port))

    def _start(
        self,
        name: str,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        port: int,
        *,
        is_up: Callable[[Path], bool],
        processes: int = 1,
    ) -> Served:
        started = []
        for _ in range(processes):
            self._started += 1
            unique = f"{name}-{self._started}"
            with pinned(self.server_core):
                process = self._servers.start(unique, argv, environment)
            started.append((process, self._servers.home / f"{unique}.out"))
        for process, output in started:
            await_true(lambda output=output: is_up(output), process, output)  # type: ignore[misc]
        return Served(port, [process for process, _ in started], self.server_core)


def install_socketio(home: Path) -> str:
    """Into a new directory. Why that failed; "" if it did not."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "node and npm are not installed"
    home.mkdir()
    (home / "package.json").write_text("{}")
    try:
        installed = subprocess.run(
            (npm, "install", "--no-audit", "--no-fund", SOCKETIO_PACKAGE),
            cwd=home,
            env=inherited_environment(),
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"npm did not install it within {INSTALL_SECONDS_MAX} s"
    return f"npm could not install it (exit {installed.returncode})" if installed.returncode else ""


def _has_said(words: str) -> Callable[[Path], bool]:
    return lambda output: words in output.read_text(errors="replace")


def _listens(port: int) -> Callable[[Path], bool]:
    return lambda _: listens(port)
