"""Snapshots: a fold kept with its place in the log, so that a start reads only the tail.

A snapshot is a shortcut, never a truth: what is damaged, made by another version of the fold, or
does not fit the log is skipped with a warning, and an older one or the whole log is folded.
"""

import hashlib
import logging

import msgspec
import zstandard

from domain.snapshot import dump, load
from engine.errors import LogCorrupt
from engine.fold import LedgerFold
from engine.hashing import chain
from engine.ports import EventLog, Head, SnapshotStore, StoredSnapshot
from schemas.snapshots import (
    EngineSnapshot,
    decode_engine_snapshot,
    encode_engine_snapshot,
    encode_snapshot,
)

log = logging.getLogger("durian.engine")

# Raise it with every change of what evolve makes of an event, or of the snapshot's shape: older
# snapshots are then skipped. tests/contract/test_fold_samples.py notices a forgotten one.
FOLD_VERSION = 1
# Above any ledger that fits in memory; a damaged length must not ask for more.
BODY_BYTES_MAX = 4 << 30


class SnapshotRejected(Exception):
    """Why a stored snapshot is not used."""


def take(fold: LedgerFold) -> StoredSnapshot:
    """The fold as a snapshot of its position."""
    plain = encode_engine_snapshot(
        EngineSnapshot(position=fold.position, versions=fold.versions, state=dump(fold.state))
    )
    body = zstandard.compress(plain)
    return StoredSnapshot(
        fold.position, FOLD_VERSION, fold.hash, hashlib.sha256(body).digest(), body
    )


def opened(stored: StoredSnapshot) -> LedgerFold:
    """The fold that a snapshot was taken of. Raises SnapshotRejected."""
    if stored.version != FOLD_VERSION:
        raise SnapshotRejected(f"made by version {stored.version} of the fold, not {FOLD_VERSION}")
    if hashlib.sha256(stored.body).digest() != stored.digest:
        raise SnapshotRejected("its bytes do not match its digest")
    try:
        plain = zstandard.decompress(stored.body, max_output_size=BODY_BYTES_MAX)
        kept = decode_engine_snapshot(plain)
        fold = LedgerFold()
        fold.state = load(kept.state)
    except (zstandard.ZstdError, msgspec.DecodeError, UnicodeDecodeError, LookupError) as exc:
        raise SnapshotRejected(f"cannot be read: {exc}") from exc
    if kept.position != stored.position:
        raise SnapshotRejected(f"is of position {kept.position}, not {stored.position}")
    fold.versions = kept.versions
    fold.position, fold.hash = stored.position, stored.log_hash
    return fold


def same_state(one: LedgerFold, other: LedgerFold) -> bool:
    """True if both are the same fold to the byte, stream versions too."""
    return encode_snapshot(dump(one.state)) == encode_snapshot(dump(other.state)) and (
        one.versions == other.versions
    )


def newest_fold(store: SnapshotStore, ledger_log: EventLog, head: Head) -> LedgerFold:
    """The fold of the newest snapshot that can be trusted, or an empty one.

    head: of the log, at least as new as any snapshot of it.
    """
    for stored in store.snapshots():
        try:
            fold = opened(stored)
            _require_in_log(fold, ledger_log, head)
        except SnapshotRejected as exc:
            log.warning("snapshot of position %d is skipped: %s", stored.position, exc)
        else:
            return fold
    return LedgerFold()


def _require_in_log(fold: LedgerFold, ledger_log: EventLog, head: Head) -> None:
    # The next event's hash covers the one before it, which may be in an archive already.
    if fold.position >= head.position:
        if (fold.position, fold.hash) != (head.position, head.hash):
            raise SnapshotRejected("the log's head does not fit it")
        return
    try:
        following = next(ledger_log.read(fold.position))
    except LogCorrupt as exc:
        raise SnapshotRejected(f"the log does not go on after it: {exc}") from exc
    (expected,) = chain(fold.hash, (following.payload,))
    if following.hash != expected:
        raise SnapshotRejected("the log's next hash does not follow from it")
