"""Events a second that the relay copies from a full log to a real Kafka, and how far it is behind.

The reference only sends: the same events packed into records of the same size, out of memory and
into one topic, by the same driver, and by librdkafka where confluent-kafka is installed.
"""

import asyncio
import importlib
import importlib.util
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvloop
from aiokafka import AIOKafkaProducer

from engine.kafka import REQUEST_BYTES_MAX, KafkaPublisher, remake_topics
from engine.postgres.tail import PostgresTail
from engine.relay import Progress, Relay
from ops.bench.engine_servers import Engine, Load, Servers, fill
from ops.bench.order_load import NS_PER_MS, Slice
from ops.bench.report import Row, row
from ops.bench.turns import Timed, take_turns
from ops.demo.progress import Tasks
from ops.relaying import quiet_driver
from schemas.records import EVENTS_TOPIC, POSTINGS_TOPIC, RECORD_EVENTS_MAX

EVENTS_PER_S_MIN = 50_000
LAG_P99_MS_MAX = 50
EVENTS_PER_S_STEADY = 1_000
# Of the order mix; the rows say what it came to.
EVENTS_PER_ORDER = 1.65

NOTES = (
    "Relay: a log of the order mix, read from PostgreSQL, folded into postings and sent to both "
    "topics of an empty Kafka, all acknowledged; wall time, medians of rounds in turns.",
    "Lag: the engine takes orders for about "
    f"{EVENTS_PER_S_STEADY:,} events a second (open loop); from the engine's answer as its client "
    "sees it (the commit is a little earlier) to Kafka's acknowledgement of all records of that "
    "position; p99 of the whole slice.",
)


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """events: in the log that is copied, at least."""

    events: int = 150_000
    users: int = 1_000
    resting: int = 10_000


def run_relay(servers: Servers, seconds: float, tasks: Tasks, sizes: Sizes) -> list[Row]:
    """Rows of throughput, then of lag."""
    quiet_driver()
    bootstrap = servers.kafka_url().removeprefix("kafka://")
    engine = servers.engine("ours", servers.database())
    load = servers.load({"ours": engine}, users=sizes.users, resting=sizes.resting)
    last = fill(engine, load, events=sizes.events, tasks=tasks)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        copier = _Copier(engine.database.reader_url, bootstrap, last)
        figures = take_turns(
            copier.contestants(runner), seconds=seconds / 2, progress=tasks.task("relay", 100)
        )
        lag = runner.run(_lag(copier, engine, load, seconds / 2, tasks))
    rows = [
        row(
            f"events/s relayed to Kafka, against {name}",
            figures["ours"],
            reference=figures[name],
            reference_name=f"{name} sending one topic out of memory",
            at_least=EVENTS_PER_S_MIN,
        )
        for name in figures
        if name != "ours"
    ]
    return [*rows, *lag]


