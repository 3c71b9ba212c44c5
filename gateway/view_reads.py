"""Reads of views that are asked for while others wait for Redis travel together: one transaction.

What a read costs is mostly its trip: a connection taken and checked, MULTI and EXEC, a wake-up. A
trip takes along whatever is asked for until it departs, so that a gateway with much to do makes
few of them and one without makes one at once. Each read sees the views as they are after it was
asked for, just as if it had gone alone; answers of one trip are of one moment.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from gateway.cancelling import end_all

# Two at a time: one is folded into answers while the other is on its way.
TRIPS_MAX = 2
# What others in Redis wait for at most.
READS_PER_TRIP_MAX = 64

StoredKey = Callable[[str], str]
Fill = Callable[[Pipeline, StoredKey], None]


class _Trip:
    """answers: those of all commands, in their order."""

    def __init__(self, pipe: Pipeline) -> None:
        self.pipe = pipe
        self.reads = 0
        self.answers: asyncio.Task[list[Any]]


class SharedReads:
    """Of one database. first: the key whose value each read is given besides its answers.

    turn_seconds_max: how long a trip waits for those before it while Redis does not answer.
    """

    def __init__(self, client: Redis, first: str, *, turn_seconds_max: float) -> None:
        self._client = client
        self._turn_seconds_max = turn_seconds_max
        self._first = first
        self._turn = asyncio.Semaphore(TRIPS_MAX)
        self._boarding: _Trip | None = None
        self._under_way: set[asyncio.Task[list[Any]]] = set()

    async def close(self) -> None:
        """Nobody is waiting any more."""
        await end_all(self._under_way)

    async def read(self, fill: Fill, key: StoredKey) -> tuple[Any, list[Any]]:
        """The value of `first`, and the answers to what `fill` asks for by `key`.

        Raises what the driver raises, and TimeoutError.
        """
        trip = self._boarding or self._new_trip()
        start = len(trip.pipe.command_stack)
        fill(trip.pipe, key)
        end = len(trip.pipe.command_stack)
        trip.reads += 1
        if trip.reads >= READS_PER_TRIP_MAX:
            self._boarding = None
        # One that gives up waiting must not end the trip of the others.
        answers = await asyncio.shield(trip.answers)
        mine = answers[start:end]
        for answer in mine:
            if isinstance(answer, Exception):
                raise answer
        return answers[0], mine

    def _new_trip(self) -> _Trip:
        self._boarding = trip = _Trip(self._client.pipeline(transaction=True))
        trip.pipe.get(self._first)
        trip.answers = asyncio.create_task(self._travel(trip), name="reads of views")
        self._under_way.add(trip.answers)
        trip.answers.add_done_callback(self._under_way.discard)
        return trip

    async def _travel(self, trip: _Trip) -> list[Any]:
        try:
            async with asyncio.timeout(self._turn_seconds_max):
                await self._turn.acquire()
        finally:
            if self._boarding is trip:
                self._boarding = None
        try:
            async with trip.pipe as pipe:
                answers: list[Any] = await pipe.execute(raise_on_error=False)
                return answers
        finally:
            self._turn.release()
