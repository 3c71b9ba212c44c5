"""Where the views, and what they are made from, are: in the environment or a running stack.

Opens the generations of any projection; only here a command learns that the history's are elsewhere
than the others'.
"""

import getpass
import secrets
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ops.commands.options import find_stack
from ops.config import Config, load_config, require
from ops.errors import UsageError
from ops.history_access import history_config
from ops.log_access import log_config
from ops.servers import postgres
from ops.status import running_state
from projections.folders import Folder, folder
from projections.generations import GenerationStore
from projections.history.folder import HistoryFolder
from projections.history.generations import HistoryGenerations
from projections.redis_generations import RedisGenerations, Who
from schemas.records import POSTINGS_PARTITIONS
from schemas.views import ACCOUNTS, HISTORY, HOME_DB

TOKEN_BYTES = 4


def projection_names() -> tuple[str, ...]:
    """Every projection that can be rebuilt, in the order in which they are."""
    return (*HOME_DB, HISTORY)


def chosen_projections(names: tuple[str, ...]) -> tuple[str, ...]:
    """What NAME… on a command line means; "all" is every one. Raises UsageError."""
    known = projection_names()
    for name in names:
        if name not in (*known, "all"):
            raise UsageError(f"no projection {name}; there are {', '.join(known)}, or all")
    return known if "all" in names else tuple(dict.fromkeys(names))


def views_config(data: Path | None, *, role: str = postgres.LOG_WRITER) -> Config:
    """The configuration of a client of views and log, the log as `role`, the history as its owner.

    Addresses of the environment are taken as they are. Raises ServerUnavailable if there are none.
    """
    is_given = bool(load_config().postgres_url)
    history = history_config(data, role=postgres.OWNER)
    config = log_config(data, role=role)
    config = msgspec.structs.replace(config, history_url=history.history_url)
    status = None if is_given else running_state(find_stack(data))
    if status is None:
        return config
    urls = {
        name: address["url"]
        for part in status.parts
        for name, address in part.addresses.items()
        if "url" in address
    }
    return msgspec.structs.replace(
        config,
        redis_url=config.redis_url or urls.get("redis", ""),
        kafka_url=config.kafka_url or urls.get("kafka", ""),
    )


def somebody() -> Who:
    """Who this process is to others who want to change the same generations."""
    return Who(name=actor(), now=now_text(), token=new_token())


def new_token() -> str:
    """A name that nobody had before: of an epoch, or of this process."""
    return secrets.token_hex(TOKEN_BYTES)


def actor() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def open_generations(config: Config, projection: str) -> GenerationStore:
    """The generations of a projection; close() them. Raises UsageError without an address."""
    if projection == HISTORY:
        return HistoryGenerations(require(config, "history_url"))
    return RedisGenerations(projection, require(config, "redis_url"), somebody())


def quiet_folder(projection: str, partition: int) -> Folder[Any]:
    """A folder for a rebuild: it publishes nothing."""
    if projection == HISTORY:
        return HistoryFolder()
    return folder(projection, partition, quiet=True)


def partition_count(projection: str) -> int:
    return POSTINGS_PARTITIONS if projection == ACCOUNTS else 1
