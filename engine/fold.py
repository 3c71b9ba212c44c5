"""The fold of the log: state, stream versions, position and hash, each event checked on its way in.

Engine, standby, snapshots and audit fold through here, with the one domain.ledger.evolve.
"""

from collections.abc import Iterable
from hashlib import sha256

import msgspec

from domain import ledger
from domain.state import LedgerState
from engine.errors import LogCorrupt
from engine.hashing import GENESIS_HASH
from engine.ports import Head, LoggedEvent
from schemas.codecs import decode_event


class LedgerFold:
    """What the log up to `position` adds up to; hash: the log's at that position.

    versions: number of events of each stream.
    """

    __slots__ = ("hash", "position", "state", "versions")

    def __init__(self) -> None:
        self.state = LedgerState()
        self.versions: dict[str, int] = {}
        self.position = 0
        self.hash = GENESIS_HASH

    def apply(self, log: Iterable[LoggedEvent]) -> None:
        """Fold events that follow position, in order.

        Raises LogCorrupt at a hole, a hash that does not follow, or an unreadable payload.
        """
        state, versions, evolve = self.state, self.versions, ledger.evolve
        for position, stream, payload, digest in log:
            if position != self.position + 1:
                raise LogCorrupt(self.position + 1, f"missing; the next one is {position}")
            if sha256(self.hash + payload).digest() != digest:
                raise LogCorrupt(position, "its hash does not follow from the one before")
            try:
                event = decode_event(payload)
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                raise LogCorrupt(position, f"cannot be read: {exc}") from exc
            evolve(state, event)
            versions[stream] = versions.get(stream, 0) + 1
            self.position, self.hash = position, digest

    def require_end(self, head: Head) -> None:
        """Raises LogCorrupt unless this is the fold of the whole log with that head."""
        if (self.position, self.hash) != (head.position, head.hash):
            raise LogCorrupt(head.position, "the log does not end where its head says")
