"""Assignments: opened where the views end, closed before the next one; what ends a partition."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import pytest

from projections.batch import Batch
from projections.desk import Desk, Listener, ViewSource
from projections.errors import EventPoisoned, RecordsMissing
from projections.folders import folder
from projections.fresh import FreshFold
from projections.memory import MemoryViews
from projections.partition import PartitionWorker
from projections.ports import Checkpoint
from schemas import views
from tests.fixtures.ledger_logs import event_records, positioned, random_log

LOG = random_log(8, seconds=200, trades=10)
RECORDS = event_records(LOG, (20,))
DEADLINE_S = 10.0


class News(Listener):
    def __init__(self) -> None:
        self.assignments: list[list[int]] = []
        self.lags: list[tuple[int, int]] = []
        self.poison: list[EventPoisoned] = []
        self.position = 0
        self.changed = asyncio.Event()

    def assigned(self, partitions: Sequence[int]) -> None:
        self.assignments.append(list(partitions))

    def progressed(self, partition: int, checkpoint: Checkpoint) -> None:
        self.position = checkpoint.position
        self.changed.set()

    def lagging(self, partition: int, records: int) -> None:
        self.lags.append((partition, records))

    def poisoned(self, partition: int, poisoned: EventPoisoned) -> None:
        self.poison.append(poisoned)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


async def _find(stored: Mapping[int, Checkpoint]) -> Mapping[int, int]:
    return {partition: checkpoint.offset + 1 for partition, checkpoint in stored.items()}


def _run(use: Callable[[Desk, News, MemoryViews], Awaitable[None]]) -> None:
    async def run() -> None:
        store, news = MemoryViews(), News()

        def worker(partition: int) -> PartitionWorker[Batch]:
            return PartitionWorker(
                partition=partition,
                folder=folder(views.MINING),
                store=store,
                new_epoch=lambda: "e",
            )

        desk = Desk(ViewSource(worker, store.checkpoint), news, _find)
        async with asyncio.timeout(DEADLINE_S):
            await use(desk, news, store)
            await desk.leave()

    asyncio.run(run())


def test_assigned_partition_goes_on_where_its_views_end() -> None:
    async def use(desk: Desk, news: News, store: MemoryViews) -> None:
        assert await desk.assign([0], generation=1) == {0: 0}
        await desk.give(0, RECORDS[:5])
        await news.until(lambda: news.position == 100)
        assert await desk.assign([0], generation=2) == {0: 5}
        await desk.give(0, RECORDS[5:])
        await news.until(lambda: news.position == len(LOG))
        assert store.views == FreshFold(views.MINING).fold_all(positioned(LOG)).views
        assert news.assignments == [[0], [0]]

    _run(use)


def test_same_assignment_asked_again_keeps_what_is_under_way() -> None:
    async def use(desk: Desk, news: News, store: MemoryViews) -> None:
        await desk.assign([0], generation=1)
        await desk.give(0, RECORDS[:5])
        assert await desk.assign([0], generation=1) == {0: 5}
        assert news.assignments == [[0]]

    _run(use)


def test_records_of_a_partition_given_back_are_dropped() -> None:
    async def use(desk: Desk, news: News, store: MemoryViews) -> None:
        await desk.assign([0], generation=1)
        await desk.leave()
        assert await desk.give(0, RECORDS[:5]) is None
        assert await desk.assign([], generation=2) == {}
        assert news.assignments == [[0], []]
        assert store.checkpoints == {}

    _run(use)


def test_poison_stops_its_partition_alone() -> None:
    async def use(desk: Desk, news: News, store: MemoryViews) -> None:
        await desk.assign([0], generation=1)
        poison = msgspec.structs.replace(RECORDS[2], value=b"junk")
        await desk.give(0, [*RECORDS[:2], poison, *RECORDS[3:]])
        await news.until(lambda: bool(news.poison))
        assert news.poison[0].position == 41
        assert store.checkpoints[0].position == 40
        assert not desk.failed.done()
        later = msgspec.structs.replace(RECORDS[-1], offset=len(RECORDS))
        assert await desk.give(0, [later]) is None
        assert store.checkpoints[0].position == 40

    _run(use)


def test_any_other_fault_is_the_desks_failure() -> None:
    async def use(desk: Desk, news: News, store: MemoryViews) -> None:
        await desk.assign([0], generation=1)
        later = msgspec.structs.replace(RECORDS[2], offset=0)
        await desk.give(0, [later])
        with pytest.raises(RecordsMissing):
            await desk.failed

    _run(use)


def test_lag_is_what_kafka_has_beyond_the_next_record() -> None:
    async def use(desk: Desk, news: News, store: MemoryViews) -> None:
        await desk.assign([0], generation=1)
        await desk.give(0, RECORDS[:5])
        desk.tell_lags(lambda partition: 12)
        desk.tell_lags(lambda partition: 0)
        assert news.lags == [(0, 7), (0, 0)]

    _run(use)
