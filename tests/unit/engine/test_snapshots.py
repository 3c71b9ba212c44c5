"""Snapshots are shortcuts: the newest that can be trusted is used, whatever is wrong is skipped."""

import logging
from collections.abc import Callable, Iterator
from hashlib import sha256

import pytest
import zstandard

from engine import snapshots
from engine.errors import LogCorrupt
from engine.fold import LedgerFold
from engine.memory import MemoryLog, MemorySnapshots, MemoryStore
from engine.ports import Head, LoggedEvent, StoredSnapshot
from tests.unit.domain.scenario import fingerprint
from tests.unit.engine.test_fold import logged


def _fold(log: list[LoggedEvent]) -> LedgerFold:
    fold = LedgerFold()
    fold.apply(log)
    return fold


def _log_of(events: list[LoggedEvent]) -> tuple[MemoryLog, Head]:
    store = MemoryStore()
    store.events += events
    log = MemoryLog(store)
    return log, log.lead()


def _store(*kept: StoredSnapshot) -> MemorySnapshots:
    store = MemorySnapshots()
    for snapshot in kept:
        store.save_snapshot(snapshot)
    return store


def test_a_snapshot_opens_as_the_fold_it_was_taken_of() -> None:
    fold = _fold(logged())
    again = snapshots.opened(snapshots.take(fold))
    assert snapshots.same_state(again, fold)
    assert (again.position, again.hash) == (fold.position, fold.hash)
    assert snapshots.take(again) == snapshots.take(fold)


def test_the_newest_is_used_and_the_tail_folded_after_it() -> None:
    events = logged()
    log, head = _log_of(events)
    store = _store(*(snapshots.take(_fold(events[:at])) for at in (3, 9, 6)))
    fold = snapshots.newest_fold(store, log, head)
    assert fold.position == 9
    fold.apply(log.read(9))
    fold.require_end(head)
    assert fingerprint(fold.state) == fingerprint(_fold(events).state)


def test_without_any_the_fold_begins_at_the_beginning() -> None:
    log, head = _log_of(logged())
    assert snapshots.newest_fold(_store(), log, head).position == 0


def _broken_body(snapshot: StoredSnapshot) -> StoredSnapshot:
    body = bytearray(snapshot.body)
    body[len(body) // 2] ^= 1
    return snapshot._replace(body=bytes(body))


def _other_body(plain: bytes) -> Callable[[StoredSnapshot], StoredSnapshot]:
    body = zstandard.compress(plain)
    return lambda snapshot: snapshot._replace(body=body, digest=sha256(body).digest())


DAMAGES: dict[str, Callable[[StoredSnapshot], StoredSnapshot]] = {
    "do not match its digest": _broken_body,
    "version 99 of the fold": lambda snapshot: snapshot._replace(version=99),
    "version 0 of the fold": lambda snapshot: snapshot._replace(version=0),
    "next hash does not follow": lambda snapshot: snapshot._replace(log_hash=bytes(32)),
    "is of position": lambda snapshot: snapshot._replace(position=5),
    "cannot be read: Object missing": _other_body(b"{}"),
    "cannot be read: JSON is malformed": _other_body(b'{"position":\xff}'),
    "cannot be read: error determining": lambda s: s._replace(
        body=b"no", digest=sha256(b"no").digest()
    ),
}


@pytest.mark.parametrize("reason", DAMAGES)
def test_a_snapshot_that_cannot_be_trusted_is_skipped_with_a_warning(
    reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    events = logged()
    log, head = _log_of(events)
    good, bad = snapshots.take(_fold(events[:3])), snapshots.take(_fold(events[:6]))
    store = _store(good, DAMAGES[reason](bad))
    with caplog.at_level(logging.WARNING):
        fold = snapshots.newest_fold(store, log, head)
    assert fold.position == 3
    assert reason in caplog.text
    assert "skipped" in caplog.text


def test_a_snapshot_of_another_log_is_not_used_at_its_end_either() -> None:
    events = logged()
    log, head = _log_of(events)
    stored = snapshots.take(_fold(events))
    assert snapshots.newest_fold(_store(stored), log, head).position == len(events)
    other = stored._replace(log_hash=bytes(32))
    assert snapshots.newest_fold(_store(other), log, head).position == 0
    short, short_head = _log_of(events[:4])
    assert snapshots.newest_fold(_store(stored), short, short_head).position == 0


class _Holed(MemoryLog):
    def read(self, after: int = 0) -> Iterator[LoggedEvent]:
        raise LogCorrupt(after + 1, "missing; the next one is 9")
        yield


def test_a_snapshot_before_a_hole_is_not_used() -> None:
    events = logged()
    _, head = _log_of(events)
    store = _store(snapshots.take(_fold(events[:3])))
    assert snapshots.newest_fold(store, _Holed(), head).position == 0
