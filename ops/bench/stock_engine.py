"""Our engine on the eventsourcing library's own recorder, for comparison only.

A process of its own: `python -m ops.bench.stock_engine`, told by the variables of `durian engine`.
Same sequencer, rules, command port and answers; no election, no fence, no hash chain, no history
index and no stored first answers. A log that such an engine wrote can't be gone on with.
"""

import asyncio
import gc
from collections.abc import Iterator, Sequence
from typing import cast

import uvloop
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg import Error

from engine.answers import FirstAnswers
from engine.clock import WallClock
from engine.errors import StoreUnavailable
from engine.fold import LedgerFold
from engine.hashing import GENESIS_HASH
from engine.metrics import EngineMetrics
from engine.ports import AnswerBlock, Head, LoggedEvent, NewEvent
from engine.postgres.datastore import datastore_of
from engine.postgres.tail import PostgresTail
from engine.repeats import Repeats
from engine.sequencer import Sequencer
from engine.server import serve
from ops.config import load_config, require
from ops.wiring import address_of, read_genesis, stop_on_signals

# Above about 2,000 events psycopg's pipeline can hang for ever on one insert.
INSERT_EVENTS_MAX = 1_000


class StockLog:
    """engine.ports.EventLog on the library's recorder, of an empty table, written in a thread."""

    def __init__(self, recorder: PostgresApplicationRecorder) -> None:
        self._recorder = recorder
        self._head = Head(0, 0, GENESIS_HASH)

    @property
    def head(self) -> Head:
        return self._head

    def lead(self) -> Head:
        """Raises StoreUnavailable if the table is not empty: its hashes are not known."""
        if self._recorder.max_notification_id():
            raise StoreUnavailable("the library's table holds events already")
        self._head = Head(1, 0, GENESIS_HASH)
        return self._head

    async def elect(self, address: str) -> Head:
        return self.lead()

    async def append(
        self,
        events: Sequence[NewEvent],
        history: Sequence[tuple[int, int]] = (),
        answers: AnswerBlock | None = None,
    ) -> Head:
        """history and answers are left out: the library has no place for them."""
        if events:
            await asyncio.to_thread(self.insert, events)
        self._head = Head(1, self._head.position + len(events), GENESIS_HASH)
        return self._head

    def insert(self, events: Sequence[NewEvent]) -> None:
        try:
            for first in range(0, len(events), INSERT_EVENTS_MAX):
                # It only reads the four attributes, whatever the event's class is.
                batch = cast("Sequence[StoredEvent]", events[first : first + INSERT_EVENTS_MAX])
                self._recorder.insert_events(batch)
        except Error as exc:
            raise StoreUnavailable(str(exc)) from exc

    def read(self, after: int = 0) -> Iterator[LoggedEvent]:
        """Nothing: it starts empty."""
        return iter(())

    def close_writer(self) -> None:
        self._recorder.datastore.close()


async def run() -> None:
    """Until SIGTERM. The URL's role must be allowed to create tables."""
    config = load_config()
    url, address = require(config, "postgres_url"), require(config, "engine_url")
    recorder = PostgresApplicationRecorder(datastore_of(url, kind=PostgresDatastore))
    recorder.create_table()
    log = StockLog(recorder)
    log.lead()
    metrics = EngineMetrics()
    repeats = Repeats(lambda: PostgresTail(url), metrics)
    sequencer = Sequencer(log, WallClock(), repeats, metrics, address)
    await sequencer.start(LedgerFold(), FirstAnswers(), read_genesis(config.genesis))
    gc.collect()
    gc.freeze()
    server = await serve(sequencer, *address_of(address))
    stop_on_signals(sequencer.stop)
    try:
        await sequencer.run()
    finally:
        await server.close()
        log.close_writer()


if __name__ == "__main__":
    uvloop.run(run())
