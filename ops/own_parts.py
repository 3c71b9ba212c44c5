"""Our own processes of a stack, each with the database role that it needs and no more."""

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ops.config import Config, Ports, archive_directory, inherited_environment
from ops.datadir import DataDir, Secrets
from ops.part import Part
from ops.servers import postgres

PROJECTORS = ("market", "mining", "accounts")
HISTORY_PROJECTOR = "projector-history"
# A drain spreads reconnects over 15 s, then waits for the slowest clients.
STREAM_STOP_TIMEOUT_S = 30.0
_PROJECT_ROOT = Path(__file__).parents[1]


def own_parts(client: Config, secrets: Secrets, extra: Mapping[str, tuple[str, ...]]) -> list[Part]:
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
        *_gateways(client, secrets, reader),
        # As the owner, because jobs are commands of operators: generations are made and dropped.
        _python_part(
            "jobs",
            ("jobs",),
            {
                **shared,
                "DURIAN_POSTGRES_URL": client.postgres_url,
                "DURIAN_HISTORY_URL": client.history_url,
                "DURIAN_DESK_URL": _desk_url(client, secrets),
            },
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


def _gateways(client: Config, secrets: Secrets, reader: Mapping[str, str]) -> list[Part]:
    """Each is told of the databases that it uses: accounts are apart from the rest, and only auth
    has the keys that tokens are signed with.
    """
    history = {
        **reader,
        "DURIAN_HISTORY_URL": _history_url(client, postgres.HISTORY_READER, secrets.history_reader),
    }
    desk = {"DURIAN_DESK_URL": _desk_url(client, secrets)}
    accounts = {
        "DURIAN_AUTH_URL": postgres.with_role(
            client.auth_url, role=postgres.AUTH, password=secrets.auth
        )
    }
    signing = {"DURIAN_TOKEN_KEYS": client.token_keys}
    return [
        _service_part("api", client, ("contribution", "mining", "trading"), {**history, **desk}),
        _service_part("auth", client, ("auth",), {**reader, **accounts, **signing}),
        _service_part("admin", client, ("admin",), {**history, **accounts, **desk}),
        *_streams(client, history),
    ]


def _desk_url(client: Config, secrets: Secrets) -> str:
    return postgres.with_role(client.desk_url, role=postgres.DESK, password=secrets.desk)


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
