"""Which parts a stack has, in which order, and what each of them is told.

Settles the data directory's ports, secrets and settings on the way; starts nothing. Each part
gets the PostgreSQL role it needs and no other role's password.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from ops.config import Clock, Config, Ports, inherited_environment
from ops.datadir import DataDir, Secrets, load_secrets, load_settings, write_atomic
from ops.errors import UsageError
from ops.history_database import history_url_beside
from ops.own_parts import own_parts
from ops.part import Part
from ops.ports import PortReservations, choose_ports
from ops.servers import kafka, postgres, redis
from ops.service_databases import auth_url_beside, desk_url_beside
from ops.tokens import ensure_keys, public_key_file


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
    parts += own_parts(client_config, secrets, options.extra_parts)
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
    history_url = postgres.with_role(
        client.history_url, role=postgres.HISTORY_READER, password=secrets.history_reader
    )
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
