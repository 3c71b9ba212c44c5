"""Which parts a stack has, in which order, and what each of them is told.

Settles the data directory's ports, secrets and settings on the way; starts nothing. Each part
gets the PostgreSQL role it needs and no other role's password.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ops.config import Clock, Config, Ports, archive_directory, inherited_environment
from ops.datadir import DataDir, Secrets, load_secrets, load_settings, write_atomic
from ops.errors import UsageError
from ops.history_database import history_url_beside
from ops.part import Part
from ops.ports import PortReservations, choose_ports
from ops.servers import kafka, postgres, redis
from ops.service_databases import auth_url_beside, desk_url_beside
from ops.tokens import ensure_keys, public_key_file

PROJECTORS = ("market", "mining", "accounts")
HISTORY_PROJECTOR = "projector-history"
# A drain spreads reconnects over 15 s, then waits for the slowest clients.
STREAM_STOP_TIMEOUT_S = 30.0
_PROJECT_ROOT = Path(__file__).parents[1]


class StackOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to start.

    clock: None keeps what the data directory was first started with ("wall" if it is new).
    genesis: content of genesis.json for a new ledger; None leaves the file, if any, as it is.
    extra_parts: part name -> arguments after `python -m ops`; started when all else is ready.
    """

    data_dir: Path
    clock: Clock | None = None
    genesis: bytes | None = None
    extra_parts: Mapping[str, tuple[str, ...]] = {}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """client_config: for clients of the stack, with the owner's URLs of PostgreSQL."""

    parts: list[Part]
    client_config: Config
    notices: list[str]


def plan_stack(
    config: Config, options: StackOptions, data_dir: DataDir, reservations: PortReservations
) -> Plan:
    """Settle ports, secrets and settings of the data directory, and describe all parts.

    Raises ServerUnavailable if a server's program is missing, UsageError if the options
    contradict what the directory was first started with.
    """
    secrets = load_secrets(data_dir)
    settings = load_settings(data_dir, options.clock)
    _settle_genesis(data_dir, options.genesis)
    ensure_keys(data_dir)
    choice = choose_ports(
        config.ports,
        data_dir,
        reservations,
        host=config.host,
        unused=_ports_of_others(config),
    )
    notices = [
        f"port {taken} is taken: {name} uses {getattr(choice.ports, name)}"
        for name, taken in choice.replaced.items()
    ]
    client_config = _client_config(config, secrets, choice.ports, data_dir, settings.clock)
    parts = _servers(config, client_config, secrets, data_dir)
    parts += _own_parts(client_config, secrets, options.extra_parts)
    return Plan(parts=parts, client_config=client_config, notices=notices)


def _ports_of_others(config: Config) -> set[str]:
    served = {
        "postgres": config.postgres_url,
        "redis": config.redis_url,
        "kafka": config.kafka_url,
        "kafka_controller": config.kafka_url,
    }
    return {name for name, url in served.items() if url}


def _settle_genesis(data_dir: DataDir, genesis: bytes | None) -> None:
    if genesis is None:
        return
    if data_dir.genesis_file.exists() and data_dir.genesis_file.read_bytes() != genesis:
        raise UsageError(f"{data_dir.root} already holds a ledger with another genesis")
    write_atomic(data_dir.genesis_file, genesis)


def _client_config(
    config: Config, secrets: Secrets, ports: Ports, data_dir: DataDir, clock: Clock
) -> Config:
    owner_url = postgres.url(ports.postgres, role=postgres.OWNER, password=secrets.postgres_owner)
    postgres_url = config.postgres_url or owner_url
    return msgspec.structs.replace(
        config,
        data_dir=data_dir.root,
        postgres_url=postgres_url,
        history_url=config.history_url or history_url_beside(postgres_url),
        auth_url=config.auth_url or auth_url_beside(postgres_url),
        desk_url=config.desk_url or desk_url_beside(postgres_url),
        redis_url=config.redis_url or redis.url(ports.redis, secrets.redis),
        kafka_url=config.kafka_url or kafka.url(ports.kafka),
        engine_url=f"tcp://{config.host}:{ports.engine}",
        ports=ports,
        clock=clock,
        genesis=str(data_dir.genesis_file) if data_dir.genesis_file.exists() else "",
        token_public_key=public_key_file(data_dir),
        token_keys=str(data_dir.keys),
        log_writer_password=secrets.log_writer,
        log_reader_password=secrets.log_reader,
        history_writer_password=secrets.history_writer,
        history_reader_password=secrets.history_reader,
        auth_password=secrets.auth,
        desk_password=secrets.desk,
    )


