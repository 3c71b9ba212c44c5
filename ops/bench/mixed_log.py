"""A log as a busy ledger writes it: seconds of mining, and between them orders of the order mix."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import msgspec

from domain.effects import effects_of
from domain.ledger import tick
from domain.state import LedgerState
from engine.postgres.datastore import datastore_of
from engine.postgres.recorder import LedgerRecorder
from engine.sequencer import DecidedEvent
from ops.bench import order_mix
from ops.bench.engine_servers import Database
from schemas.codecs import encode_event, topic_of
from schemas.events import LedgerEvent, TradeExecuted
from schemas.history import history_keys
from schemas.streams import stream_id

SEED = 11
COMMANDS_PER_SECOND = 4
APPENDED_AT_ONCE = 2_000


# Its users are others than those of the load generator, which may go on with the log.
FIRST_USER = 1_000_000


class LogShape(msgspec.Struct, frozen=True, kw_only=True):
    """events: at least. users: each with funds, a contribution and open orders among `resting`.

    genesis_second: the log then ends about events / 8 seconds later.
    """

    events: int
    users: int = 1_000
    resting: int = 10_000
    genesis_second: int = order_mix.GENESIS_SECOND


class WrittenLog(msgspec.Struct, frozen=True, kw_only=True):
    """What was written. shares: per event, in words."""

    last: int
    payload_bytes: int
    trades: int
    effects: int

    @property
    def shares(self) -> str:
        return (
            f"{self.last:,} events of {self.payload_bytes / self.last:.0f} bytes, "
            f"{self.trades / self.last:.2f} trades and {self.effects / self.last:.2f} effects on "
            "users per event"
        )


def mixed_log(shape: LogShape) -> Iterator[LedgerEvent]:
    """The opening, then COMMANDS_PER_SECOND commands and a second, until there are enough."""
    state, made = LedgerState(), 0
    for command in order_mix.opening(shape.genesis_second):
        yield from order_mix.apply_command(state, command)
    yield from tick(state, shape.genesis_second)
    who = shape.users, FIRST_USER
    for command in (*order_mix.funding(*who), *order_mix.granting(*who)):
        yield from order_mix.apply_command(state, command)
    desk = order_mix.OrderDesk(state, shape.users, SEED, FIRST_USER)
    yield from desk.rest(shape.resting)
    kinds, shares = list(order_mix.SHARES), list(order_mix.SHARES.values())
    second = shape.genesis_second
    while made < shape.events:
        second += 1
        for event in tick(state, second):
            made += 1
            yield event
        for kind in desk.random.choices(kinds, shares, k=COMMANDS_PER_SECOND):
            for event in desk.send(desk.draw(kind)):
                made += 1
                yield event


def write_log(database: Database, shape: LogShape, progress: Callable[[int], None]) -> WrittenLog:
    """Append a mixed log to an empty log's tables, as an engine would. progress: events so far."""
    return write_events(database, mixed_log(shape), progress)


def write_events(
    database: Database, log: Iterator[LedgerEvent], progress: Callable[[int], None]
) -> WrittenLog:
    """The same of any log from its first event on."""
    with datastore_of(database.writer_url) as datastore, asyncio.Runner() as runner:
        recorder = LedgerRecorder(datastore)
        recorder.lead()
        try:
            return runner.run(_append(recorder, log, progress))
        finally:
            recorder.close_writer()


async def _append(
    recorder: LedgerRecorder, log: Iterator[LedgerEvent], progress: Callable[[int], None]
) -> WrittenLog:
    versions = dict[str, int]()
    payload_bytes = trades = effects = 0
    while happened := list(islice(log, APPENDED_AT_ONCE)):
        batch = [_decided(event, versions) for event in happened]
        keys = [(key, at) for at, event in enumerate(happened) for key in history_keys(event)]
        await recorder.append(batch, keys)
        payload_bytes += sum(len(event.state) for event in batch)
        trades += sum(isinstance(event, TradeExecuted) for event in happened)
        effects += _count_effects(happened)
        progress(recorder.head.position)
    return WrittenLog(
        last=recorder.head.position, payload_bytes=payload_bytes, trades=trades, effects=effects
    )


def _decided(event: LedgerEvent, versions: dict[str, int]) -> DecidedEvent:
    stream = stream_id(event)
    versions[stream] = version = versions.get(stream, 0) + 1
    return DecidedEvent(stream, version, topic_of(event), encode_event(event))


def _count_effects(happened: Sequence[LedgerEvent]) -> int:
    return sum(len(effects_of(0, event)) for event in happened)
