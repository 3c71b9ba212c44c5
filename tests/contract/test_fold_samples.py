"""A recorded log and the digest of what it folded to: another fold needs another FOLD_VERSION.

folds/v<version>.jsonl holds one event a line, as stored; v<version>.sha256 the digest of the
state's snapshot. Old folds are kept: today's program reads yesterday's log, whatever it makes of
it.
"""

from hashlib import sha256
from pathlib import Path

import pytest

from domain.ledger import evolve
from domain.snapshot import dump
from domain.state import LedgerState
from engine.snapshots import FOLD_VERSION
from schemas.codecs import decode_event
from schemas.events import EVENT_TYPES, EpochStarted, LedgerEvent
from schemas.snapshots import encode_snapshot

FOLDS = Path(__file__).parent / "folds"


def _log(version: int) -> list[LedgerEvent]:
    lines = (FOLDS / f"v{version}.jsonl").read_bytes().splitlines()
    return [decode_event(line) for line in lines]


def _digest(log: list[LedgerEvent]) -> str:
    state = LedgerState()
    for event in log:
        evolve(state, event)
    return sha256(encode_snapshot(dump(state))).hexdigest()


def test_the_recorded_log_folds_to_the_recorded_state() -> None:
    """Fails when the fold has changed: raise FOLD_VERSION, and record a fold of that version."""
    recorded = (FOLDS / f"v{FOLD_VERSION}.sha256").read_text().strip()
    assert _digest(_log(FOLD_VERSION)) == recorded


@pytest.mark.parametrize("version", range(1, FOLD_VERSION + 1))
def test_every_recorded_log_can_be_folded(version: int) -> None:
    assert len(_digest(_log(version))) == 64


def test_the_recorded_log_has_every_kind_of_event() -> None:
    assert {type(event) for event in _log(FOLD_VERSION)} == {*EVENT_TYPES, EpochStarted}
