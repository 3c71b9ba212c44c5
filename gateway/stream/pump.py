"""Sends what connections have pending, a slice of them at a time, so that the loop never stalls.

A tick for 12,000 connections is a sweep of 150 ms; between slices answers, accepts and other feeds
get their turn. Each sweep begins elsewhere, so that no connection is always the last.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

SLICE = 250
# Feeds that carry the same second come a moment apart. Whoever has both gets them in one segment,
# whose headers would weigh more than most publications.
GATHER_SECONDS = 0.005


class Sender(Protocol):
    """Something that was given frames. flush never raises, whatever became of the peer."""

    def flush(self) -> None: ...


class Pump:
    """run() must be running for anything to be sent by it."""

    def __init__(
        self,
        swept: Callable[[float], None] = lambda seconds: None,
        *,
        gather_seconds: float = GATHER_SECONDS,
    ) -> None:
        """swept: is told how long each sweep took, from its first to its last connection."""
        self._swept = swept
        self._gather_seconds = gather_seconds
        self._due: list[Sender] = []
        self._start = 0
        self._some = asyncio.Event()
        # Of the sweep that has begun, and of the one after it; a set one is over.
        self._current, self._next = asyncio.Event(), asyncio.Event()
        self._current.set()

    def add(self, sender: Sender) -> None:
        """Have a sender flushed in the next sweep; to be added once until then."""
        if not self._due:
            self._some.set()
        self._due.append(sender)

    async def settled(self) -> None:
        """Wait until everything added so far was flushed; what others add meanwhile is not."""
        await (self._next if self._due else self._current).wait()

    async def run(self) -> None:
        """Sweep until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            await asyncio.sleep(self._gather_seconds)
            began = loop.time()
            self._some.clear()
            self._current, self._next = self._next, asyncio.Event()
            await self._sweep()
            self._current.set()
            self._swept(loop.time() - began)

    async def _sweep(self) -> None:
        due, self._due = self._due, []
        count = len(due)
        self._start = (self._start + SLICE) % count if count > SLICE else 0
        for first in range(0, count, SLICE):
            begin = (self._start + first) % count
            size = min(SLICE, count - first)
            # Past the end, the slice goes on at the beginning.
            over = max(begin + size - count, 0)
            for sender in (*due[begin : begin + size], *due[:over]):
                sender.flush()
            await asyncio.sleep(0)
