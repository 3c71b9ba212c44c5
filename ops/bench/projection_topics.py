"""Topics for the benchmark of projections: the relay's own, and one with an event a record."""

from collections.abc import Callable

import uvloop

from engine.kafka import KafkaPublisher, remake_topics
from engine.postgres.tail import PostgresTail
from engine.relay import Outgoing, Relay
from schemas.records import EVENTS_TOPIC, POSTINGS_TOPIC, RecordHead

PAGE_EVENTS = 4_000


def copy_log(url: str, bootstrap: str, last: int, progress: Callable[[int], None]) -> None:
    """Both topics made anew and filled by the relay up to a position."""
    uvloop.run(_copy(url, bootstrap, last, progress))


def send_one_by_one(url: str, bootstrap: str, last: int) -> None:
    """ledger.events made anew, with one event a record."""
    uvloop.run(_send(url, bootstrap, last))


async def _copy(url: str, bootstrap: str, last: int, progress: Callable[[int], None]) -> None:
    await remake_topics(bootstrap, [EVENTS_TOPIC, POSTINGS_TOPIC])
    async with PostgresTail(url) as tail, KafkaPublisher(bootstrap) as publisher:
        relay = Relay(tail, publisher)
        await relay.resume()
        await relay.copy_until(last, lambda copied: progress(min(copied.last, last)))


async def _send(url: str, bootstrap: str, last: int) -> None:
    await remake_topics(bootstrap, [EVENTS_TOPIC])
    async with PostgresTail(url) as tail, KafkaPublisher(bootstrap) as publisher:
        for after in range(0, last, PAGE_EVENTS):
            page = await tail.page(after, min(PAGE_EVENTS, last - after))
            await publisher.publish(
                EVENTS_TOPIC,
                [Outgoing(0, _head(logged.position), logged.payload) for logged in page],
            )


def _head(position: int) -> RecordHead:
    return RecordHead(first=position, last=position, sequence=position)
