"""Where the log is, for a command typed by a person: in the environment or a running stack."""

from pathlib import Path

import msgspec

from ops.commands.options import find_stack
from ops.config import Config, load_config
from ops.datadir import load_secrets
from ops.errors import ServerUnavailable
from ops.servers import postgres
from ops.status import running_state

_PASSWORDS = {
    postgres.OWNER: "postgres_owner",
    postgres.LOG_WRITER: "log_writer",
    postgres.LOG_READER: "log_reader",
}


def log_config(data: Path | None, *, role: str) -> Config:
    """The configuration with the log's URL as `role`, and the data directory of its stack.

    A URL of the environment is taken as it is. Raises ServerUnavailable if there is neither.
    """
    config = load_config()
    if config.postgres_url:
        return config
    data_dir = find_stack(data)
    status = running_state(data_dir)
    if status is None:
        raise ServerUnavailable(
            f"nothing runs in {data_dir.root}, and DURIAN_POSTGRES_URL is unset;"
            " start a stack with `durian up`"
        )
    url = next(
        part.addresses["postgres"]["url"] for part in status.parts if part.name == "postgres"
    )
    password = getattr(load_secrets(data_dir), _PASSWORDS[role])
    return msgspec.structs.replace(
        config,
        data_dir=data_dir.root,
        postgres_url=postgres.with_role(url, role=role, password=password),
    )