class _Copier:
    """Empties the topics and fills them again."""

    def __init__(self, url: str, bootstrap: str, last: int) -> None:
        self._url = url
        self.bootstrap = bootstrap
        self.last = last
        self._values: list[bytes] = []

    def contestants(self, runner: asyncio.Runner) -> dict[str, Timed]:
        runner.run(self._read())

        def turn(work: Callable[[], Awaitable[float]]) -> Timed:
            async def timed() -> float:
                await remake_topics(self.bootstrap, [EVENTS_TOPIC, POSTINGS_TOPIC])
                return self.last / await work()

            return lambda: runner.run(timed())

        found = {"ours": turn(self._relay), "aiokafka": turn(self._aiokafka)}
        if importlib.util.find_spec("confluent_kafka") is not None:
            found["librdkafka"] = turn(self._librdkafka)
        return found

    async def _read(self) -> None:
        async with PostgresTail(self._url) as tail:
            for after in range(0, self.last, RECORD_EVENTS_MAX):
                page = await tail.page(after, RECORD_EVENTS_MAX)
                self._values.append(b"\n".join([logged.payload for logged in page]))

    async def _relay(self) -> float:
        async with PostgresTail(self._url) as tail, KafkaPublisher(self.bootstrap) as publisher:
            relay = Relay(tail, publisher)
            await relay.resume()
            began = time.perf_counter()
            await relay.copy_until(self.last, lambda _: None)
            return time.perf_counter() - began

    async def _aiokafka(self) -> float:
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            enable_idempotence=True,
            acks="all",
            max_request_size=REQUEST_BYTES_MAX,
            max_batch_size=1 << 20,
        )
        await producer.start()
        try:
            await producer.partitions_for(EVENTS_TOPIC)
            began = time.perf_counter()
            sent = [await producer.send(EVENTS_TOPIC, value) for value in self._values]
            await asyncio.gather(*sent)
            return time.perf_counter() - began
        finally:
            await producer.stop()

    async def _librdkafka(self) -> float:
        library: Any = importlib.import_module("confluent_kafka")
        producer = library.Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,
                "message.max.bytes": REQUEST_BYTES_MAX,
            }
        )
        producer.list_topics(EVENTS_TOPIC, timeout=10)
        began = time.perf_counter()
        for value in self._values:
            producer.produce(EVENTS_TOPIC, value)
            producer.poll(0)
        assert producer.flush(60) == 0, "Kafka did not acknowledge everything"
        return time.perf_counter() - began

    async def follow(self, told: list[tuple[int, int]]) -> None:
        """A relay that runs until cancelled; told gets (position, when it was acknowledged)."""

        def report(progress: Progress) -> None:
            told.append((progress.last, time.monotonic_ns()))

        await remake_topics(self.bootstrap, [EVENTS_TOPIC, POSTINGS_TOPIC])
        async with PostgresTail(self._url) as tail, KafkaPublisher(self.bootstrap) as publisher:
            relay = Relay(tail, publisher)
            await relay.resume()
            await relay.run(report)


async def _lag(
    copier: _Copier, engine: Engine, load: Load, seconds: float, tasks: Tasks
) -> list[Row]:
    progress = tasks.task("relay lag", 1)
    rate = round(EVENTS_PER_S_STEADY / EVENTS_PER_ORDER)
    await asyncio.to_thread(load.draw, engine, 2 * int(rate * (seconds + 1)))
    told: list[tuple[int, int]] = []
    following = asyncio.create_task(copier.follow(told))
    wanted = Slice(engine.name, seconds=seconds, rate=rate, sample=True)
    await _reach(following, told, copier.last)
    taken = await asyncio.to_thread(load.slice, wanted)
    await _reach(following, told, taken.last_position)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    progress(1)
    samples = taken.samples
    reached = [acknowledged for _, acknowledged in told]
    positions = [position for position, _ in told]
    after_answer, after_sending = [], []
    for position, sent_ns, answered_ns in samples:
        acknowledged_ns = reached[bisect_left(positions, position)]
        after_answer.append(max(acknowledged_ns - answered_ns, 0) / NS_PER_MS)
        after_sending.append((acknowledged_ns - sent_ns) / NS_PER_MS)
    spread = samples[-1][0] - samples[0][0], (samples[-1][2] - samples[0][2]) / 1e9
    what = f"{spread[0] / max(spread[1], 1e-9):,.0f} events/s"
    return [
        *_quantile_rows(f"ms from answer to Kafka, {what}", after_answer, LAG_P99_MS_MAX),
        *_quantile_rows(f"ms from sending an order to Kafka, {what}", after_sending, None),
    ]


async def _reach(
    following: "asyncio.Task[None]", told: list[tuple[int, int]], position: int
) -> None:
    async with asyncio.timeout(60):
        while not told or told[-1][0] < position:
            if following.done():
                following.result()
            await asyncio.sleep(0.01)


def _quantile_rows(metric: str, found: list[float], p99_max: float | None) -> list[Row]:
    ordered = sorted(found)
    last = len(ordered) - 1
    return [
        row(f"{metric}, p50", ordered[last // 2]),
        row(f"{metric}, p99", ordered[last * 99 // 100], at_most=p99_max),
        row(f"{metric}, p100", ordered[last]),
    ]