def _servers(config: Config, client: Config, secrets: Secrets, data_dir: DataDir) -> list[Part]:
    """The three servers: private ones, or those that the configuration names, only probed.

    The published addresses of PostgreSQL are the readers': they are what an auditor may have.
    """
    environment = inherited_environment()
    reader_url = postgres.with_role(
        client.postgres_url, role=postgres.LOG_READER, password=secrets.log_reader
    )
    if config.postgres_url:
        database = Part(name="postgres", argv=(), probe=postgres.probe(config.postgres_url))
    else:
        database = postgres.part(
            data_dir,
            port=client.ports.postgres,
            owner_password=secrets.postgres_owner,
            environment=environment,
        )
    history_url = _history_url(client, postgres.HISTORY_READER, secrets.history_reader)
    addresses = {"postgres": {"url": reader_url}, "history": {"url": history_url}}
    database = msgspec.structs.replace(database, addresses=addresses)
    if config.redis_url:
        views = Part(
            name="redis",
            argv=(),
            probe=redis.probe(config.redis_url),
            addresses={"redis": {"url": config.redis_url}},
        )
    else:
        views = redis.part(
            data_dir, port=client.ports.redis, password=secrets.redis, environment=environment
        )
    return [database, views, _broker(config, client, secrets, data_dir)]


def _broker(config: Config, client: Config, secrets: Secrets, data_dir: DataDir) -> Part:
    if not config.kafka_url:
        return kafka.part(
            data_dir,
            port=client.ports.kafka,
            controller_port=client.ports.kafka_controller,
            cluster_id=secrets.kafka_cluster_id,
            cache_dir=config.cache_dir,
            environment=inherited_environment(),
        )
    bootstrap = config.kafka_url.removeprefix("kafka://").rstrip("/")
    return Part(
        name="kafka",
        argv=(),
        probe=kafka.probe(config.kafka_url),
        addresses={"kafka": {"url": config.kafka_url, "bootstrap": bootstrap}},
    )


def _own_parts(
    client: Config, secrets: Secrets, extra: Mapping[str, tuple[str, ...]]
) -> list[Part]:
    """Our own processes, each with the role it needs and no more."""
    shared = _shared_environment(client)

    def role_url(role: str, password: str) -> dict[str, str]:
        url = postgres.with_role(client.postgres_url, role=role, password=password)
        return {**shared, "DURIAN_POSTGRES_URL": url}

    owner = {
        **shared,
        "DURIAN_POSTGRES_URL": client.postgres_url,
        "DURIAN_LOG_WRITER_PASSWORD": secrets.log_writer,
        "DURIAN_LOG_READER_PASSWORD": secrets.log_reader,
        "DURIAN_HISTORY_URL": client.history_url,
        "DURIAN_HISTORY_WRITER_PASSWORD": secrets.history_writer,
        "DURIAN_HISTORY_READER_PASSWORD": secrets.history_reader,
        "DURIAN_AUTH_URL": client.auth_url,
        "DURIAN_AUTH_PASSWORD": secrets.auth,
        "DURIAN_DESK_URL": client.desk_url,
        "DURIAN_DESK_PASSWORD": secrets.desk,
    }
    reader = role_url(postgres.LOG_READER, secrets.log_reader)
    projectors = _projectors(client, secrets, shared)
    gateways = {**reader, **_gateway_urls(client, secrets)}
    listed = [
        _python_part("migrate", ("migrate",), owner, depends_on=("postgres", "kafka")),
        _python_part(
            "engine",
            ("engine",),
            role_url(postgres.LOG_WRITER, secrets.log_writer),
            depends_on=("migrate",),
            talks_to=("relay",),
            addresses={"engine": {"url": client.engine_url}},
        ),
        _python_part(
            "relay",
            ("relay",),
            reader,
            depends_on=("migrate",),
            talks_to=tuple(part.name for part in projectors),
        ),
        *projectors,
        *_gateways(client, secrets, gateways),
        # As the owner, because jobs are commands of operators: generations are made and dropped.
        _python_part(
            "jobs",
            ("jobs",),
            {**owner, "DURIAN_DESK_URL": gateways["DURIAN_DESK_URL"]},
            depends_on=("migrate", "redis", "kafka"),
        ),
    ]
    listed[0] = msgspec.structs.replace(listed[0], one_shot=True)
    others = tuple(part.name for part in listed)
    return listed + [
        _python_part(name, argv, shared, depends_on=others) for name, argv in extra.items()
    ]


