"""Faults of the engine room.

EngineError
├── StoreUnavailable     PostgreSQL did not answer, or with a fault; the outcome may be unknown
├── SchemaVersion        the database's schema is older or newer than this program
├── Fenced               another writer leads: this one must stop, its state is not the ledger's
├── LogCorrupt           the stored log contradicts itself (hole, hash chain, unreadable payload)
├── KafkaUnavailable     Kafka did not answer, or with a fault; what it holds must be read again
├── ArchiveUnusable      a file of archived events is missing, damaged or another ledger's
├── KafkaDisagrees       a topic holds what the log does not
├── ClockDisagrees       this machine's clock and the database's are too far apart to lead
└── ClockIsWall          a virtual clock's command reached an engine that runs on the wall clock
"""


class EngineError(Exception):
    """Root of the room's faults."""


class StoreUnavailable(EngineError):
    """A statement failed. Never retried blindly: lead() tells what became of the last batch."""


class SchemaVersion(EngineError):
    """found: the database's version, None if it has none; versions are numbers with zeros."""

    def __init__(self, found: str | None, expected: str) -> None:
        self.found = found
        self.expected = expected
        if found is None:
            advice = "the database has no ledger yet, or one from before versions were kept"
            advice += ": run `durian migrate`"
        elif found < expected:
            advice = f"the database has schema {found}: run `durian migrate`"
        else:
            advice = f"the database has schema {found}"
            advice += ": this database is newer than this program, upgrade the program"
        super().__init__(f"this program works with schema {expected}, but {advice}")


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


class KafkaUnavailable(EngineError):
    """A request to Kafka failed. What became of records under way is unknown."""


class ArchiveUnusable(EngineError):
    """path: of the file, as far as it is known."""

    def __init__(self, path: object, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"archive {path}: {reason}; docs/operating/archive.md says what to do")


class KafkaDisagrees(EngineError):
    """Kafka is not a copy of the log; it must be rebuilt, the log is the truth."""

    def __init__(self, topic: str, position: int, reason: str) -> None:
        self.topic = topic
        self.position = position
        super().__init__(
            f"{topic} at position {position}: {reason}. The log is the truth: `durian relay "
            "--verify` says what differs, `durian relay --rebuild-topic "
            f"{topic.rpartition('.')[2]}` makes the topic anew from the log"
        )


class ClockIsWall(EngineError):
    """advance_clock is for engines started with the virtual clock."""


class ClockDisagrees(EngineError):
    """offset_s: this machine's clock minus the database's, seconds."""

    def __init__(self, offset_s: float) -> None:
        self.offset_s = offset_s
        super().__init__(
            f"this machine's clock is {offset_s:+.1f} s from the database's: seconds mined now "
            "would be wrong for ever. Set both by NTP, then start the engine again"
        )
