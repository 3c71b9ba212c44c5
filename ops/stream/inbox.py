"""The changes that a client's user has not taken yet: bounded, unless somebody awaits an answer.

A full inbox stops the reading, so that the gateway sees a slow client. It must not stop it while a
request is under way: its answer comes behind what is still unread.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from ops.stream.following import Change

CHANGES_MAX = 1_000


class Inbox:
    """is_urgent: whether reading must go on although the inbox is full."""

    def __init__(self, is_urgent: Callable[[], bool]) -> None:
        self._is_urgent = is_urgent
        self._changes: deque[Change] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._has_ended = False

    def put(self, change: Change) -> None:
        if change.kind == "lost" and self._changes and self._changes[-1].kind == "lost":
            self._changes.pop()  # a gateway that stays away says nothing new
        self._changes.append(change)
        self._filled.set()

    async def room(self) -> None:
        """Wait until something may be put; nudge() has it looked at again."""
        while len(self._changes) >= CHANGES_MAX and not self._is_urgent():
            self._room.clear()
            await self._room.wait()

    def nudge(self) -> None:
        self._room.set()

    def end(self) -> None:
        """Nothing will be put any more: take() returns None once it is empty."""
        self._has_ended = True
        self._filled.set()

    async def take(self) -> Change | None:
        while not self._changes:
            if self._has_ended:
                return None
            self._filled.clear()
            await self._filled.wait()
        self._room.set()
        return self._changes.popleft()
