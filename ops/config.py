"""The configuration of one process: a frozen struct read once from DURIAN_* variables.

The only file that reads the environment, and the only place where a default is written down.
An empty URL means "not configured": `durian up` then runs a private server of its own.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec

from ops.errors import UsageError

Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Clock = Literal["wall", "virtual"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]

HIDDEN = "***"
# Each part is told these itself: a role's URL or a password must not reach the others.
_NOT_INHERITED = (
    "DURIAN_POSTGRES_URL",
    "DURIAN_LOG_WRITER_PASSWORD",
    "DURIAN_LOG_READER_PASSWORD",
    "DURIAN_HISTORY_",
    "DURIAN_AUTH_",
    "DURIAN_DESK_",
    "DURIAN_TOKEN_KEYS",
    "DURIAN_PART",
    "NOTIFY_SOCKET",
    "WATCHDOG_",
)


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """TCP ports that a stack would like to have; `durian up` replaces those that are taken."""

    contribution: int = 3020
    mining: int = 3021
    trading: int = 3022
    admin: int = 3023
    auth: int = 3024
    stream: int = 3025
    engine: int = 3030
    engine_metrics: int = 3031
    relay_metrics: int = 3032
    market_metrics: int = 3033
    mining_metrics: int = 3034
    accounts_metrics: int = 3035
    history_metrics: int = 3036
    postgres: int = 5432
    redis: int = 6379
    kafka: int = 9092
    kafka_controller: int = 9093


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a process may know from outside.

    postgres_url: "postgresql://user:password@host:port/database", with the role of this part.
    history_url, auth_url, desk_url: the same of the databases of the deep history, of the accounts
    (rwa_auth) and of the administration (mining_admin_db), "" where a part does not use one.
    redis_url: "redis://:password@host:port"; each view chooses its own database number.
    kafka_url: "kafka://host:port". engine_url: "tcp://host:port".
    genesis: path of a genesis.json, "" to start with the default genesis.
    origins: web pages of other hosts that may open a stream and read answers,
    "https://host[:port]" with commas between, or "*". proxies: addresses whose X-Forwarded-For is
    believed, with commas between. requests_*: per second of one user, one member of staff, one
    address without a token, twice as many at once; 0 for no limit. access_log: a file, "-" for
    standard error, "none". stream_processes: how many share the stream's port on this machine.
    stream_connections_max: of one of these processes; one more is refused.
    token_public_key: path of the file that bearer tokens are verified with: a JWKS, or the PEM of
    one key. token_keys: directory of the keys that they are signed with, for auth only.
    staff_second_factor: whether auditors, operators and administrators without a second factor may
    do no more than set one up.
    archive_dir: where archived events are looked for; None means `archive` in the data directory.
    part, notify_socket: which part the supervisor (or systemd) started this process as, and
    where it waits for READY=1.
    """

    data_dir: Path = Path(".durian")
    cache_dir: Path = Path("~/.cache/durian")
    archive_dir: Path | None = None
    postgres_url: str = ""
    history_url: str = ""
    auth_url: str = ""
    desk_url: str = ""
    redis_url: str = ""
    kafka_url: str = ""
    engine_url: str = ""
    host: str = "127.0.0.1"
    ports: Ports = Ports()
    clock: Clock = "wall"
    genesis: str = ""
    origins: str = ""
    proxies: str = "127.0.0.1,::1"
    requests_user: NotNegative = 50
    requests_staff: NotNegative = 2_000
    requests_address: NotNegative = 100
    access_log: str = "-"
    stream_processes: Positive = 1
    stream_connections_max: Positive = 50_000
    token_public_key: str = ""
    token_keys: str = ""
    staff_second_factor: bool = False
    log_writer_password: str = ""
    log_reader_password: str = ""
    history_writer_password: str = ""
    history_reader_password: str = ""
    auth_password: str = ""
    desk_password: str = ""
    log_level: LogLevel = "info"
    log_format: LogFormat = "console"
    part: str = ""
    notify_socket: str = ""


