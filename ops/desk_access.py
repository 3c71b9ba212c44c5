"""The administration's database, opened for as long as a process needs it."""

import contextlib
from collections.abc import AsyncIterator

from gateway.database import Database
from gateway.desk.desk import Desk
from ops.config import Config, require
from schemas.wire import WireCode


@contextlib.asynccontextmanager
async def desk(config: Config) -> AsyncIterator[Desk]:
    """Open inside the block. Raises UsageError without DURIAN_DESK_URL."""
    found = Desk(Database(require(config, "desk_url"), WireCode.DESK_UNAVAILABLE))
    await found.open()
    try:
        yield found
    finally:
        await found.close()
