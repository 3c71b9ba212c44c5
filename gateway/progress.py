"""How far views are, asked about once for everybody who waits for the same ones.

A thousand requests that wait for one projection cost as many reads of its checkpoint as one does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from gateway.errors import GatewayError, Refusal
from schemas.wire import WireCode

# A projection and its partition: what has a checkpoint of its own.
Part = tuple[str, int]
T = TypeVar("T")
ReadPosition = Callable[[], Awaitable[int]]

WAIT_SECONDS_MAX: Final = 2.0
POLL_SECONDS: Final = 0.005
ANSWER_SECONDS: Final = 0.5
WAITING_MAX: Final = 10_000
# Views that are so far behind will not be there in time, so nobody is kept waiting for them.
POSITIONS_BEHIND_MAX: Final = 100_000


class Progress:
    """Of one process and event loop."""

    def __init__(self) -> None:
        self._watches: dict[Part, _Watch] = {}
        self._waiting = 0
        self._answers: dict[str, _Answer] = {}

    async def shared(self, name: str, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` answers: asked by one at a time, for all who want to know meanwhile and for
        ANSWER_SECONDS after. name: of what is asked, always the same kind of thing.
        """
        answer = self._answers.setdefault(name, _Answer())
        loop = asyncio.get_running_loop()
        if answer.asking is None or (answer.asking.done() and loop.time() >= answer.fresh_until):
            answer.asking = asyncio.ensure_future(ask())
            answer.asking.add_done_callback(
                lambda _: setattr(answer, "fresh_until", loop.time() + ANSWER_SECONDS)
            )
        found: T = await asyncio.shield(answer.asking)
        return found

    async def reach(self, part: Part, position: int, read: ReadPosition) -> int:
        """Where the views are when they reach `position`, or when it is time to give up: then less.

        read: asks for the part's position. Raises what it raises of GatewayError, and
        Refusal(too_many_requests) if WAITING_MAX wait already.
        """
        if self._waiting >= WAITING_MAX:
            raise Refusal(WireCode.TOO_MANY_REQUESTS, "Too many wait for views.", retry_after=1)
        watch = self._watches.setdefault(part, _Watch())
        self._waiting += 1
        try:
            return await watch.reach(position, read)
        finally:
            self._waiting -= 1


class _Answer:
    def __init__(self) -> None:
        self.asking: asyncio.Future[Any] | None = None
        self.fresh_until = 0.0


class _Watch:
    """Those who wait for one part. reading: the task that looks, while somebody waits."""

    def __init__(self) -> None:
        self._waiters: list[tuple[int, asyncio.Future[int]]] = []
        self._found = 0
        self._reading: asyncio.Task[None] | None = None

    async def reach(self, position: int, read: ReadPosition) -> int:
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.append((position, waiter))
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._follow(read))
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                return await waiter
        except TimeoutError:
            return self._found

    async def _follow(self, read: ReadPosition) -> None:
        while self._waiters:
            try:
                self._found = await read()
            except GatewayError as exc:
                self._give_up(exc)
                return
            self._tell()
            if self._waiters:
                await asyncio.sleep(POLL_SECONDS)

    def _tell(self) -> None:
        found, waiters = self._found, self._waiters
        self._waiters = []
        for position, waiter in waiters:
            if waiter.done():
                continue
            if found < position <= found + POSITIONS_BEHIND_MAX:
                self._waiters.append((position, waiter))
            else:
                waiter.set_result(found)

    def _give_up(self, exc: GatewayError) -> None:
        waiters, self._waiters = self._waiters, []
        for _, waiter in waiters:
            if not waiter.done():
                waiter.set_exception(exc)
