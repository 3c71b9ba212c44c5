"""Checks topics against the log, and makes them anew from it. Joins engine's parts; prints nothing.

Whoever makes a topic anew takes the relay's turn for as long: a relay that runs gives it back
within a second, stands by, and goes on from what Kafka then holds.
"""

import asyncio
from collections.abc import Callable, Sequence

from engine.copy_check import Findings, check_topic
from engine.errors import KafkaUnavailable, StoreUnavailable
from engine.kafka import KafkaPublisher, remake_topics
from engine.kafka_reader import TopicReader
from engine.postgres.whole_log import WholeTail
from engine.relay import Progress, Relay
from engine.relay_turn import RelayTurn
from ops.config import Config, archive_directory, require
from ops.demo.progress import Tasks
from ops.errors import ServerUnavailable, StackBusy
from ops.relaying import quiet_driver
from ops.wiring import bootstrap_of, first_of
from schemas.records import EVENTS_TOPIC, POSTINGS_TOPIC

TOPICS = {
    "events": (EVENTS_TOPIC,),
    "postings": (POSTINGS_TOPIC,),
    "all": (EVENTS_TOPIC, POSTINGS_TOPIC),
}
# A relay looks each second whether its turn is wished; a page under way may take its time.
TURN_SECONDS_MAX = 20.0
POLL_SECONDS = 0.1


async def verify_topics(
    config: Config, tasks: Tasks, *, until: int | None = None
) -> list[Findings]:
    """Compare both topics with the log, byte for byte. Raises ServerUnavailable."""
    quiet_driver()
    try:
        async with _tail(config) as tail:
            head = (await tail.head()).position
            found = []
            for topic in (EVENTS_TOPIC, POSTINGS_TOPIC):
                report = tasks.task(topic, head if until is None else until)
                async with TopicReader(bootstrap_of(config), topic) as reader:
                    found.append(await check_topic(tail, reader, report, until=until))
            return found
    except (KafkaUnavailable, StoreUnavailable) as exc:
        raise ServerUnavailable(str(exc)) from exc


async def rebuild_topics(config: Config, names: Sequence[str], tasks: Tasks) -> int:
    """Delete and create topics and fill them from the log; the position up to which they are full.

    Raises ServerUnavailable: a relay then goes on where this stopped; StackBusy if somebody else
    is at it; KafkaDisagrees if a topic that is not named is damaged too.
    """
    quiet_driver()
    url, bootstrap = require(config, "postgres_url"), bootstrap_of(config)
    position = 0

    async def refill() -> None:
        nonlocal position
        await remake_topics(bootstrap, names)
        async with _tail(config) as tail, KafkaPublisher(bootstrap) as publisher:
            relay = Relay(tail, publisher)
            await relay.resume()
            position = (await tail.head()).position
            await relay.copy_until(position, _progress(tasks, names, position))

    try:
        async with RelayTurn(url) as turn:
            await _take(turn)
            await first_of(refill(), turn.hold())
    except (KafkaUnavailable, StoreUnavailable) as exc:
        raise ServerUnavailable(str(exc)) from exc
    return position


def _tail(config: Config) -> WholeTail:
    return WholeTail(require(config, "postgres_url"), archive_directory(config))


def _progress(tasks: Tasks, names: Sequence[str], position: int) -> Callable[[Progress], None]:
    show = tasks.task(" and ".join(names), position)
    return lambda progress: show(min(progress.last, position))


async def _take(turn: RelayTurn) -> None:
    try:
        async with asyncio.timeout(TURN_SECONDS_MAX):
            is_wished = is_ours = False
            while not is_ours:
                is_wished = is_wished or await turn.wish()
                is_ours = is_wished and await turn.take_as_wished()
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as exc:
        raise StackBusy("another relay, or another rebuild, keeps its turn") from exc
