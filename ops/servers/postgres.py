"""A private PostgreSQL for the log: found, initialised, started with settings for appending.

Durable in every setting (fsync, full pages, synchronous commit): the log is the only truth.
PostgreSQL refuses to run as root, so that a stack started by root runs it as user postgres or,
where that user cannot reach the data directory, inside a user namespace.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec
import psycopg

from ops.datadir import DataDir
from ops.errors import ServerUnavailable
from ops.part import Part, Probe
from ops.processes import identify

MAJOR_MIN = 15
DATABASE = "durian_ledger"
OWNER = "durian"
LOG_WRITER = "durian_log_writer"
LOG_READER = "durian_log_reader"
HISTORY_WRITER = "durian_history_writer"
HISTORY_READER = "durian_history_reader"
AUTH = "durian_auth"
DESK = "durian_desk"
PROBE_TIMEOUT_S = 2
# A clean stop writes a checkpoint: up to max_wal_size of dirty pages on a slow disk.
STOP_TIMEOUT_S = 60.0

_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_connections": "100",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "jit": "off",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Binaries(msgspec.Struct, frozen=True, kw_only=True):
    """One installation: the directory of postgres, initdb and friends, and its major version."""

    directory: Path
    major: int


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who the server runs as. run_as: (uid, gid), None for the user we are; prefix: a launcher."""

    run_as: tuple[int, int] | None = None
    prefix: tuple[str, ...] = ()


def url(port: int, *, role: str, password: str) -> str:
    return f"postgresql://{role}:{quote(password, safe='')}@127.0.0.1:{port}/{DATABASE}"


def with_role(postgres_url: str, *, role: str, password: str) -> str:
    """The same server and database as another role."""
    parts = urlsplit(postgres_url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}:{quote(password, safe='')}@{place}"))


def part(data_dir: DataDir, *, port: int, owner_password: str, environment: dict[str, str]) -> Part:
    """Describe the server; blocks for the checks of who it can run as (milliseconds)."""
    home, cluster = data_dir.postgres, data_dir.postgres / "data"
    home.mkdir(mode=0o700, exist_ok=True)
    binaries = find_binaries(cluster)
    identity = choose_identity(home, binaries)
    settings = {**_SETTINGS, "port": str(port)}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    owner_url = url(port, role=OWNER, password=owner_password)
    server = str(binaries.directory / "postgres")
    return Part(
        name="postgres",
        argv=(*identity.prefix, server, "-D", str(cluster), *options),
        environment=environment,
        prepare=partial(_prepare, home, binaries, identity, owner_password),
        probe=probe(owner_url),
        # SIGINT is PostgreSQL's fast shutdown: it ends sessions instead of waiting for them.
        stop_signal=signal.SIGINT,
        stop_timeout_s=STOP_TIMEOUT_S,
        working_dir=home,
        run_as=identity.run_as,
        addresses={"postgres": {"url": owner_url}},
    )


def probe(owner_url: str) -> Probe:
    """A question that is answered True once the ledger's database can be used.

    Makes the database when the server lacks it, so that a fresh cluster becomes ready by itself.
    """
    parts = urlsplit(owner_url)
    database = parts.path.lstrip("/") or DATABASE
    maintenance_url = urlunsplit(parts._replace(path="/postgres"))

    async def answers() -> bool:
        try:
            await _connect_once(owner_url, "SELECT 1")
        except psycopg.OperationalError as error:
            # While connecting, libpq tells errors apart by their text only.
            return "does not exist" in str(error) and await _create(maintenance_url, database)
        return True

    return answers


async def _create(maintenance_url: str, database: str) -> bool:
    try:
        await _connect_once(maintenance_url, f'CREATE DATABASE "{database}"')
    except psycopg.errors.DuplicateDatabase:
        return True
    except psycopg.Error:
        return False
    return True


async def _connect_once(server_url: str, statement: str) -> None:
    connection = await psycopg.AsyncConnection.connect(
        server_url, autocommit=True, connect_timeout=PROBE_TIMEOUT_S
    )
    async with connection:
        await connection.execute(statement.encode())