# variable -> field; ports are read as DURIAN_PORT_<NAME>.
_VARIABLES = {
    "DURIAN_DATA": "data_dir",
    "DURIAN_CACHE": "cache_dir",
    "DURIAN_ARCHIVE": "archive_dir",
    "DURIAN_POSTGRES_URL": "postgres_url",
    "DURIAN_HISTORY_URL": "history_url",
    "DURIAN_AUTH_URL": "auth_url",
    "DURIAN_DESK_URL": "desk_url",
    "DURIAN_REDIS_URL": "redis_url",
    "DURIAN_KAFKA_URL": "kafka_url",
    "DURIAN_ENGINE_URL": "engine_url",
    "DURIAN_HOST": "host",
    "DURIAN_CLOCK": "clock",
    "DURIAN_GENESIS": "genesis",
    "DURIAN_ORIGINS": "origins",
    "DURIAN_PROXIES": "proxies",
    "DURIAN_REQUESTS_USER": "requests_user",
    "DURIAN_REQUESTS_STAFF": "requests_staff",
    "DURIAN_REQUESTS_ADDRESS": "requests_address",
    "DURIAN_ACCESS_LOG": "access_log",
    "DURIAN_STREAM_PROCESSES": "stream_processes",
    "DURIAN_STREAM_CONNECTIONS_MAX": "stream_connections_max",
    "DURIAN_TOKEN_PUBLIC_KEY": "token_public_key",
    "DURIAN_TOKEN_KEYS": "token_keys",
    "DURIAN_STAFF_SECOND_FACTOR": "staff_second_factor",
    "DURIAN_LOG_WRITER_PASSWORD": "log_writer_password",
    "DURIAN_LOG_READER_PASSWORD": "log_reader_password",
    "DURIAN_HISTORY_WRITER_PASSWORD": "history_writer_password",
    "DURIAN_HISTORY_READER_PASSWORD": "history_reader_password",
    "DURIAN_AUTH_PASSWORD": "auth_password",
    "DURIAN_DESK_PASSWORD": "desk_password",
    "DURIAN_LOG_LEVEL": "log_level",
    "DURIAN_LOG_FORMAT": "log_format",
    "DURIAN_PART": "part",
    "NOTIFY_SOCKET": "notify_socket",
}
_SCHEMES = {
    "postgres_url": ("postgresql", "postgres"),
    "history_url": ("postgresql", "postgres"),
    "auth_url": ("postgresql", "postgres"),
    "desk_url": ("postgresql", "postgres"),
    "redis_url": ("redis", "rediss"),
    "kafka_url": ("kafka",),
    "engine_url": ("tcp",),
}
_SECRETS = (
    "log_writer_password",
    "log_reader_password",
    "history_writer_password",
    "history_reader_password",
    "auth_password",
    "desk_password",
)


def load_config(environ: Mapping[str, str] | None = None) -> Config:
    """Read the environment (or the given mapping) into a Config; empty values count as unset.

    Raises UsageError, naming the variable, for a value that cannot be used.
    """
    env = os.environ if environ is None else environ
    fields: dict[str, object] = {
        field: env[name] for name, field in _VARIABLES.items() if env.get(name)
    }
    if "cache_dir" not in fields and env.get("XDG_CACHE_HOME"):
        fields["cache_dir"] = str(Path(env["XDG_CACHE_HOME"]) / "durian")
    fields["ports"] = {
        name: env[variable]
        for name in Ports.__struct_fields__
        if env.get(variable := f"DURIAN_PORT_{name.upper()}")
    }
    for field in ("data_dir", "cache_dir"):
        fields[field] = Path(str(fields.get(field, getattr(Config(), field)))).expanduser()
    if "archive_dir" in fields:
        fields["archive_dir"] = Path(str(fields["archive_dir"])).expanduser()
    try:
        config = msgspec.convert(fields, Config, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"configuration: {_name_variable(str(error))}") from error
    _check_urls(config)
    return config


def _name_variable(message: str) -> str:
    for name, field in _VARIABLES.items():
        message = message.replace(f"`$.{field}`", name)
    for field in Ports.__struct_fields__:
        message = message.replace(f"`$.ports.{field}`", f"DURIAN_PORT_{field.upper()}")
    return message


def _check_urls(config: Config) -> None:
    for field, schemes in _SCHEMES.items():
        url = getattr(config, field)
        if url and urlsplit(url).scheme not in schemes:
            raise UsageError(f"configuration: DURIAN_{field.upper()} must begin with {schemes[0]}:")


def require(config: Config, field: str) -> str:
    """The value of a text field that this process cannot do without; UsageError if it is empty."""
    text = getattr(config, field)
    if not text:
        variable = next(name for name, known in _VARIABLES.items() if known == field)
        raise UsageError(f"{variable} is not set; `durian up` sets it for the parts it starts")
    return str(text)


def archive_directory(config: Config) -> Path:
    """Where the log's archives are."""
    return (config.archive_dir or config.data_dir / "archive").expanduser().absolute()


def redacted(config: Config) -> dict[str, object]:
    """The configuration as plain values, passwords replaced by ***."""
    shown: dict[str, object] = msgspec.to_builtins(config, enc_hook=str)
    for field in _SCHEMES:
        shown[field] = redact_url(str(shown[field]))
    for field in _SECRETS:
        shown[field] = HIDDEN if shown[field] else ""
    return shown


def redact_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{HIDDEN}@{place}"))


def inherited_environment() -> dict[str, str]:
    """What a part gets of our environment: everything but what is another part's affair."""
    return {name: text for name, text in os.environ.items() if not name.startswith(_NOT_INHERITED)}


def working_directory() -> Path:
    return Path.cwd()
