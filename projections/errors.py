"""Faults of the projections' room. None is ever skipped: each ends the process, which starts again.

ProjectionError
├── RecordsMissing      a partition's records leave out positions of the log
├── RecordBroken        a record's lines do not fit its head
├── ViewsRolledBack     Redis is behind, or elsewhere than, what this worker wrote
└── ViewBroken          a stored view cannot be what this projection wrote
"""


class ProjectionError(Exception):
    """Root of the room's faults; every one ends the process, which then reloads its checkpoint."""


class RecordsMissing(ProjectionError):
    """expected: the first position not covered. found: the first one of the record that came."""

    def __init__(self, *, partition: int, expected: int, found: int) -> None:
        super().__init__(f"partition {partition}: position {expected} is missing, got {found}")
        self.partition = partition
        self.expected = expected
        self.found = found


class RecordBroken(ProjectionError):
    """The producer is at fault: str(error) says what does not fit."""


class ViewsRolledBack(ProjectionError):
    """Redis was emptied or went back in time while this worker ran."""

    def __init__(self, *, partition: int, expected: int, found: int) -> None:
        super().__init__(f"partition {partition}: views at position {found}, not {expected}")
        self.partition = partition
        self.expected = expected
        self.found = found


class ViewBroken(ProjectionError):
    """A key that its checkpoint promises is absent or of another shape."""
