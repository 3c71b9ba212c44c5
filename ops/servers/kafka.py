"""A private Apache Kafka broker (KRaft, one node): installed from Maven, started quickly, probed.

The jars lie in a cache outside the repository, named by the version in ops/kafka/pom.xml.
`python -m ops.servers.kafka --install` fills the cache; it does nothing when it is full.
"""

import argparse
import asyncio
import contextlib
import fcntl
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from ops.config import load_config
from ops.datadir import DataDir, write_atomic
from ops.errors import OpsError, ServerUnavailable
from ops.part import Part, Probe

POM = Path(__file__).parents[1] / "kafka" / "pom.xml"
JAVA_MAJOR_MIN = 17
PROBE_TIMEOUT_S = 2.0
WARM_UP_DEADLINE_S = 60.0
STOP_TIMEOUT_S = 20.0
ARCHIVE = "classes.jsa"
# An installation without a ledger: only its start-up is of interest.
_WARM_UP_CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAA"

_JVM = (
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    # Measured here: first-tier code only starts faster and keeps up with the relay easily.
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    "-Djava.net.preferIPv4Stack=true",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)
_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "4",
    "message.max.bytes": "8388608",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # Kafka carries the whole ledger: nothing is deleted by age or size.
    "log.retention.ms": "-1",
    "log.retention.bytes": "-1",
    # After kill -9 the controller waits for the dead broker's session: 4 s instead of 12 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "8388608",
}


def url(port: int) -> str:
    return f"kafka://127.0.0.1:{port}"


def part(
    data_dir: DataDir,
    *,
    port: int,
    controller_port: int,
    cluster_id: str,
    cache_dir: Path,
    environment: dict[str, str],
) -> Part:
    require_java()
    jars = require_installed(cache_dir)
    home = data_dir.kafka
    ports = (port, controller_port)
    return Part(
        name="kafka",
        argv=(*_java(jars), "kafka.Kafka", str(home / "server.properties")),
        environment=environment,
        prepare=partial(_prepare, home, jars, ports, cluster_id),
        probe=probe(url(port)),
        stop_timeout_s=STOP_TIMEOUT_S,
        working_dir=data_dir.root,
        addresses={"kafka": {"url": url(port), "bootstrap": f"127.0.0.1:{port}"}},
    )


def probe(kafka_url: str) -> Probe:
    """A question that is answered True once a broker answers ApiVersions without an error.

    Source: Kafka protocol guide, ApiVersions (key 18) version 0.
    """
    place = urlsplit(kafka_url)
    request = struct.pack(">hhih", 18, 0, 1, -1)

    async def ask() -> bool:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            writer.write(struct.pack(">i", len(request)) + request)
            head = await reader.readexactly(10)
        finally:
            writer.close()
        correlation_id, error_code = struct.unpack(">ih", head[4:])
        return bool(correlation_id == 1 and error_code == 0)

    async def answers() -> bool:
        try:
            return await asyncio.wait_for(ask(), PROBE_TIMEOUT_S)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False

    return answers


def version() -> str:
    """The pinned version, as the POM has it."""
    found = re.search(r"<kafka\.version>([^<]+)<", POM.read_text())
    assert found, f"{POM} names no kafka.version"
    return found.group(1)


def installation(cache_dir: Path) -> Path:
    """Where the jars of the pinned version are, or will be."""
    return cache_dir / f"kafka-{version()}"


def require_installed(cache_dir: Path) -> Path:
    """The directory of the jars; ServerUnavailable, with what to do, if they are missing."""
    jars = installation(cache_dir)
    if not jars.exists():
        raise ServerUnavailable(
            f"Apache Kafka {version()} is not installed: `make setup` installs it, "
            "or set DURIAN_KAFKA_URL"
        )
    return jars


def require_java() -> str:
    """The path of java; ServerUnavailable, with what to do, if there is none."""
    found = shutil.which("java")
    if found is None:
        raise ServerUnavailable(
            f"a Java {JAVA_MAJOR_MIN} runtime is not installed: `make setup` installs it, "
            "or set DURIAN_KAFKA_URL"
        )
    return found


def install(cache_dir: Path) -> Path:
    """Fetch the jars by Maven, once; return their directory.

    All or nothing: they are copied beside and renamed. Raises ServerUnavailable with Maven's own
    words, or with what is missing.
    """
    jars = installation(cache_dir)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _locked(cache_dir / "kafka.lock"):
        if not jars.exists():
            _require_tools()
            with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".kafka-") as draft:
                _copy_jars(Path(draft) / "jars")
                (Path(draft) / "jars").rename(jars)
        if not (jars / ARCHIVE).exists():
            _warm_up(jars)
    return jars


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        yield


