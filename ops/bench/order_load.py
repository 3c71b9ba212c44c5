"""The load generator, a process of its own: `python -m ops.bench.order_load`, told what to do on
standard input (schemas below as JSON lines) and answering each line with one.

Commands are encoded before the clock runs; answers are matched by id, classed by their first bytes
and not decoded, so that the generator costs the machine little. One thread, select, no event loop.
"""

import contextlib
import gc
import itertools
import select
import socket
import sys
import time
from collections import Counter

import msgspec

from ops.bench.order_frames import FrameSource, Plan, write_number
from schemas.frames import LENGTH, Refused, Reply
from schemas.rejections import RejectionCode

SECOND_NS = 1_000_000_000
NS_PER_MS = 1_000_000
RECEIVE_BYTES = 1 << 18
PREPARE_DEPTH = 1_000
# The first part of a slice fills the pipeline; it is not counted.
RAMP_SHARE = 0.1
ANSWER_SECONDS_MAX = 30
ANSWER_NS_MAX = ANSWER_SECONDS_MAX * SECOND_NS
NO_END_NS = 1 << 62
EXPECTED_REFUSALS = frozenset(
    (
        RejectionCode.UNKNOWN_ORDER,
        RejectionCode.POST_ONLY_WOULD_TRADE,
        RejectionCode.WOULD_NOT_FILL,
        RejectionCode.NO_LIQUIDITY,
        RejectionCode.TOO_MANY_OPEN_ORDERS,
    )
)
_ACCEPTED = b'{"type":"accepted","id":'
_ID_AT = len(_ACCEPTED)
_POSITION = b'"last_position":'
_PLACED = b'"type":"order_placed"'
_ORDER_ID = b'"order_id":'
_decode_reply = msgspec.json.Decoder(Reply).decode


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """Fund users and rest orders at each engine, at full speed. engines: name -> port."""

    engines: dict[str, int]
    lanes: int
    users: int
    resting: int


class Slice(msgspec.Struct, frozen=True, tag=True):
    """Load one engine for so many seconds; 0: until everything drawn is answered.

    depth: in flight. rate: a second, whatever is in flight; 0 means depth counts. Ends early when
    nothing is left to send. sample: answer with every accepted order's position and times.
    """

    engine: str
    seconds: float
    depth: int = 0
    rate: int = 0
    sample: bool = False


class Draw(msgspec.Struct, frozen=True, tag=True):
    """Have so many commands at hand for an engine, so that no slice has to wait for them."""

    engine: str
    commands: int


class Reconnect(msgspec.Struct, frozen=True, tag=True):
    """The engine was started anew."""

    engine: str
    port: int


Order = Prepare | Draw | Slice | Reconnect


class Figures(msgspec.Struct, frozen=True):
    """answered: within the counted part of the slice, which took `seconds`.

    p50, p99, p100: milliseconds from (intended) sending to answer. refused: by code.
    last_position: of the last answer. samples: (position, sent, answered), the times in
    nanoseconds of the monotonic clock.
    """

    answered: int
    seconds: float
    p50: float
    p99: float
    p100: float
    refused: dict[str, int]
    own_cpu_seconds: float
    last_position: int = 0
    samples: list[tuple[int, int, int]] = []


class UnexpectedAnswer(Exception):
    """An engine refused or misread what it must take; the run means nothing."""


