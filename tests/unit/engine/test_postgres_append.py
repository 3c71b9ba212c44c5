"""What a batch packs: the statement with the parts it needs, and the head after it."""

import re

import pytest
from eventsourcing.persistence import StoredEvent

from engine.hashing import GENESIS_HASH, chain
from engine.ports import AnswerBlock, Head
from engine.postgres.append import EVENTS_TABLE, AppendStatements, Packed, Tables
from schemas.history import order_key

HEAD = Head(3, 10, GENESIS_HASH)
EVENTS = [StoredEvent("user:x", 1, "t:1", b"a"), StoredEvent("mining", 5, "t:1", b"bc")]
ANSWERS = AnswerBlock(1, 2, b"records")
HISTORY = [(order_key(1), 0)]


def _pack(
    *,
    events: list[StoredEvent],
    history: list[tuple[int, int]],
    answers: AnswerBlock | None,
    table: str = EVENTS_TABLE,
) -> Packed:
    return AppendStatements(Tables.named("public", events=table)).pack(
        HEAD, events, history, answers
    )


@pytest.mark.parametrize("answers", [None, ANSWERS])
@pytest.mark.parametrize("events", [[], EVENTS])
def test_every_parameter_has_a_type_and_a_place(
    events: list[StoredEvent], answers: AnswerBlock | None
) -> None:
    packed = _pack(events=events, history=HISTORY if events else [], answers=answers)
    placeholders = {int(number) for number in re.findall(rb"\$(\d+)", packed.statement.sql)}
    assert placeholders == set(range(1, len(packed.parameters) + 1))
    assert len(packed.statement.types) == len(packed.parameters)


def test_the_new_head_follows_from_the_batch() -> None:
    *_, last = chain(GENESIS_HASH, [b"a", b"bc"])
    assert _pack(events=EVENTS, history=[], answers=None).head == Head(3, 12, last)
    assert _pack(events=[], history=[], answers=ANSWERS).head == HEAD


def test_only_what_can_wake_a_reader_notifies() -> None:
    assert b"pg_notify" not in _pack(events=[], history=[], answers=None).statement.sql
    assert b"pg_notify" in _pack(events=[], history=[], answers=ANSWERS).statement.sql
    assert b"pg_notify" in _pack(events=EVENTS, history=[], answers=None).statement.sql


def test_other_applications_have_no_history() -> None:
    packed = _pack(events=EVENTS, history=[], answers=None, table="purses_events")
    assert b"ledger" not in packed.statement.sql
    assert b'"purses_events_head"' in packed.statement.sql


def test_statements_are_named_by_their_parts() -> None:
    statements = AppendStatements(Tables.named("public", events=EVENTS_TABLE))
    packed = [
        statements.pack(HEAD, events, (), answers)
        for events in ([], EVENTS)
        for answers in (None, ANSWERS)
    ]
    assert len({one.statement.name for one in packed}) == 4
    again = statements.pack(HEAD, EVENTS, HISTORY, ANSWERS)
    assert again.statement is packed[-1].statement
