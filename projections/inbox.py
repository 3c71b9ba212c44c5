"""What waits for one partition's worker: all of it is folded together once the worker is free.

So batches grow while the store is busy, and an idle worker folds a lone record at once. Bounded: a
full inbox makes its giver wait. Knows neither Faust nor Kafka.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from projections.errors import KafkaAway
from projections.partition import BATCH_RECORDS_MAX, Record

WAITING_RECORDS_MAX = BATCH_RECORDS_MAX
# What an assignment that ends may still take for the batch under way.
CLOSE_SECONDS = 1.0


class Inbox:
    """Of one assignment of a partition. next_offset: Kafka's, of the record to be given next."""

    def __init__(
        self, receive: Callable[[Sequence[Record]], Awaitable[None]], *, next_offset: int
    ) -> None:
        self.next_offset = next_offset
        self._receive = receive
        self._waiting: deque[Record] = deque()
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._is_closed = False
        self._missed: int | None = None

    async def put(self, records: Sequence[Record]) -> int | None:
        """Give the next records; a closed inbox drops them.

        Not None: no more was taken, because another offset comes next; give again from that one.
        That happens with records fetched before a seek. If the next ones are still others, offsets
        are left out in Kafka, which means nothing; or they went back: raises KafkaAway, because
        the topic was made anew.
        """
        if self._is_closed and any(record.offset < self.next_offset for record in records):
            # Closed by poison: only what is read from Kafka can tell that its copy is another now.
            raise KafkaAway("the topic was made anew")
        for record in records:
            while len(self._waiting) >= WAITING_RECORDS_MAX and not self._is_closed:
                self._room.clear()
                await self._room.wait()
            if self._is_closed:
                return None
            if record.offset != self.next_offset:
                if self._missed != self.next_offset:
                    self._missed = self.next_offset
                    return self._missed
                if record.offset < self.next_offset:
                    raise KafkaAway(
                        f"offsets went back to {record.offset}: the topic was made anew"
                    )
            self._waiting.append(record)
            self.next_offset = record.offset + 1
            self._some.set()
        return None

    async def run(self) -> None:
        """Hand over what waits until closed; what `receive` raises ends it, and closes it."""
        try:
            while not self._is_closed:
                await self._some.wait()
                self._some.clear()
                records = list(self._waiting)
                self._waiting.clear()
                self._room.set()
                if records:
                    await self._receive(records)
        finally:
            self.close()

    def close(self) -> None:
        """Drop what waits; run() ends after the batch under way."""
        self._is_closed = True
        self._waiting.clear()
        self._room.set()
        self._some.set()


async def end(inbox: Inbox, running: "asyncio.Task[None]") -> None:
    """Close an inbox and wait for its batch under way, but not for ever."""
    inbox.close()
    await asyncio.wait([running], timeout=CLOSE_SECONDS)
    running.cancel()
    await asyncio.wait([running])
