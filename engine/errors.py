"""Faults of the engine room.

EngineError
├── StoreUnavailable     PostgreSQL did not answer, or with a fault; the outcome may be unknown
├── Fenced               another writer leads: this one must stop, its state is not the ledger's
├── LogCorrupt           the stored log contradicts itself (hole, hash chain, unreadable payload)
├── KafkaDisagrees       a topic holds what the log does not
└── ClockIsWall          a virtual clock's command reached an engine that runs on the wall clock
"""


class EngineError(Exception):
    """Root of the room's faults."""


class StoreUnavailable(EngineError):
    """A statement failed. Never retried blindly: lead() tells what became of the last batch."""


class Fenced(EngineError):
    """The head row no longer carries this writer's epoch and position; nothing was appended."""

    def __init__(self, epoch: int, position: int) -> None:
        self.epoch = epoch
        self.position = position
        super().__init__(f"epoch {epoch} at position {position} is not the log's head any more")


class LogCorrupt(EngineError):
    """The log cannot be trusted from `position` on."""

    def __init__(self, position: int, reason: str) -> None:
        self.position = position
        self.reason = reason
        super().__init__(f"position {position}: {reason}; docs/audit.md says how to look")


class KafkaDisagrees(EngineError):
    """Kafka is not a copy of the log; it must be rebuilt, the log is the truth."""

    def __init__(self, topic: str, position: int, reason: str) -> None:
        self.topic = topic
        self.position = position
        super().__init__(
            f"{topic} at position {position}: {reason}. The log is the truth: delete the topics "
            "and run `durian migrate`; relay and projections then start over by themselves"
        )


class ClockIsWall(EngineError):
    """advance_clock is for engines started with the virtual clock."""
