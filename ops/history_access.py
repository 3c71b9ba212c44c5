"""Where the deep history is, for a command typed by a person: in the environment or a running
stack.
"""

from pathlib import Path

import msgspec

from ops.commands.options import find_stack
from ops.config import Config, load_config
from ops.datadir import load_secrets
from ops.errors import ServerUnavailable
from ops.history_database import history_url_beside
from ops.servers import postgres
from ops.status import running_state

_PASSWORDS = {
    postgres.OWNER: "postgres_owner",
    postgres.HISTORY_WRITER: "history_writer",
    postgres.HISTORY_READER: "history_reader",
}


def history_config(data: Path | None, *, role: str) -> Config:
    """The configuration with the history's URL as `role`, and the data directory of its stack.

    A URL of the environment is taken as it is; DURIAN_POSTGRES_URL alone means trading_db on that
    server. Raises ServerUnavailable if there is neither.
    """
    config = load_config()
    if config.history_url:
        return config
    if config.postgres_url:
        url = history_url_beside(config.postgres_url)
        return msgspec.structs.replace(config, history_url=url)
    data_dir = find_stack(data)
    status = running_state(data_dir)
    if status is None:
        raise ServerUnavailable(
            f"nothing runs in {data_dir.root}, and DURIAN_HISTORY_URL is unset;"
            " start a stack with `durian up`"
        )
    addresses = {name: found for part in status.parts for name, found in part.addresses.items()}
    password = getattr(load_secrets(data_dir), _PASSWORDS[role])
    return msgspec.structs.replace(
        config,
        data_dir=data_dir.root,
        history_url=postgres.with_role(addresses["history"]["url"], role=role, password=password),
    )
