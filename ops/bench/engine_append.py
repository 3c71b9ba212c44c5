"""Events a second into the log, batch by batch: our recorder beside raw PostgreSQL and the library.

All four get the same events on connections of their own to one server, one durable commit a batch;
packing the parameters counts for all, making the events for none.
"""

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec
import psycopg
import uvloop
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.pq import ExecStatus

from engine.postgres import binary
from engine.postgres.datastore import datastore_of
from engine.postgres.recorder import LedgerRecorder
from ops.bench.engine_servers import Servers
from ops.bench.report import Row, row
from ops.bench.turns import Timed, take_turns
from ops.demo.progress import Tasks

PAYLOAD_BYTES = 200
STREAMS = 1_000
SHARE_OF_RAW_MIN = 0.5
# The order mix has 1.8 history keys an event: one each, and four more for a trade, every fifth.
TRADE_EVERY = 5
TRADE_KEYS = 5
_TOPIC = "bench_event:1"
_HASH = bytes(32)
_BARE_TABLE = b"""
CREATE TABLE %s (originator_id text NOT NULL, originator_version bigint NOT NULL,
    topic text NOT NULL, state bytea NOT NULL, notification_id bigint PRIMARY KEY,
    epoch bigint NOT NULL, hash bytea NOT NULL)
"""
_UNNEST = b"""
INSERT INTO bare_unnest SELECT a, b, c, d, $1 + o, 1, e
FROM unnest($2, $3, $4, $5, $6) WITH ORDINALITY AS u(a, b, c, d, e, o)
"""
_UNNEST_TYPES = [
    binary.INT8_OID,
    binary.TEXT_ARRAY_OID,
    binary.INT8_ARRAY_OID,
    binary.TEXT_ARRAY_OID,
    binary.BYTEA_ARRAY_OID,
    binary.BYTEA_ARRAY_OID,
]
_COPY = "COPY bare_copy FROM STDIN (FORMAT BINARY)"
_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = struct.pack(">h", -1)

NOTES = (
    f"Append: events of {PAYLOAD_BYTES} bytes in {STREAMS:,} streams, one durable commit a batch "
    "over TCP, wall time, medians of rounds in turns. Ours: hash chain, fence, NOTIFY, two indexes "
    "and 1.8 history keys an event, as the order mix has them. Raw: the same columns with a "
    "primary key on the position and nothing else; COPY packed by hand too.",
)


