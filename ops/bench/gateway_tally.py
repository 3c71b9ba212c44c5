"""What the load generator finds out while it watches: orders it is given, and what it answers.

Every publication's offset is checked against the one before it on that connection.
"""

from array import array
from collections import Counter

import msgspec

from ops.bench.gateway_meters import Traffic

NS_PER_MS = 1_000_000
FAULTS_TOLD = 5
PULSE, BALANCE, ACCOUNT = "pulse", "balance", "account"
TIMED = (PULSE, BALANCE)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Connections that do the same. opens_with: the message that ends opening; "": the answer 101.

    first: of the tokens, which one the first connection authenticates with. receive_bytes: of the
    sockets' buffers, 0 for the system's choice.
    """

    name: str
    count: int
    path: str = "/v1/stream"
    subprotocol: str = ""
    channels: tuple[str, ...] = ()
    opens_with: str = ""
    first: int = 0
    receive_bytes: int = 0


class Open(msgspec.Struct, frozen=True, tag=True):
    """Connect everyone. stamps: a file of gateway_stamps; "" when messages say when they left."""

    port: int
    groups: tuple[Group, ...]
    stamps: str = ""


class Enter(msgspec.Struct, frozen=True, tag=True):
    """Authenticate and subscribe everyone; until each has its last snapshot. tokens: a file."""

    tokens: str


class Watch(msgspec.Struct, frozen=True, tag=True):
    """Look for so many seconds. process_ids: whose CPU and memory is read before and after; core:
    where they run.

    is_paced: begin in the pause between two ticks. meters: look at the traffic of so many
    connections of each group.
    """

    seconds: float
    process_ids: tuple[int, ...] = ()
    core: int | None = None
    is_paced: bool = True
    meters: int = 0


class Stall(msgspec.Struct, frozen=True, tag=True):
    """Stop reading these connections; they don't count from now on."""

    group: str


class Resume(msgspec.Struct, frozen=True, tag=True):
    """Read them again, for so many seconds at most, and tell what has become of them."""

    group: str
    seconds: float


class Leave(msgspec.Struct, frozen=True, tag=True):
    """Everyone hangs up."""


Order = Open | Enter | Watch | Stall | Resume | Leave


class Done(msgspec.Struct, frozen=True):
    """Answer to Open, Enter, Stall and Leave. failed: connections that did not get so far."""

    seconds: float
    failed: int
    faults: tuple[str, ...] = ()


class Resumed(msgspec.Struct, frozen=True):
    """How connections ended, by close code ("reset": without one, "open": not at all)."""

    ended: dict[str, int]


class Figures(msgspec.Struct, frozen=True):
    """Of one Watch. p50, p99, p100: milliseconds from a second's stamp to its delivery.

    deliveries: publications. timed: of them, those with a latency. lost, disordered: by offset.
    restarted: snapshots where publications were due. accounts: received since Open. gone:
    connections that have ended. traffic: by group, how many connections and theirs together.
    core_busy_seconds: of the servers' core, whoever used it.
    """

    seconds: float
    deliveries: int
    timed: int
    p50: float
    p99: float
    p100: float
    lost: int
    disordered: int
    restarted: int
    accounts: int
    gone: int
    faults: tuple[str, ...]
    own_cpu_seconds: float
    server_cpu_seconds: float
    core_busy_seconds: float
    server_bytes: int
    traffic: dict[str, tuple[int, Traffic]]


class Tally:
    """Counts from its making on."""

    def __init__(self) -> None:
        self.deliveries = self.lost = self.disordered = self.restarted = 0
        self.latencies = array("q")
        self._faults: Counter[str] = Counter()

    def check(self, ch: str, last: int, offset: int) -> None:
        """A publication `offset` came where `last` was the one before."""
        if offset <= last:
            self.disordered += 1
            self.fault(f"{ch}: {offset} after {last}")
        elif ch != ACCOUNT and offset != last + 1:
            # Offsets of an account rise but may skip.
            self.lost += offset - last - 1
            self.fault(f"{ch}: {offset} after {last}")

    def fault(self, words: str) -> None:
        self._faults[words] += 1

    def faults(self) -> tuple[str, ...]:
        """The most frequent ones."""
        return tuple(f"{count}x {words}" for words, count in self._faults.most_common(FAULTS_TOLD))

    def quantiles(self) -> tuple[float, float, float]:
        """The median, p99 and p100 of the latencies in milliseconds; zeros without any."""
        ordered = sorted(self.latencies) or [0]
        after_99 = -(-99 * len(ordered) // 100)
        chosen = ordered[(len(ordered) - 1) // 2], ordered[after_99 - 1], ordered[-1]
        middle, late, last = (latency / NS_PER_MS for latency in chosen)
        return middle, late, last