class Lane:
    """One connection: what it sends next, and what became of what it sent.

    next: index of the next command. queued, flushed: bytes of data given and taken so far.
    sent_ns: when each command was (to be) sent, by index.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.next = 0
        self.queued = self.flushed = 0
        self.sent_ns: list[int] = []
        # Its own copy: the numbers of its orders are those of its engine.
        self._data = bytearray()
        self._numbers: dict[int, int] = {}
        self._uses: dict[int, list[int]] = {}
        self._uses_seen = 0
        self._answered = 0
        self._received = b""
        self._socket = socket.socket()

    def connect(self, port: int) -> None:
        """Anew; nothing may be waiting for its answer."""
        assert not self.is_waiting
        self._socket.close()
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def is_waiting(self) -> bool:
        """For answers."""
        return self._answered < self.next

    def extend(self) -> None:
        """Take over what has been planned since."""
        self._data += self.plan.data[len(self._data) :]
        self.sent_ns += [0] * (self.plan.count - len(self.sent_ns))
        for index, use in self.plan.uses[self._uses_seen :]:
            if index in self._numbers:
                write_number(self._data, use, self._numbers[index])
            else:
                self._uses.setdefault(index, []).append(use)
        self._uses_seen = len(self.plan.uses)

    def send(self, count: int, now_ns: int) -> int:
        """Send so many more, or what is left; how many."""
        first, last = self.next, min(self.next + count, self.plan.count)
        self.sent_ns[first:last] = [now_ns] * (last - first)
        self.next, self.queued = last, self.plan.starts[last]
        self.flush()
        return last - first

    def flush(self) -> None:
        with (
            memoryview(self._data) as view,
            view[self.flushed : self.queued] as unsent,
            # The engine reads slowly; select tells when it has caught up.
            contextlib.suppress(BlockingIOError),
        ):
            self.flushed += self._socket.send(unsent)

    def receive(self) -> list[bytes]:
        """Bodies of the answers that have come."""
        received = self._socket.recv(RECEIVE_BYTES)
        if not received:
            raise UnexpectedAnswer("the engine hung up")
        data = self._received + received
        bodies, start, size = [], 0, len(data)
        while size - start >= LENGTH.size:
            end = start + LENGTH.size + int.from_bytes(data[start : start + LENGTH.size])
            if end > size:
                break
            bodies.append(data[start + LENGTH.size : end])
            start = end
        self._received = data[start:]
        self._answered += len(bodies)
        return bodies

    def placed(self, index: int, body: bytes, at: int) -> None:
        """Keep the number of the order that command `index` placed: at `at` of its answer."""
        number = self._numbers[index] = _number_after(body, _ORDER_ID, at)
        for use in self._uses.pop(index, ()):
            # A command that left before this answer keeps the number that was guessed.
            if use >= self.queued:
                write_number(self._data, use, number)


class Tally:
    """Of one slice: answers that came, and latencies of what was sent, between begin and end."""

    def __init__(self, wanted: Slice, now_ns: int) -> None:
        length = int(wanted.seconds * SECOND_NS)
        self.start_ns, self.begin_ns = now_ns, now_ns + int(length * RAMP_SHARE)
        self.end_ns = now_ns + (length or NO_END_NS)
        self._answered = 0
        self._latencies: list[int] = []
        self._refused: Counter[str] = Counter()
        self._last_position = 0
        self._samples: list[tuple[int, int, int]] | None = [] if wanted.sample else None

    def take(self, lane: Lane, bodies: list[bytes], now_ns: int) -> None:
        if self.begin_ns <= now_ns < self.end_ns:
            self._answered += len(bodies)
        sent_ns, begin_ns = lane.sent_ns, self.begin_ns
        for body in bodies:
            if body.startswith(_ACCEPTED):
                index = int(body[_ID_AT : body.index(b",", _ID_AT)])
                if (placed := body.find(_PLACED)) >= 0:
                    lane.placed(index, body, placed)
                if self._samples is not None:
                    position = _number_after(body, _POSITION)
                    self._samples.append((position, sent_ns[index], now_ns))
            else:
                index = self._refusal(body)
            if sent_ns[index] >= begin_ns:
                self._latencies.append(now_ns - sent_ns[index])
        if bodies and bodies[-1].startswith(_ACCEPTED):
            position = _number_after(bodies[-1], _POSITION)
            self._last_position = max(self._last_position, position)

    def _refusal(self, body: bytes) -> int:
        reply = _decode_reply(body)
        if not isinstance(reply, Refused) or reply.rejection.code not in EXPECTED_REFUSALS:
            raise UnexpectedAnswer(body[:1_000].decode())
        self._refused[reply.rejection.code] += 1
        return reply.id

    def figures(self, own_cpu_seconds: float) -> Figures:
        ordered = sorted(self._latencies) or [0]
        last = len(ordered) - 1
        after_99 = -(-99 * len(ordered) // 100)
        return Figures(
            answered=self._answered,
            seconds=(self.end_ns - self.begin_ns) / SECOND_NS,
            p50=ordered[last // 2] / NS_PER_MS,
            p99=ordered[after_99 - 1] / NS_PER_MS,
            p100=ordered[last] / NS_PER_MS,
            refused=dict(self._refused),
            own_cpu_seconds=own_cpu_seconds,
            last_position=self._last_position,
            samples=self._samples or [],
        )


def _number_after(body: bytes, name: bytes, start: int = 0) -> int:
    at = body.index(name, start) + len(name)
    return int(body[at : body.index(b",", at)])


class Generator:
    """All engines' lanes over one stream of commands; every engine gets the same ones."""

    def __init__(self, wanted: Prepare) -> None:
        self._source = FrameSource(lanes=wanted.lanes, users=wanted.users)
        self._engines = {
            name: [Lane(plan) for plan in self._source.plans] for name in wanted.engines
        }
        for name, port in wanted.engines.items():
            self.reconnect(Reconnect(name, port))
        self._source.fund()
        self._source.rest(wanted.resting)
        for name in self._engines:
            # Deep enough to be quick, far below what an engine refuses as too much.
            self.draw(Draw(name, 0))
            self.slice(Slice(name, seconds=0, depth=PREPARE_DEPTH))

    def reconnect(self, wanted: Reconnect) -> None:
        for lane in self._engines[wanted.engine]:
            lane.connect(wanted.port)

    def close(self) -> None:
        """Hang up."""
        for lane in itertools.chain.from_iterable(self._engines.values()):
            lane.close()

    def draw(self, wanted: Draw) -> None:
        lanes = self._engines[wanted.engine]
        unsent = sum(lane.plan.count - lane.next for lane in lanes)
        self._source.mix(max(wanted.commands - unsent, 0))
        for lane in lanes:
            lane.extend()

    def slice(self, wanted: Slice) -> Figures:
        lanes = self._engines[wanted.engine]
        cpu_seconds = time.process_time()
        tally = _offer(lanes, wanted) if wanted.rate else _keep_in_flight(lanes, wanted)
        return tally.figures(time.process_time() - cpu_seconds)