Write = Callable[[Sequence[list[StoredEvent]]], float]
"""Commits the batches one by one; seconds."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """batches: events a commit. events: of one turn, in whole batches."""

    batches: tuple[int, ...] = (100, 1_000)
    events: int = 10_000


class Feed:
    """Events that continue their streams, for one table."""

    def __init__(self) -> None:
        self._made = 0

    def batches(self, count: int, size: int) -> list[list[StoredEvent]]:
        return [[self._next() for _ in range(size)] for _ in range(count)]

    def _next(self) -> StoredEvent:
        version, stream = divmod(self._made, STREAMS)
        self._made += 1
        payload = b"%0*d" % (PAYLOAD_BYTES, self._made)
        return StoredEvent(f"user:user-{stream:07}", version + 1, _TOPIC, payload)


def history_of(first_key: int, events: int) -> list[tuple[int, int]]:
    """History keys of a batch: every one its own."""
    keys = [
        index
        for index in range(events)
        for _ in range(TRADE_KEYS if index % TRADE_EVERY == 0 else 1)
    ]
    return [(first_key + number, index) for number, index in enumerate(keys)]


def run_append(servers: Servers, seconds: float, tasks: Tasks, sizes: Sizes) -> list[Row]:
    """Rows for every batch size."""
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        writers: dict[str, Write] = {
            "ours": stack.enter_context(_ours(servers)),
            "unnest": stack.enter_context(_unnest(servers)),
            "copy": stack.enter_context(_copy(servers)),
            "stock": stack.enter_context(_stock(servers)),
        }
        feeds = {name: Feed() for name in writers}
        for size in sizes.batches:
            count = max(sizes.events // size, 1)
            figures = take_turns(
                {
                    name: _events_per_s(write, feeds[name], count, size)
                    for name, write in writers.items()
                },
                seconds=seconds / len(sizes.batches),
                progress=tasks.task(f"append, batches of {size:,}", 100),
            )
            rows += _rows(size, figures)
    return rows


def _events_per_s(write: Write, feed: Feed, count: int, size: int) -> Timed:
    return lambda: count * size / write(feed.batches(count, size))


def _rows(size: int, figures: dict[str, float]) -> list[Row]:
    ours, share = figures["ours"], figures["ours"] / figures["unnest"]
    names = {
        "unnest": "raw binary unnest, bare table",
        "copy": "raw COPY, bare table",
        "stock": "eventsourcing's recorder",
    }
    return [
        *(
            row(
                f"events/s appended, batches of {size:,}, against {name}",
                ours,
                reference=figures[name],
                reference_name=meaning,
            )
            for name, meaning in names.items()
        ),
        row(
            f"share of raw unnest, batches of {size:,}",
            share,
            at_least=SHARE_OF_RAW_MIN,
        ),
    ]


@contextlib.contextmanager
def _ours(servers: Servers) -> Iterator[Write]:
    url = servers.database().writer_url
    with (
        datastore_of(url) as datastore,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        recorder = LedgerRecorder(datastore)

        async def append(batches: Sequence[list[StoredEvent]]) -> float:
            histories, key = [], recorder.head.position * TRADE_KEYS
            for batch in batches:
                histories.append(history_of(key, len(batch)))
                key += len(histories[-1])
            began = time.perf_counter()
            for batch, history in zip(batches, histories, strict=True):
                await recorder.append(batch, history)
            return time.perf_counter() - began

        def write(batches: Sequence[list[StoredEvent]]) -> float:
            # Anew each turn: a leader that is silent for longer loses its connection.
            recorder.lead()
            return runner.run(append(batches))

        yield write
        recorder.close_writer()


@contextlib.contextmanager
def _unnest(servers: Servers) -> Iterator[Write]:
    with _bare_table(servers, b"bare_unnest") as connection:
        libpq, position = connection.pgconn, 0
        assert libpq.prepare(b"u", _UNNEST, _UNNEST_TYPES).status == ExecStatus.COMMAND_OK

        def write(batches: Sequence[list[StoredEvent]]) -> float:
            nonlocal position
            began = time.perf_counter()
            for batch in batches:
                parameters = [
                    binary.int8(position),
                    binary.bytes_array(
                        binary.TEXT_OID, [str(event.originator_id).encode() for event in batch]
                    ),
                    binary.int8_array([event.originator_version for event in batch]),
                    binary.bytes_array(binary.TEXT_OID, [event.topic.encode() for event in batch]),
                    binary.bytes_array(binary.BYTEA_OID, [event.state for event in batch]),
                    binary.bytes_array(binary.BYTEA_OID, [_HASH] * len(batch)),
                ]
                result = libpq.exec_prepared(b"u", parameters, [1] * len(parameters))
                assert result.status == ExecStatus.COMMAND_OK, result.get_error_message()
                position += len(batch)
            return time.perf_counter() - began

        yield write


@contextlib.contextmanager
def _copy(servers: Servers) -> Iterator[Write]:
    with _bare_table(servers, b"bare_copy") as connection:
        position = 0

        def write(batches: Sequence[list[StoredEvent]]) -> float:
            nonlocal position
            began = time.perf_counter()
            for batch in batches:
                with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
                    copy.write(_copy_rows(batch, position))
                position += len(batch)
            return time.perf_counter() - began

        yield write


def _copy_rows(batch: list[StoredEvent], after: int) -> bytes:
    parts = [_COPY_HEAD]
    for position, event in enumerate(batch, start=after + 1):
        stream, topic = str(event.originator_id).encode(), event.topic.encode()
        state = event.state
        parts.append(
            struct.pack(
                f">hi{len(stream)}siqi{len(topic)}si{len(state)}siqiqi32s",
                *(7, len(stream), stream, 8, event.originator_version, len(topic), topic),
                *(len(state), state, 8, position, 8, 1, 32, _HASH),
            )
        )
    parts.append(_COPY_END)
    return b"".join(parts)


@contextlib.contextmanager
def _bare_table(servers: Servers, name: bytes) -> Iterator[psycopg.Connection]:
    url = servers.database(has_log=False).owner_url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_BARE_TABLE % name)
        yield connection


@contextlib.contextmanager
def _stock(servers: Servers) -> Iterator[Write]:
    with datastore_of(
        servers.database(has_log=False).owner_url, kind=PostgresDatastore
    ) as datastore:
        recorder = PostgresApplicationRecorder(datastore)
        recorder.create_table()

        def write(batches: Sequence[list[StoredEvent]]) -> float:
            began = time.perf_counter()
            for batch in batches:
                recorder.insert_events(batch)
            return time.perf_counter() - began

        yield write
