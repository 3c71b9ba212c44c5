"""The load generator, a process of its own: `python -m ops.bench.http_load`, told what to do on
standard input (schemas below as JSON lines) and answering each line with one. One thread.
"""

import gc
import itertools
import selectors
import sys
import time
from collections import Counter, deque
from pathlib import Path

import msgspec

from ops.bench.gateway_meters import cpu_seconds
from ops.bench.http_links import CommandLink, HttpLink, Link, framed_request
from ops.bench.http_orders import OrderSource, Sent, get_request
from ops.bench.mixed_log import LogShape
from ops.bench.order_load import UnexpectedAnswer

SECOND_NS = 1_000_000_000
NS_PER_MS = MICRO = 1_000_000
ANSWER_SECONDS_MAX = 30.0
# The first part of a slice fills the pipeline; it is not counted.
RAMP_SHARE = 0.1
# Open loop: an order that finds all connections busy waits, and its latency counts on.
OPEN_LINKS = 256


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """What the log of both engines is, and where tokens lie: a file, a JSON object by user."""

    shape: LogShape
    tokens: str


class Draw(msgspec.Struct, frozen=True, tag=True):
    """Have so many orders at hand for a target that it has not got yet."""

    target: str
    commands: int


class Orders(msgspec.Struct, frozen=True, tag=True):
    """Load a target with orders. is_http: by requests, else by its command connection.

    depth: in flight. rate: a second, however many are in flight; 0 means depth counts.
    process_ids: of those who serve, whose CPU is read.
    """

    target: str
    port: int
    is_http: bool
    seconds: float
    process_ids: tuple[int, ...]
    depth: int = 0
    rate: int = 0


class Reads(msgspec.Struct, frozen=True, tag=True):
    """Load a port with GETs of a path, closed loop. users: one token after the other, or none."""

    port: int
    path: str
    seconds: float
    process_ids: tuple[int, ...]
    depth: int
    users: tuple[str, ...] = ()


Order = Prepare | Draw | Orders | Reads


class Figures(msgspec.Struct, frozen=True):
    """answered: within the counted part of the slice, which took `seconds`; cpu_us: of those who
    served, for each of these. p50, p99, p100: milliseconds from (intended) sending to the answer.
    """

    answered: int
    seconds: float
    cpu_us: float
    p50: float
    p99: float
    p100: float
    refused: dict[str, int]
    own_cpu_seconds: float

    def per_s(self) -> float:
        return self.answered / self.seconds