def _require_tools() -> None:
    java = require_java()
    if shutil.which("mvn") is None:
        raise ServerUnavailable("Maven (mvn) is not installed: install it, then try again")
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', answer.stderr)
    if found is None or int(found.group(1)) < JAVA_MAJOR_MIN:
        raise ServerUnavailable(f"Java {JAVA_MAJOR_MIN} or newer is needed: {answer.stderr}")


def _copy_jars(target: Path) -> None:
    argv = ["mvn", "--quiet", "--batch-mode", "--file", str(POM)]
    argv += [
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={target}",
    ]
    answer = subprocess.run(argv, capture_output=True, text=True, check=False)
    if answer.returncode != 0 or not target.exists():
        raise ServerUnavailable(f"Maven could not fetch Apache Kafka:\n{answer.stdout[-2000:]}")


def _java(jars: Path, *options: str) -> tuple[str, ...]:
    archive = jars / ARCHIVE
    shared = (f"-XX:SharedArchiveFile={archive}",) if archive.exists() and not options else options
    return ("java", *_JVM, *shared, "-cp", f"{jars}/*")


def _warm_up(jars: Path) -> None:
    """Start and stop a throw-away broker once, keeping its loaded classes for later starts.

    Halves the start (2.8 s to 1.4 s). Without the archive the broker starts all the same, so that
    a failure here is not one of the installation.
    """
    draft = jars / f".{ARCHIVE}"
    with tempfile.TemporaryDirectory(prefix="durian-kafka-") as scratch, _two_ports() as ports:
        home = Path(scratch)
        _prepare(home, jars, ports, _WARM_UP_CLUSTER_ID)
        argv = [*_java(jars, f"-XX:ArchiveClassesAtExit={draft}"), "kafka.Kafka"]
        broker = subprocess.Popen(
            [*argv, str(home / "server.properties")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for_broker(broker, probe(url(ports[0])))
        finally:
            broker.send_signal(signal.SIGTERM)
            broker.wait()
    if draft.exists():
        draft.rename(jars / ARCHIVE)


@contextlib.contextmanager
def _two_ports() -> Iterator[tuple[int, int]]:
    with socket.socket() as first, socket.socket() as second:
        for holder in (first, second):
            holder.bind(("127.0.0.1", 0))
        ports = first.getsockname()[1], second.getsockname()[1]
    yield ports


def _wait_for_broker(broker: subprocess.Popen[bytes], ask: Probe) -> None:
    deadline = time.monotonic() + WARM_UP_DEADLINE_S
    while broker.poll() is None and time.monotonic() < deadline:
        if asyncio.run(ask()):
            return
        time.sleep(0.2)


def _prepare(home: Path, jars: Path, ports: tuple[int, int], cluster_id: str) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    log = home / "log"
    if not (log / "meta.properties").exists():
        # Formatted aside and renamed, so that a start cut short leaves nothing half-formatted.
        draft = home / "log.new"
        shutil.rmtree(draft, ignore_errors=True)
        properties = home / "format.properties"
        _write_properties(properties, draft, ports)
        argv = [*_java(jars), "kafka.tools.StorageTool", "format"]
        argv += ["--cluster-id", cluster_id, "--config", str(properties)]
        answer = subprocess.run(argv, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            raise ServerUnavailable(f"Kafka's storage could not be formatted: {answer.stderr}")
        properties.unlink()
        draft.rename(log)
    _write_properties(home / "server.properties", log, ports)


def _write_properties(path: Path, log: Path, ports: tuple[int, int]) -> None:
    port, controller_port = ports
    properties = {
        **_PROPERTIES,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": str(log),
    }
    lines = [f"{name}={value}" for name, value in properties.items()]
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.servers.kafka", description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--install", action="store_true", help="fetch the jars if missing")
    choice.add_argument("--installed", action="store_true", help="exit 0 if they are there")
    choice.add_argument("--version", action="store_true", help="print the pinned version")
    asked = parser.parse_args()
    try:
        cache_dir = load_config().cache_dir
        if asked.version:
            print(version())
        elif asked.installed:
            sys.exit(0 if installation(cache_dir).exists() else 1)
        else:
            print(install(cache_dir))
    except OpsError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
