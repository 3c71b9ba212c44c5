"""`durian engine` in a process whose wall clock is off by what a file says, in nanoseconds.

Stands in for a machine whose clock jumps: the file may change at any time. Run it with the file's
path as its argument. Only the machine's readings are replaced, nothing of ours.
"""

import runpy
import sys
import time
from pathlib import Path

SECOND_NS = 1_000_000_000


def main() -> None:
    skew_file = Path(sys.argv[1])

    def skewed_ns() -> int:
        skew = skew_file.read_text() if skew_file.exists() else ""
        return time.clock_gettime_ns(time.CLOCK_REALTIME) + int(skew or "0")

    def skewed_seconds() -> float:
        return skewed_ns() / SECOND_NS

    vars(time).update(time_ns=skewed_ns, time=skewed_seconds)
    sys.argv = ["durian", "engine"]
    runpy.run_module("ops", run_name="__main__")


if __name__ == "__main__":
    main()
