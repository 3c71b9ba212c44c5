"""The phones of one measurement: their connections, what they have read, whether it was in order.

One thread, epoll, no event loop. A publication's bytes are the same for everyone, so that what one
connection has read is parsed for all: what is left is a read, a look-up and a compare for each.
"""

import gc
import itertools
import select
import socket
import time
from collections import Counter
from pathlib import Path

import msgspec

from gateway.stream.encodings import SUBPROTOCOLS, Encoding
from ops.bench import gateway_frames as frames
from ops.bench.gateway_frames import Seen
from ops.bench.gateway_meters import (
    Traffic,
    core_busy_seconds,
    cpu_seconds,
    resident_bytes,
    traffic_of,
)
from ops.bench.gateway_stamps import Stamps
from ops.bench.gateway_tally import (
    ACCOUNT,
    TIMED,
    Done,
    Enter,
    Figures,
    Group,
    Open,
    Resume,
    Resumed,
    Stall,
    Tally,
    Watch,
)
from schemas.wire import Authenticate, ChannelRequest, ClientMessage, Subscribe

OUTSTANDING_MAX = 256
STEP_SECONDS_MAX = 60.0
RECEIVE_BYTES = 1 << 16
EVENTS_MAX = 1_024
KNOWN_MAX = 512
# One address has fewer ports than we may have connections.
SOURCES = 4
SOURCE = "127.0.0.{}"
IP_BIND_ADDRESS_NO_PORT = 24
QUIET_SECONDS, QUIET_SECONDS_MAX = 0.15, 2.5
IDLE_SECONDS = 0.05
OPENED = b"HTTP/1.1 101"
RESET = "reset"


class Phone:
    """A connection. awaited: messages until the step under way is done; ended: why it is no more.

    rest: bytes of a message that is not whole yet. offsets: the last one, by channel.
    """

    __slots__ = ("awaited", "ended", "group", "is_open", "offsets", "rest", "socket")

    def __init__(self, group: Group, connection: socket.socket) -> None:
        self.group = group
        self.socket = connection
        self.is_open = False
        self.awaited = 0
        self.ended = ""
        self.rest = b""
        self.offsets: dict[str, int] = {}