def _projectors(client: Config, secrets: Secrets, shared: Mapping[str, str]) -> list[Part]:
    listed = [
        _python_part(
            f"projector-{name}", ("project", name), shared, depends_on=("migrate", "redis")
        )
        for name in PROJECTORS
    ]
    history = _python_part(
        HISTORY_PROJECTOR,
        ("project", "history"),
        {
            **shared,
            "DURIAN_HISTORY_URL": _history_url(
                client, postgres.HISTORY_WRITER, secrets.history_writer
            ),
        },
        depends_on=("migrate",),
    )
    return [*listed, history]


def _history_url(client: Config, role: str, password: str) -> str:
    return postgres.with_role(client.history_url, role=role, password=password)


def _gateway_urls(client: Config, secrets: Secrets) -> dict[str, str]:
    # The log's reader: its head row says which engine leads, its index what a user did.
    return {
        "DURIAN_HISTORY_URL": _history_url(client, postgres.HISTORY_READER, secrets.history_reader),
        "DURIAN_DESK_URL": postgres.with_role(
            client.desk_url, role=postgres.DESK, password=secrets.desk
        ),
    }


def _gateways(client: Config, secrets: Secrets, reader: Mapping[str, str]) -> list[Part]:
    """Accounts apart from the rest: only they are told where the passwords are, and only auth has
    the keys that tokens are signed with.
    """
    accounts = {
        **reader,
        "DURIAN_AUTH_URL": postgres.with_role(
            client.auth_url, role=postgres.AUTH, password=secrets.auth
        ),
    }
    signing = {**accounts, "DURIAN_TOKEN_KEYS": client.token_keys}
    streaming = {name: text for name, text in reader.items() if name != "DURIAN_DESK_URL"}
    return [
        _service_part("api", client, ("contribution", "mining", "trading"), reader),
        _service_part("auth", client, ("auth",), signing),
        _service_part("admin", client, ("admin",), accounts),
        *_streams(client, streaming),
    ]


def _service_part(
    name: str, client: Config, services: tuple[str, ...], environment: Mapping[str, str]
) -> Part:
    return _python_part(
        name,
        ("serve", *services),
        {**environment, "DURIAN_ACCESS_LOG": _access_log(client, name)},
        depends_on=("migrate", "redis"),
        talks_to=("engine",),
        addresses={
            service: {"url": f"http://{client.host}:{getattr(client.ports, service)}"}
            for service in services
        },
    )


def _access_log(client: Config, part: str) -> str:
    return str(DataDir(client.data_dir).logs / f"access-{part}.log")


def _streams(client: Config, reader: Mapping[str, str]) -> list[Part]:
    """As many as are configured; they share one port, so only the first has an address."""
    address = {"stream": {"url": f"ws://{client.host}:{client.ports.stream}/v1/stream"}}
    first = _python_part(
        "stream",
        ("serve", "stream"),
        {**reader, "DURIAN_ACCESS_LOG": _access_log(client, "stream")},
        depends_on=("migrate", "redis"),
        talks_to=("engine",),
        addresses=address,
    )
    first = msgspec.structs.replace(first, stop_timeout_s=STREAM_STOP_TIMEOUT_S)
    others = [
        msgspec.structs.replace(first, name=f"stream-{number}", addresses={})
        for number in range(2, client.stream_processes + 1)
    ]
    return [first, *others]


def _python_part(
    name: str,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    *,
    depends_on: tuple[str, ...],
    talks_to: tuple[str, ...] = (),
    addresses: Mapping[str, Mapping[str, str]] | None = None,
) -> Part:
    return Part(
        name=name,
        argv=(sys.executable, "-m", "ops", *arguments),
        environment=environment,
        depends_on=depends_on,
        talks_to=talks_to,
        working_dir=_PROJECT_ROOT,
        addresses=addresses or {},
    )


def _shared_environment(client: Config) -> dict[str, str]:
    ports = {
        f"DURIAN_PORT_{name.upper()}": str(getattr(client.ports, name))
        for name in Ports.__struct_fields__
    }
    return {
        **inherited_environment(),
        **ports,
        "DURIAN_ARCHIVE": str(archive_directory(client)),
        "DURIAN_REDIS_URL": client.redis_url,
        "DURIAN_KAFKA_URL": client.kafka_url,
        "DURIAN_ENGINE_URL": client.engine_url,
        "DURIAN_HOST": client.host,
        "DURIAN_CLOCK": client.clock,
        "DURIAN_GENESIS": client.genesis,
        "DURIAN_TOKEN_PUBLIC_KEY": client.token_public_key,
        "DURIAN_LOG_LEVEL": client.log_level,
        "DURIAN_LOG_FORMAT": client.log_format,
        "PYTHONUNBUFFERED": "1",
    }
