"""When each second of the ledger was written, shared by its writer and the load generator.

A file of integers mapped into both processes: reading a stamp costs no message between them. The
first one is no stamp but counts the other way: pulses that the phones have got.
"""

import mmap
from pathlib import Path

from ops.bench.order_mix import GENESIS_SECOND

SECONDS_MAX = 500_000
_STAMP_BYTES = 8


class Stamps:
    """delivered: set by the generator, read by the writer. stamps[second]: nanoseconds of the
    monotonic clock, set by the writer right before it starts to write that second's views.
    """

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), (SECONDS_MAX + 1) * _STAMP_BYTES)
        self._stamps = memoryview(self._mapped).cast("q")

    @classmethod
    def create(cls, path: Path) -> "Stamps":
        with path.open("wb") as file:
            file.truncate((SECONDS_MAX + 1) * _STAMP_BYTES)
        return cls(path)

    def close(self) -> None:
        self._stamps.release()
        self._mapped.close()

    @property
    def delivered(self) -> int:
        return self._stamps[0]

    @delivered.setter
    def delivered(self, count: int) -> None:
        self._stamps[0] = count

    def __getitem__(self, second: int) -> int:
        return self._stamps[second - GENESIS_SECOND]

    def __setitem__(self, second: int, at_ns: int) -> None:
        self._stamps[second - GENESIS_SECOND] = at_ns
