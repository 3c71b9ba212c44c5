"""The append: one statement that is the fence, the events, their index entries and the answers.

Everything hangs on the compare-and-set of the head row: if that changes nothing, nothing is stored.
A batch runs the statement with only the parts it needs. Source: docs/adr/0002-event-store.md.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from psycopg.sql import Identifier, Literal

from engine.ports import AnswerBlock, Head, NewEvent
from engine.postgres import binary
from engine.postgres.connection import Statement
from schemas.history import stream_key

EVENTS_TABLE = "ledger_events"
# More streams than that are packed anew each time.
_STREAMS_REMEMBERED = 1 << 16
_TOPICS_REMEMBERED = 1 << 10


class Tables(NamedTuple):
    """Names, quoted for SQL. is_ledger: not another application's tables of the library's kind.

    Only the ledger has partitions, an index of its history, and answers.
    """

    is_ledger: bool
    events: str
    head: str
    channel: str

    @classmethod
    def named(cls, schema: str, *, events: str) -> "Tables":
        return cls(
            is_ledger=events == EVENTS_TABLE,
            events=Identifier(schema, events).as_string(),
            head=Identifier(schema, f"{events}_head").as_string(),
            channel=Literal(events).as_string(),
        )


class Packed(NamedTuple):
    """A batch as a statement's parameters, and the head after it."""

    statement: Statement
    parameters: list[bytes]
    head: Head


class AppendStatements:
    """The statements of one application's tables; a row in their answer means: appended."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._known: dict[tuple[bool, bool], Statement] = {}

    def pack(
        self,
        head: Head,
        events: Sequence[NewEvent],
        history: Sequence[tuple[int, int]] = (),
        answers: AnswerBlock | None = None,
    ) -> Packed:
        """What to run on `head`. history: (key, index in events), besides the streams' keys."""
        parts = bool(events), answers is not None
        statement = self._known.get(parts)
        if statement is None:
            statement = self._known[parts] = _statement(
                self._tables, has_events=parts[0], has_answers=parts[1]
            )
        parameters = [binary.int8(head.position), binary.int8(head.epoch)]
        if events:
            streams = [_packed_stream(event.originator_id) for event in events]
            parameters += _event_parameters(head.hash, events, streams)
            head = Head(head.epoch, head.position + len(events), parameters[3])
            if self._tables.is_ledger:
                parameters += _history_parameters(streams, history)
        if answers is not None:
            parameters += (binary.int8(answers.id), binary.int8(answers.at_ns), answers.records)
        return Packed(statement, parameters, head)


class _PackedStream(NamedTuple):
    id_cell: bytes
    key: bytes


@lru_cache(_STREAMS_REMEMBERED)
def _packed_stream(originator_id: object) -> _PackedStream:
    stream = str(originator_id)
    return _PackedStream(binary.cell(stream.encode()), binary.int8(stream_key(stream)))


@lru_cache(_TOPICS_REMEMBERED)
def _topic_cell(topic: str) -> bytes:
    return binary.cell(topic.encode())


def _event_parameters(
    previous_hash: bytes, events: Sequence[NewEvent], streams: Sequence[_PackedStream]
) -> list[bytes]:
    states = [event.state for event in events]
    # engine.hashing.chain, written out: a generator costs a tenth of the whole packing.
    hashes = []
    for state in states:
        previous_hash = sha256(previous_hash + state).digest()
        hashes.append(previous_hash)
    return [
        binary.int8(len(events)),
        previous_hash,
        binary.cells_array(binary.TEXT_OID, [id_cell for id_cell, _ in streams]),
        binary.int8_array([event.originator_version for event in events]),
        binary.cells_array(binary.TEXT_OID, [_topic_cell(event.topic) for event in events]),
        binary.bytes_array(binary.BYTEA_OID, states),
        binary.equal_bytes_array(binary.BYTEA_OID, hashes),
    ]


def _history_parameters(
    streams: Sequence[_PackedStream], history: Sequence[tuple[int, int]]
) -> list[bytes]:
    keys = [key for _, key in streams]
    indexes = [*range(len(streams))]
    if history:
        keys += [binary.int8(key) for key, _ in history]
        indexes += [index for _, index in history]
    return [binary.equal_bytes_array(binary.INT8_OID, keys), binary.int4_array(indexes)]


def _statement(tables: Tables, *, has_events: bool, has_answers: bool) -> Statement:
    types = [binary.INT8_OID, binary.INT8_OID]  # $1 head position, $2 epoch
    changes, wakes, parts = "position = $1", "1", ""
    if has_events:
        # $3 number of events, $4 new head hash, $5-$9 the columns
        types += _EVENT_TYPES
        changes, parts = "position = $1 + $3, hash = $4", _EVENTS.format(events=tables.events)
        if tables.is_ledger:
            parts += _HISTORY.format(placeholders=_placeholders(types, _HISTORY_TYPES))
    if has_answers:
        parts += _ANSWERS.format(placeholders=_placeholders(types, _ANSWER_TYPES))
    if parts:
        wakes = f"pg_notify({tables.channel}, '')"
    sql = (
        f"WITH head AS (UPDATE {tables.head} SET {changes}"
        f" WHERE id = 1 AND epoch = $2 AND position = $1 RETURNING {wakes}){parts}"
        " SELECT 1 FROM head"
    )
    return Statement(f"append_{has_events:d}{has_answers:d}".encode(), sql.encode(), types)


def _placeholders(types: list[int], more: Sequence[int]) -> str:
    """The placeholders of the parameters that are added to the list."""
    first = len(types) + 1
    types += more
    return ", ".join(f"${number}" for number in range(first, len(types) + 1))


_EVENT_TYPES = (
    binary.INT8_OID,
    binary.BYTEA_OID,
    binary.TEXT_ARRAY_OID,
    binary.INT8_ARRAY_OID,
    binary.TEXT_ARRAY_OID,
    binary.BYTEA_ARRAY_OID,
    binary.BYTEA_ARRAY_OID,
)
_HISTORY_TYPES = (binary.INT8_ARRAY_OID, binary.INT4_ARRAY_OID)
_ANSWER_TYPES = (binary.INT8_OID, binary.INT8_OID, binary.BYTEA_OID)
_EVENTS = (
    ", appended AS (INSERT INTO {events}"
    " (originator_id, originator_version, topic, state, notification_id, epoch, hash)"
    " SELECT a, b, c, d, $1 + o, $2, e"
    " FROM unnest($5, $6, $7, $8, $9) WITH ORDINALITY AS u(a, b, c, d, e, o)"
    " WHERE EXISTS (SELECT FROM head))"
)
# One row per batch: an entry per key in a B-tree would cost as much as everything else together.
# durian_index_history() makes those entries a little later, many at once and in order.
_HISTORY = (
    ", noted AS (INSERT INTO ledger_history_recent (first_position, keys, indexes)"
    " SELECT $1 + 1, {placeholders} WHERE EXISTS (SELECT FROM head))"
)
_ANSWERS = (
    ", answered AS (INSERT INTO ledger_answers (id, at_ns, records)"
    " SELECT {placeholders} WHERE EXISTS (SELECT FROM head))"
)
