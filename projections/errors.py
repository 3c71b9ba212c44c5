"""Faults of the projections' room. None is ever skipped: each ends the process, which starts again,
but for EventPoisoned, which would only come again: that one leaves the projection stopped.

ProjectionError
├── EventPoisoned       an event of the log cannot be decoded or folded by this program
├── RecordsMissing      a partition's records leave out positions of the log
├── ViewsRolledBack     Redis is behind, or elsewhere than, what this worker wrote
├── ViewBroken          a stored view cannot be what this projection wrote
├── KafkaAway           Kafka, or the topic, is not there (any more)
├── ViewsUnavailable    the store of the views did not answer
├── RebuildUnderWay     another process rebuilds, compares or drops generations of this projection
└── RebuildRefused      what a rebuild found makes it impossible to go on; nothing was switched
"""


class ProjectionError(Exception):
    """Root of the room's faults."""


class EventPoisoned(ProjectionError):
    """position: of the event that cannot be folded, or the first one of which that is unclear.

    event_type: its tag; "" if not even that can be read. reason: for people.
    """

    def __init__(self, *, position: int, reason: str, event_type: str = "") -> None:
        super().__init__(f"position {position} ({event_type or 'unknown type'}): {reason}")
        self.position = position
        self.event_type = event_type
        self.reason = reason


class RecordsMissing(ProjectionError):
    """expected: the first position not covered. found: the first one of the record that came."""

    def __init__(self, *, partition: int, expected: int, found: int) -> None:
        super().__init__(
            f"partition {partition}: position {expected} is missing, got {found}; make the topic"
            " anew from the log: durian relay --rebuild-topic"
        )
        self.partition = partition
        self.expected = expected
        self.found = found


class ViewsRolledBack(ProjectionError):
    """Redis was emptied or went back in time while this worker ran."""

    def __init__(self, *, partition: int, expected: int, found: int) -> None:
        super().__init__(f"partition {partition}: views at position {found}, not {expected}")
        self.partition = partition
        self.expected = expected
        self.found = found


class ViewBroken(ProjectionError):
    """A key that its checkpoint promises is absent or of another shape."""


class KafkaAway(ProjectionError):
    """str(error) says what does not answer or is gone."""


class ViewsUnavailable(ProjectionError):
    """The same may work a moment later; str(error) is the driver's own text."""


class RebuildUnderWay(ProjectionError):
    """holder: what the other process said of itself."""

    def __init__(self, projection: str, holder: str) -> None:
        super().__init__(f"{projection}: another process is at its generations: {holder}")
        self.projection = projection
        self.holder = holder


class RebuildRefused(ProjectionError):
    """str(error) says what and what to do."""
