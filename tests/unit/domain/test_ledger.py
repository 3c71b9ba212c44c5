"""The dispatch of commands and events, and that a log adds up to the state that wrote it."""

import pytest

from domain import ledger, postings
from domain.ledger import evolve, tick
from domain.state import LedgerState
from schemas import commands
from schemas.events import EVENT_TYPES, EpochStarted, MiningAllocated
from tests.unit.domain.scenario import (
    GENESIS_SECOND,
    Scenario,
    fingerprint,
    replayed,
)
from tests.unit.domain.story import story


def test_every_command_is_decided_somewhere() -> None:
    # Opening the ledger comes before any other check, so it has a path of its own.
    decided = {*ledger._DECIDE, commands.OpenLedger}
    assert decided == {*commands.LedgerCommand.__args__}


def test_every_event_is_folded_and_booked() -> None:
    assert set(ledger._EVOLVE) == set(postings._POSTINGS) == set(EVENT_TYPES)


def test_the_log_adds_up_to_the_state_that_wrote_it() -> None:
    told = story()
    assert {type(event) for event in told.log} == set(EVENT_TYPES)
    assert fingerprint(replayed(told.log)) == fingerprint(told.state)


def test_an_epoch_changes_nothing_but_the_time() -> None:
    empty = evolve(LedgerState(), EpochStarted(at_ns=7, epoch=1, started_at_ns=9))
    assert empty.at_ns == 7
    given = story()
    before = fingerprint(given.state)
    evolve(given.state, EpochStarted(at_ns=given.state.at_ns, epoch=2, started_at_ns=9))
    assert fingerprint(given.state) == before


def test_every_second_allocates_exactly_once() -> None:
    given = Scenario()
    given.tick(10)
    seconds = [event.second for event in given.log if isinstance(event, MiningAllocated)]
    assert seconds == list(range(GENESIS_SECOND, GENESIS_SECOND + 11))


def test_a_ledger_that_is_not_open_has_no_seconds() -> None:
    with pytest.raises(AssertionError):
        tick(LedgerState(), GENESIS_SECOND)
