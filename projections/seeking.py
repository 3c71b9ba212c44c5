"""Where a topic goes on after a position of the log: found by its records' heads, in a few reads.

The offset kept with the views is only a guess: topics may have been made anew since, and views may
have been built from PostgreSQL. No topic is read just to pass over it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from projections.errors import KafkaAway, RecordsMissing
from projections.ports import Checkpoint
from schemas.records import RecordError, RecordHead, read_head

ANSWER_SECONDS = 10.0
# Only heads are wanted, so nothing but the one batch of records should come along.
FETCH_BYTES_MAX = 1

log = logging.getLogger("durian")


class _Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One record's head, and Kafka's offset of it."""

    offset: int
    head: RecordHead


class _OffsetFinder:
    """Looks for offsets in one topic."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    async def after(self, partition: int, checkpoint: Checkpoint) -> int:
        tp = TopicPartition(self._topic, partition)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                self._consumer.assign([tp])
                begins = await self._consumer.beginning_offsets([tp])
                ends = await self._consumer.end_offsets([tp])
                return await self._find(tp, checkpoint, begin=begins[tp], end=ends[tp])
        except TimeoutError as exc:
            raise KafkaAway(f"Kafka did not answer in {ANSWER_SECONDS:.0f} s") from exc
        except (KafkaError, OSError) as exc:
            raise KafkaAway(f"Kafka: {exc!r}") from exc

    async def _find(
        self, tp: TopicPartition, checkpoint: Checkpoint, *, begin: int, end: int
    ) -> int:
        position, guess = checkpoint.position, checkpoint.offset
        if begin <= guess < end:
            folded = await self._probe(tp, guess, end)
            if folded is not None and folded.offset == guess and folded.head.last <= position:
                following = await self._probe(tp, guess + 1, end)
                if following is None or _continues(following.head, position):
                    return guess + 1
        found = await self._search(tp, position, begin=begin, end=end)
        if found is None:
            return end
        if _continues(found.head, position):
            return found.offset
        first = await self._probe(tp, begin, end)
        assert first is not None, "a record was found, so there is a first one"
        if first.head.first > position + 1:
            raise RecordsMissing(
                partition=tp.partition, expected=position + 1, found=first.head.first
            )
        # Records were sent again here (two relays at a time): their positions do not only rise.
        log.warning("%s: position %d is not where it should be; reading all", tp, position + 1)
        return begin

    async def _search(
        self, tp: TopicPartition, position: int, *, begin: int, end: int
    ) -> _Probe | None:
        """The first record that reaches beyond position; None if none does."""
        found, low, high = None, begin, end
        while low < high:
            middle = (low + high) // 2
            probe = await self._probe(tp, middle, high)
            if probe is None:
                high = middle
            elif probe.head.last > position:
                found, high = probe, middle
            else:
                low = probe.offset + 1
        return found

    async def _probe(self, tp: TopicPartition, offset: int, end: int) -> _Probe | None:
        """The first record of ours from offset on; None if there is none before `end`.

        Offsets may have holes, and somebody may have written to our topic.
        """
        while offset < end:
            self._consumer.seek(tp, offset)
            record = await self._consumer.getone(tp)
            if record.offset >= end:
                return None
            try:
                return _Probe(offset=record.offset, head=read_head(record.headers))
            except RecordError:
                offset = record.offset + 1
        return None


def _continues(head: RecordHead, position: int) -> bool:
    return head.first <= position + 1 <= head.last


async def offsets_after(
    bootstrap: str, topic: str, checkpoints: Mapping[int, Checkpoint]
) -> dict[int, int]:
    """By partition, the offset from which its records continue the checkpoint's position.

    bootstrap: "host:port". Raises RecordsMissing if the topic begins later; KafkaAway.
    """
    async with _open_finder(bootstrap, topic) as finder:
        return {
            number: await finder.after(number, stored) for number, stored in checkpoints.items()
        }


@asynccontextmanager
async def _open_finder(bootstrap: str, topic: str) -> AsyncIterator["_OffsetFinder"]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        request_timeout_ms=int(ANSWER_SECONDS * 1_000),
        max_partition_fetch_bytes=FETCH_BYTES_MAX,
    )
    try:
        try:
            await consumer.start()
        except (KafkaError, OSError) as exc:
            raise KafkaAway(f"Kafka: {exc!r}") from exc
        yield _OffsetFinder(consumer, topic)
    finally:
        await consumer.stop()