def find_binaries(cluster: Path) -> Binaries:
    """The newest installation from MAJOR_MIN on, or the one whose major an existing cluster has."""
    candidates = [Path(found).resolve().parent] if (found := shutil.which("postgres")) else []
    for place in _PLACES:
        candidates.extend(sorted(Path("/").glob(place.lstrip("/"))))
    installed = {
        (known := Binaries(directory=directory, major=_major(directory))).major: known
        for directory in candidates
        if (directory / "initdb").exists() and (directory / "postgres").exists()
    }
    version_file = cluster / "PG_VERSION"
    if version_file.exists():
        major = int(version_file.read_text())
        if major not in installed:
            raise ServerUnavailable(f"{cluster} needs PostgreSQL {major}, which is not installed")
        return installed[major]
    if not installed or max(installed) < MAJOR_MIN:
        raise ServerUnavailable(
            f"PostgreSQL {MAJOR_MIN} or newer is not installed: `make setup` installs it, "
            "or set DURIAN_POSTGRES_URL"
        )
    return installed[max(installed)]


def _major(directory: Path) -> int:
    answer = subprocess.run(
        [directory / "postgres", "--version"], capture_output=True, text=True, check=False
    )
    found = re.search(r"\) (\d+)", answer.stdout)
    return int(found.group(1)) if found else 0


def choose_identity(home: Path, binaries: Binaries) -> Identity:
    """Who the server can run as: ourselves, user postgres, or a namespace's unprivileged user.

    A cluster keeps the owner it was made with. Raises ServerUnavailable if root has no way.
    """
    if os.geteuid() != 0:
        return Identity()
    cluster = home / "data"
    owner = cluster.stat() if cluster.exists() else None
    user = _named_user("postgres")
    candidates = []
    if owner is not None and owner.st_uid != 0:
        candidates.append(Identity(run_as=(owner.st_uid, owner.st_gid)))
    elif owner is None and user is not None:
        os.chown(home, *user)
        candidates.append(Identity(run_as=user))
    if shutil.which("unshare") and (inner := user or _named_user("nobody")):
        prefix = ("unshare", "--user", f"--map-user={inner[0]}", f"--map-group={inner[1]}", "--")
        candidates.append(Identity(prefix=prefix))
    for identity in candidates:
        if identity.run_as is None:
            os.chown(home, 0, 0)
        if _can_run(identity, home, binaries):
            return identity
    raise ServerUnavailable(
        f"PostgreSQL refuses to run as root, and neither user postgres nor a user namespace "
        f"can use {home}: start durian as an ordinary user, choose --data elsewhere, "
        "or set DURIAN_POSTGRES_URL"
    )


def _named_user(name: str) -> tuple[int, int] | None:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    return found.pw_uid, found.pw_gid


def _can_run(identity: Identity, home: Path, binaries: Binaries) -> bool:
    question = 'test -w "$1" && exec "$2" --version'
    server = str(binaries.directory / "postgres")
    answer = _run_as(identity, ["sh", "-c", question, "sh", str(home), server])
    return answer.returncode == 0


def _run_as(identity: Identity, argv: list[str]) -> subprocess.CompletedProcess[str]:
    uid, gid = identity.run_as or (None, None)
    return subprocess.run(
        [*identity.prefix, *argv],
        user=uid,
        group=gid,
        extra_groups=None if gid is None else [gid],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def _prepare(home: Path, binaries: Binaries, identity: Identity, owner_password: str) -> None:
    cluster = home / "data"
    if not (cluster / "PG_VERSION").exists():
        _initialise(home, binaries, identity, owner_password)
    _drop_stale_pid_file(cluster)


def _initialise(home: Path, binaries: Binaries, identity: Identity, owner_password: str) -> None:
    # Into a draft that is renamed when complete: a half-made cluster never looks like one.
    draft, password_file = home / "data.new", home / "password.new"
    shutil.rmtree(draft, ignore_errors=True)
    password_file.touch(mode=0o600)
    password_file.write_text(owner_password)
    if identity.run_as is not None:
        os.chown(password_file, *identity.run_as)
    argv = [str(binaries.directory / "initdb"), "--pgdata", str(draft), "--username", OWNER]
    argv += ["--auth=scram-sha-256", "--pwfile", str(password_file)]
    argv += ["--encoding=UTF8", "--locale=C", "--data-checksums"]
    answer = _run_as(identity, argv)
    password_file.unlink()
    if answer.returncode != 0:
        raise ServerUnavailable(f"initdb: {answer.stderr.strip() or answer.stdout.strip()}")
    draft.rename(home / "data")


def _drop_stale_pid_file(cluster: Path) -> None:
    # After kill -9 the pid may belong to a stranger by now, and PostgreSQL would refuse to start.
    pid_file = cluster / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return
    try:
        holder = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return
    if identify(pid) is None or os.fsencode(cluster) not in holder:
        pid_file.unlink()