class Tally:
    """Of one slice: answers that came, and latencies of what was sent, between begin and end."""

    def __init__(self, seconds: float, process_ids: tuple[int, ...]) -> None:
        self._process_ids = process_ids
        self._cpu_began = self._cpu_ended = 0.0
        self.start_ns = time.monotonic_ns()
        self.begin_ns = self.start_ns + int(seconds * RAMP_SHARE * SECOND_NS)
        self.end_ns = self.start_ns + int(seconds * SECOND_NS)
        self._answered = 0
        self._latencies: list[int] = []
        self._refused: Counter[str] = Counter()
        self._cpu_seconds = time.process_time()

    def take(self, sent_ns: int, now_ns: int, refused: str) -> None:
        if self.begin_ns <= now_ns < self.end_ns:
            if not self._answered:
                self._cpu_began = cpu_seconds(self._process_ids)
            self._answered += 1
        elif now_ns >= self.end_ns and not self._cpu_ended:
            self._cpu_ended = cpu_seconds(self._process_ids)
        if sent_ns >= self.begin_ns:
            self._latencies.append(now_ns - sent_ns)
        if refused:
            self._refused[refused] += 1

    def figures(self) -> Figures:
        ordered = sorted(self._latencies) or [0]
        last = len(ordered) - 1
        spent = (self._cpu_ended or cpu_seconds(self._process_ids)) - self._cpu_began
        return Figures(
            answered=self._answered,
            seconds=(self.end_ns - self.begin_ns) / SECOND_NS,
            cpu_us=MICRO * spent / max(self._answered, 1),
            p50=ordered[last // 2] / NS_PER_MS,
            p99=ordered[-(-99 * len(ordered) // 100) - 1] / NS_PER_MS,
            p100=ordered[last] / NS_PER_MS,
            refused=dict(self._refused),
            own_cpu_seconds=time.process_time() - self._cpu_seconds,
        )


class Target:
    """How far an engine has come with the orders, and the numbers it gave to them."""

    def __init__(self, commands: list[Sent], *, is_http: bool) -> None:
        self._commands = commands
        self._is_http = is_http
        self._numbers: dict[int, int] = {}
        self.next = 0

    @property
    def unsent(self) -> int:
        return len(self._commands) - self.next

    def request(self) -> bytes:
        """Of the next one."""
        command = self._commands[self.next]
        self.next += 1
        names = command.names
        number = None if names is None else self._numbers.get(names, names)
        if self._is_http:
            return command.http.numbered(number)
        return framed_request(command.framed, number)

    def placed(self, index: int, order_id: int | None) -> None:
        names = self._commands[index].places
        if order_id is not None and names is not None:
            self._numbers[names] = order_id


class Wheel:
    """GETs, one after the other, for ever."""

    def __init__(self, requests: list[bytes]) -> None:
        self._requests = itertools.cycle(requests)
        self.next = 0
        self.unsent = sys.maxsize

    def request(self) -> bytes:
        self.next += 1
        return next(self._requests)

    def placed(self, index: int, order_id: int | None) -> None:
        """Nothing is."""


class Crowd:
    """Links to one port, and what is on its way on them."""

    def __init__(self, links: list[Link]) -> None:
        self._links = links
        self._sent_ns: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()
        for link in links:
            self._selector.register(link.socket, selectors.EVENT_READ, link)

    def close(self) -> None:
        self._selector.close()
        for link in self._links:
            link.socket.close()

    @property
    def is_waiting(self) -> bool:
        return bool(self._sent_ns)

    def send(self, link: Link, source: Target | Wheel, sent_ns: int) -> None:
        index = source.next
        self._sent_ns[index] = sent_ns
        link.send(index, source.request())

    def answers(self, source: Target | Wheel, tally: Tally, timeout: float) -> list[Link]:
        """Wait for some; the links that they came on, once for each."""
        free = []
        ready = self._selector.select(timeout)
        if not ready and timeout >= ANSWER_SECONDS_MAX:
            raise UnexpectedAnswer(f"no answer for {timeout:.0f} s")
        for key, _ in ready:
            link: Link = key.data
            for answered in link.receive():
                now_ns = time.monotonic_ns()
                tally.take(self._sent_ns.pop(answered.command), now_ns, answered.refused)
                source.placed(answered.command, answered.order_id)
                free.append(link)
        return free

    def keep_in_flight(self, source: Target | Wheel, wanted: Orders | Reads) -> Figures:
        tally = Tally(wanted.seconds, wanted.process_ids)
        each = wanted.depth // len(self._links)
        for link in self._links * each:
            self.send(link, source, time.monotonic_ns())
        while self.is_waiting:
            for link in self.answers(source, tally, ANSWER_SECONDS_MAX):
                now_ns = time.monotonic_ns()
                if now_ns < tally.end_ns:
                    if not source.unsent:
                        raise UnexpectedAnswer("nothing is left to send")
                    self.send(link, source, now_ns)
        return tally.figures()

    def offer(self, source: Target, wanted: Orders) -> Figures:
        """Latency counts from the instant at which the plan wants it sent, however late we are."""
        tally, free = Tally(wanted.seconds, wanted.process_ids), deque(self._links)
        offered = 0
        due_ns = tally.start_ns
        is_shared = isinstance(self._links[0], CommandLink)
        while due_ns < tally.end_ns or self.is_waiting:
            while free and due_ns <= time.monotonic_ns() and due_ns < tally.end_ns:
                link = free[0] if is_shared else free.popleft()
                self.send(link, source, due_ns)
                offered += 1
                due_ns = tally.start_ns + offered * SECOND_NS // wanted.rate
            wait_ns = max(due_ns - time.monotonic_ns(), 0)
            timeout = wait_ns / SECOND_NS if free and due_ns < tally.end_ns else ANSWER_SECONDS_MAX
            answered = self.answers(source, tally, timeout)
            if not is_shared:
                free.extend(answered)
        return tally.figures()


class Generator:
    def __init__(self, wanted: Prepare) -> None:
        self._tokens = msgspec.json.decode(Path(wanted.tokens).read_bytes(), type=dict[str, str])
        self._source = OrderSource(wanted.shape, self._tokens)
        self._commands: list[Sent] = []
        self._targets: dict[str, Target] = {}

    def draw(self, wanted: Draw) -> None:
        target = self._targets.get(wanted.target)
        unsent = target.unsent if target else len(self._commands)
        self._commands += self._source.draw(max(wanted.commands - unsent, 0))

    def orders(self, wanted: Orders) -> Figures:
        target = self._targets.setdefault(
            wanted.target, Target(self._commands, is_http=wanted.is_http)
        )
        links: list[Link] = [CommandLink(wanted.port)]
        if wanted.is_http:
            links = [HttpLink(wanted.port) for _ in range(wanted.depth or OPEN_LINKS)]
        crowd = Crowd(links)
        try:
            if wanted.rate:
                return crowd.offer(target, wanted)
            return crowd.keep_in_flight(target, wanted)
        finally:
            crowd.close()

    def reads(self, wanted: Reads) -> Figures:
        tokens = [self._tokens[user] for user in wanted.users] or [""]
        wheel = Wheel([get_request(wanted.path, token) for token in tokens])
        crowd = Crowd([HttpLink(wanted.port) for _ in range(wanted.depth)])
        try:
            return crowd.keep_in_flight(wheel, wanted)
        finally:
            crowd.close()


def main() -> None:
    """Until standard input ends."""
    generator: Generator | None = None
    order: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
    for line in sys.stdin:
        wanted, answer = order.decode(line), None
        if isinstance(wanted, Prepare):
            generator = Generator(wanted)
        else:
            assert generator is not None, "Prepare comes first"
            gc.collect()
            gc.freeze()  # what was drawn stays: no collection inside the slice walks it
            match wanted:
                case Draw():
                    generator.draw(wanted)
                case Orders():
                    answer = generator.orders(wanted)
                case Reads():
                    answer = generator.reads(wanted)
        print(msgspec.json.encode(answer).decode(), flush=True)


if __name__ == "__main__":
    main()