class Crowd:
    """Everyone of one Open."""

    def __init__(self, wanted: Open) -> None:
        self._wanted = wanted
        self._stamps = Stamps(Path(wanted.stamps)) if wanted.stamps else None
        self._epoll = select.epoll()
        self._phones: dict[int, Phone] = {}
        self._stalled: dict[str, list[Phone]] = {}
        self._known: dict[bytes, tuple[Seen, ...]] = {}
        self._outstanding = 0
        self._accounts = self._gone = self._refused = self._delivered = 0
        self._heard_at = time.monotonic()
        self._tally = Tally()

    def close(self) -> None:
        """Everybody hangs up."""
        for phone in (*self._phones.values(), *itertools.chain(*self._stalled.values())):
            phone.socket.close()
        self._epoll.close()
        if self._stamps is not None:
            self._stamps.close()

    def open(self) -> Done:
        """At most OUTSTANDING_MAX handshakes at a time."""
        self._tally = Tally()
        calls = ((group, number) for group in self._wanted.groups for number in range(group.count))
        began = time.perf_counter()
        for group, number in calls:
            self._await_fewer(OUTSTANDING_MAX, began)
            self._call(group, number)
        self._await_fewer(1, began)
        return self._done(began)

    def enter(self, wanted: Enter) -> Done:
        """Both messages at once, as a phone may do; at most OUTSTANDING_MAX answers are due."""
        tokens = Path(wanted.tokens).read_text().split()
        numbers: Counter[str] = Counter()
        self._tally = Tally()
        began = time.perf_counter()
        for phone in tuple(self._phones.values()):
            group = phone.group
            token = tokens[group.first + numbers[group.name]]
            numbers[group.name] += 1
            self._await_fewer(OUTSTANDING_MAX, began)
            phone.awaited = 2 + len(group.channels)
            self._outstanding += 1
            self._send(phone, _entering(group, token))
        self._await_fewer(1, began)
        return self._done(began)

    def watch(self, wanted: Watch) -> Figures:
        """Raises nothing: what goes wrong is counted."""
        if wanted.is_paced:
            self._await_quiet()
        gc.collect()
        gc.freeze()  # no collection walks through all phones while latencies are taken
        traffic = self._traffic(wanted.meters)
        busy, before = core_busy_seconds(wanted.core), cpu_seconds(wanted.process_ids)
        own_before = time.process_time()
        tally = self._tally = Tally()
        began = time.perf_counter()
        end = began + wanted.seconds
        while (left := end - time.perf_counter()) > 0:
            self.turn(left)
        seconds = time.perf_counter() - began
        own_cpu, server_cpu = time.process_time() - own_before, cpu_seconds(wanted.process_ids)
        middle, late, last = tally.quantiles()
        return Figures(
            seconds=seconds,
            deliveries=tally.deliveries,
            timed=len(tally.latencies),
            p50=middle,
            p99=late,
            p100=last,
            lost=tally.lost,
            disordered=tally.disordered,
            restarted=tally.restarted,
            accounts=self._accounts,
            gone=self._gone,
            faults=tally.faults(),
            own_cpu_seconds=own_cpu,
            server_cpu_seconds=server_cpu - before,
            core_busy_seconds=core_busy_seconds(wanted.core) - busy,
            server_bytes=resident_bytes(wanted.process_ids),
            traffic={
                name: (count, now.since(traffic[name][1]))
                for name, (count, now) in self._traffic(wanted.meters).items()
            },
        )

    def stall(self, wanted: Stall) -> Done:
        began = time.perf_counter()
        chosen = [phone for phone in self._phones.values() if phone.group.name == wanted.group]
        for phone in chosen:
            self._epoll.unregister(phone.socket.fileno())
            del self._phones[phone.socket.fileno()]
        self._stalled[wanted.group] = chosen
        return self._done(began)

    def resume(self, wanted: Resume) -> Resumed:
        chosen = self._stalled.pop(wanted.group)
        for phone in chosen:
            self._phones[phone.socket.fileno()] = phone
            self._epoll.register(phone.socket.fileno(), select.EPOLLIN)
        self._tally = Tally()  # what they missed is their own fault
        deadline = time.monotonic() + wanted.seconds
        while not all(phone.ended for phone in chosen) and time.monotonic() < deadline:
            self.turn(IDLE_SECONDS)
        self._gone -= sum(bool(phone.ended) for phone in chosen)
        return Resumed(dict(Counter(phone.ended or "open" for phone in chosen)))

    def turn(self, timeout: float) -> None:
        """Read what has come, waiting for it so long at most."""
        phones, read = self._phones, self._read
        for file, _ in self._epoll.poll(timeout, EVENTS_MAX):
            read(phones[file])
        if self._stamps is not None:
            self._stamps.delivered = self._delivered

    def _call(self, group: Group, number: int) -> None:
        connection = socket.socket()
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if group.receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, group.receive_bytes)
        connection.bind((SOURCE.format(2 + number % SOURCES), 0))
        connection.connect(("127.0.0.1", self._wanted.port))
        connection.setblocking(False)
        connection.send(frames.handshake(group.path, self._wanted.port, group.subprotocol))
        self._phones[connection.fileno()] = Phone(group, connection)
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        self._outstanding += 1

    def _await_fewer(self, outstanding: int, began: float) -> None:
        while self._outstanding >= outstanding:
            if time.perf_counter() - began > STEP_SECONDS_MAX:
                self._tally.fault(f"{self._outstanding} without an answer")
                return
            self.turn(IDLE_SECONDS)

    def _done(self, began: float) -> Done:
        failed = self._outstanding + self._gone + self._refused
        self._outstanding = 0
        return Done(time.perf_counter() - began, failed, self._tally.faults())

    def _await_quiet(self) -> None:
        deadline = time.monotonic() + QUIET_SECONDS_MAX
        while time.monotonic() < min(deadline, self._heard_at + QUIET_SECONDS):
            self.turn(IDLE_SECONDS)

    def _traffic(self, meters: int) -> dict[str, tuple[int, Traffic]]:
        found = {}
        for group in self._wanted.groups if meters else ():
            alike = (phone for phone in self._phones.values() if phone.group is group)
            chosen = [phone.socket for phone in itertools.islice(alike, meters)]
            found[group.name] = len(chosen), traffic_of(chosen)
        return found

    def _read(self, phone: Phone) -> None:
        try:
            received = phone.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            received = b""
        if not received:
            self._lose(phone)
            return
        now_ns = time.monotonic_ns()
        seen = None if phone.rest else self._known.get(received)
        if seen is None:
            seen = self._parse(phone, received)
        for message in seen:
            if message.op == frames.PUBLICATION:
                self._publication(phone, message, now_ns)
            else:
                self._answer(phone, message)
                if phone.ended:
                    return

    def _parse(self, phone: Phone, received: bytes) -> tuple[Seen, ...]:
        whole = phone.rest + received
        if not phone.is_open:
            head, end, whole = whole.partition(b"\r\n\r\n")
            if not end:
                phone.rest = head
                return ()
            self._opened(phone, head)
            if phone.ended:
                return ()
        seen, phone.rest = frames.read_messages(whole)
        if len(whole) == len(received) and not phone.rest:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[received] = seen
        return seen

    def _publication(self, phone: Phone, message: Seen, now_ns: int) -> None:
        tally, ch, offset = self._tally, message.ch, message.offset
        last = phone.offsets.get(ch)
        if last is not None and offset != last + 1:
            tally.check(ch, last, offset)
        phone.offsets[ch] = offset
        tally.deliveries += 1
        if ch in TIMED:
            self._delivered += 1
            self._heard_at = now_ns / 1e9
            at_ns = self._stamps[offset] if self._stamps is not None else int(message.at)
            tally.latencies.append(now_ns - at_ns)
        elif ch == ACCOUNT:
            self._accounts += 1

    def _answer(self, phone: Phone, message: Seen) -> None:
        match message.op:
            case "snapshot":
                phone.offsets[message.ch] = message.offset
                self._tally.restarted += not phone.awaited
                self._step(phone)
            case "ack":
                self._step(phone)
            case frames.PINGED:
                self._send(phone, frames.client_frame(frames.PONG, message.payload))
            case frames.ENGINE_PINGED:
                self._send(phone, frames.client_frame(frames.TEXT, frames.ENGINE_PONG))
            case frames.ENGINE_OPENED:
                self._send(phone, frames.client_frame(frames.TEXT, frames.ENGINE_JOIN))
            case "error":
                self._tally.fault(f"{message.code}: {message.message}")
                self._refused += 1
                self._step(phone)
            case frames.CLOSED:
                self._lose(phone, str(message.offset))
            case _:
                pass
        if message.op == phone.group.opens_with:
            self._step(phone)

    def _opened(self, phone: Phone, head: bytes) -> None:
        if not head.startswith(OPENED):
            self._tally.fault(head.partition(b"\r\n")[0].decode(errors="replace"))
            self._lose(phone)
            return
        phone.is_open, phone.rest = True, b""
        phone.awaited = 1
        if not phone.group.opens_with:
            self._step(phone)

    def _step(self, phone: Phone) -> None:
        if phone.awaited:
            phone.awaited -= 1
            self._outstanding -= not phone.awaited

    def _send(self, phone: Phone, sent: bytes) -> None:
        try:
            phone.socket.send(sent)
        except ConnectionError:
            self._lose(phone)

    def _lose(self, phone: Phone, why: str = RESET) -> None:
        file = phone.socket.fileno()
        self._epoll.unregister(file)
        del self._phones[file]
        phone.socket.close()
        phone.ended = why
        self._outstanding -= bool(phone.awaited or not phone.is_open)
        self._gone += 1
        self._tally.fault(f"a connection ended: {phone.ended}")


def _entering(group: Group, token: str) -> bytes:
    channels = tuple(ChannelRequest(ch=name) for name in group.channels)
    asked = (Authenticate(id=1, token=token), Subscribe(id=2, channels=channels))
    return b"".join(_framed(message, group.subprotocol) for message in asked)


def _framed(message: ClientMessage, subprotocol: str) -> bytes:
    if SUBPROTOCOLS.get(subprotocol) is Encoding.MSGPACK:
        return frames.client_frame(frames.BINARY, msgspec.msgpack.encode(message))
    return frames.client_frame(frames.TEXT, msgspec.json.encode(message))
