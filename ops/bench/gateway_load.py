"""The load generator, a process of its own: `python -m ops.bench.gateway_load`, told what to do on
standard input (gateway_tally's orders as JSON lines) and answering each line with one.
"""

import contextlib
import gc
import select
import sys
import time
from collections.abc import Iterator

import msgspec

from ops.bench.gateway_crowd import IDLE_SECONDS, Crowd
from ops.bench.gateway_meters import raise_open_files
from ops.bench.gateway_tally import (
    Done,
    Enter,
    Figures,
    Leave,
    Open,
    Order,
    Resume,
    Resumed,
    Stall,
    Watch,
)


class Generator:
    """One crowd after the other."""

    def __init__(self) -> None:
        self._crowd: Crowd | None = None

    def do(self, wanted: Order) -> Done | Figures | Resumed:
        if isinstance(wanted, Leave):
            self.close()
            return Done(0, 0)
        if isinstance(wanted, Open):
            assert self._crowd is None, "the others leave first"
            self._crowd = Crowd(wanted)
            return self._crowd.open()
        crowd = self._crowd
        assert crowd is not None, "Open comes first"
        match wanted:
            case Enter():
                return crowd.enter(wanted)
            case Watch():
                return crowd.watch(wanted)
            case Stall():
                return crowd.stall(wanted)
            case Resume():
                return crowd.resume(wanted)

    def idle(self) -> None:
        """What comes between two orders is read and checked as well."""
        if self._crowd is None:
            time.sleep(IDLE_SECONDS)
        else:
            self._crowd.turn(IDLE_SECONDS)

    def close(self) -> None:
        if self._crowd is not None:
            self._crowd.close()
            self._crowd = None
            gc.unfreeze()


def _orders(generator: Generator) -> Iterator[Order]:
    order: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
    source = sys.stdin.buffer
    while True:
        while not select.select([source], [], [], 0)[0]:
            generator.idle()
        line = source.readline()
        if not line:
            return
        yield order.decode(line)


def main() -> None:
    """Until standard input ends."""
    raise_open_files()
    with contextlib.closing(Generator()) as generator:
        for wanted in _orders(generator):
            print(msgspec.json.encode(generator.do(wanted)).decode(), flush=True)


if __name__ == "__main__":
    main()