def _keep_in_flight(lanes: list[Lane], wanted: Slice) -> Tally:
    # Fewer in flight than lanes: those with most to send are used, so that none runs dry early.
    used = sorted(lanes, key=lambda lane: lane.next - lane.plan.count)[: wanted.depth]
    tally = Tally(wanted, time.monotonic_ns())
    for number, lane in enumerate(used):
        lane.send((wanted.depth + number) // len(used), time.monotonic_ns())
    while any(lane.is_waiting for lane in used):
        for lane in _ready(used, ANSWER_SECONDS_MAX):
            bodies = lane.receive()
            now_ns = time.monotonic_ns()
            tally.take(lane, bodies, now_ns)
            if now_ns < tally.end_ns and not lane.send(len(bodies), now_ns) and wanted.seconds:
                tally.end_ns = now_ns
    tally.end_ns = min(tally.end_ns, time.monotonic_ns())
    return tally


def _offer(lanes: list[Lane], wanted: Slice) -> Tally:
    # Latency counts from the instant at which the plan wants an order sent, however late we are.
    tally, offered = Tally(wanted, time.monotonic_ns()), 0
    due_ns = tally.start_ns
    while due_ns < tally.end_ns or any(lane.is_waiting for lane in lanes):
        now_ns = time.monotonic_ns()
        while due_ns <= now_ns and due_ns < tally.end_ns:
            lanes[offered % len(lanes)].send(1, due_ns)
            offered += 1
            due_ns = tally.start_ns + offered * SECOND_NS // wanted.rate
        timeout_ns = due_ns - now_ns if due_ns < tally.end_ns else ANSWER_NS_MAX
        for lane in _ready(lanes, timeout_ns / SECOND_NS):
            bodies = lane.receive()
            tally.take(lane, bodies, time.monotonic_ns())
    return tally


def _ready(lanes: list[Lane], timeout: float) -> list[Lane]:
    """Lanes with answers; sends what did not fit before on the way. select: exact to the us."""
    unsent = [lane for lane in lanes if lane.flushed < lane.queued]
    readable, writable, _ = select.select(lanes, unsent, [], timeout)
    if timeout >= ANSWER_SECONDS_MAX and not readable and not writable:
        raise UnexpectedAnswer(f"no answer for {timeout:.0f} s")
    for lane in writable:
        lane.flush()
    return readable


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
            match wanted:
                case Slice():
                    gc.collect()
                    gc.freeze()  # what was drawn stays: no collection inside the slice walks it
                    answer = generator.slice(wanted)
                case Draw():
                    generator.draw(wanted)
                case Reconnect():
                    generator.reconnect(wanted)
        print(msgspec.json.encode(answer).decode(), flush=True)


if __name__ == "__main__":
    main()
