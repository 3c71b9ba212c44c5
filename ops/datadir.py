"""One stack's data directory: where each thing lies, its secrets, its settings, its marker.

Holds paths and small JSON files, each replaced atomically; starts nothing. Files that carry a
password or a private key are readable by their owner only.
"""

import os
import secrets as randomness
from pathlib import Path

import msgspec

from ops.config import Clock
from ops.errors import UsageError

SECRET_BYTES = 24
CURRENT_STACKS_MAX = 20


class DataDir(msgspec.Struct, frozen=True):
    """Names inside the directory; root is absolute."""

    root: Path

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def kafka(self) -> Path:
        return self.root / "kafka"

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def state_file(self) -> Path:
        return self.run / "state.json"

    @property
    def ports_file(self) -> Path:
        return self.root / "ports.json"

    @property
    def genesis_file(self) -> Path:
        return self.root / "genesis.json"

    def log_file(self, part: str) -> Path:
        return self.logs / f"{part}.log"


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """Passwords made once per data directory. owner: the role that owns the databases.

    history_*, auth, desk: "" in a file from before they were; made when it is next read.
    """

    postgres_owner: str
    log_writer: str
    log_reader: str
    history_writer: str = ""
    history_reader: str = ""
    auth: str = ""
    desk: str = ""
    redis: str
    kafka_cluster_id: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided when the ledger was first started and holds for its whole life."""

    clock: Clock = "wall"


def open_data_dir(path: Path) -> DataDir:
    """Make the directory and its rooms where they are missing.

    The root stays passable for others, because PostgreSQL may have to run as another user; what
    is secret is protected by itself.
    """
    root = path.expanduser().absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        data_dir = DataDir(root.resolve())
        for room, mode in ((data_dir.logs, 0o700), (data_dir.run, 0o700), (data_dir.keys, 0o700)):
            room.mkdir(mode=mode, exist_ok=True)
    except OSError as error:
        raise UsageError(f"data directory {root}: {error.strerror}") from error
    return data_dir


def write_atomic(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace the file as a whole: readers and crashes see the old or the new, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    draft.replace(path)


def load_secrets(data_dir: DataDir) -> Secrets:
    path = data_dir.root / "secrets.json"
    if path.exists():
        return _completed(msgspec.json.decode(path.read_bytes(), type=Secrets), path)
    made = Secrets(
        postgres_owner=randomness.token_urlsafe(SECRET_BYTES),
        log_writer=randomness.token_urlsafe(SECRET_BYTES),
        log_reader=randomness.token_urlsafe(SECRET_BYTES),
        history_writer=randomness.token_urlsafe(SECRET_BYTES),
        history_reader=randomness.token_urlsafe(SECRET_BYTES),
        auth=randomness.token_urlsafe(SECRET_BYTES),
        desk=randomness.token_urlsafe(SECRET_BYTES),
        redis=randomness.token_urlsafe(SECRET_BYTES),
        # Kafka's ids are 16 bytes in URL-safe base64 and must not begin with a dash.
        kafka_cluster_id="A" + randomness.token_urlsafe(16)[:20] + "A",
    )
    write_atomic(path, msgspec.json.format(msgspec.json.encode(made)), mode=0o600)
    return made


def _completed(secrets: Secrets, path: Path) -> Secrets:
    missing = [field for field in Secrets.__struct_fields__ if not getattr(secrets, field)]
    if not missing:
        return secrets
    made = {field: randomness.token_urlsafe(SECRET_BYTES) for field in missing}
    completed = msgspec.structs.replace(secrets, **made)
    write_atomic(path, msgspec.json.format(msgspec.json.encode(completed)), mode=0o600)
    return completed


def load_settings(data_dir: DataDir, clock: Clock | None) -> Settings:
    """The directory's settings; a first start writes them, a later one may not contradict."""
    path = data_dir.root / "settings.json"
    if not path.exists():
        settings = Settings(clock=clock or "wall")
        write_atomic(path, msgspec.json.format(msgspec.json.encode(settings)))
        return settings
    settings = msgspec.json.decode(path.read_bytes(), type=Settings)
    if clock is not None and clock != settings.clock:
        raise UsageError(f"{data_dir.root} was started on a {settings.clock} clock, not {clock}")
    return settings


def remember_started(data_dir: DataDir, working_dir: Path) -> None:
    """Note the stack in WORKING_DIR/.durian/current, newest last, for status and down."""
    marker = working_dir / ".durian" / "current"
    marker.parent.mkdir(exist_ok=True)
    known = [root for root in started_stacks(working_dir) if root != data_dir.root]
    lines = [str(root) for root in [*known, data_dir.root][-CURRENT_STACKS_MAX:]]
    write_atomic(marker, ("\n".join(lines) + "\n").encode())


def started_stacks(working_dir: Path) -> list[Path]:
    """Data directories started from here, oldest first; not all of them need to be alive."""
    marker = working_dir / ".durian" / "current"
    if not marker.exists():
        return []
    return [Path(line) for line in marker.read_text().splitlines() if line]
