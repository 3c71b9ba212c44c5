"""What is done after the answer has gone out, so that its time tells nothing."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Final

from gateway.errors import DatabaseUnavailable, Refusal
from schemas.wire import WireCode

logger = logging.getLogger(__name__)

WAITING_MAX: Final = 200


class Later:
    """A bounded set of tasks; finish() before the database is closed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def do(self, work: Coroutine[None, None, None]) -> None:
        """Raises Refusal(too_many_requests) if too much waits."""
        if len(self._tasks) >= WAITING_MAX:
            work.close()
            raise Refusal(WireCode.TOO_MANY_REQUESTS, "Too much is asked for.", retry_after=1)
        task = asyncio.create_task(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        await asyncio.gather(*self._tasks)


async def _logged(work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except DatabaseUnavailable as exc:
        logger.warning("what was to be done after an answer was not: %s", exc)
