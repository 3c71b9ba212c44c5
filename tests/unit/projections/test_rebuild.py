"""projections.rebuild: partitions at different positions folded from the same pages, in memory."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from projections.errors import EventPoisoned, RebuildRefused
from projections.folders import folder
from projections.fresh import FreshFold
from projections.memory import MemoryViews
from projections.rebuild import COMMIT_EVENTS, Part, Positioned, advance
from schemas import views
from schemas.events import LedgerEvent
from tests.fixtures._live_views import ListSource, partitions_of
from tests.fixtures.ledger_logs import positioned, random_log


@pytest.fixture(scope="module")
def log() -> list[LedgerEvent]:
    return random_log(61, seconds=9_000, trades=100)


async def _parts(twin: MemoryViews, projection: str) -> list[Part]:
    parts = [
        Part(
            projection=projection,
            partition=partition,
            folder=folder(projection, partition, quiet=True),
            store=twin.pinned("2"),
            new_epoch=lambda: "epoch",
        )
        for partition in partitions_of(projection)
    ]
    for part in parts:
        await part.load()
    return parts


def _expected(projection: str, log: Sequence[LedgerEvent]) -> object:
    return FreshFold(projection).fold_all(positioned(log)).views


@pytest.mark.parametrize("projection", [views.MARKET, views.MINING, views.ACCOUNTS])
def test_any_steps_and_restarts_end_in_the_fresh_fold(
    projection: str, log: list[LedgerEvent]
) -> None:
    chance, twin = random.Random(7), MemoryViews()

    async def run() -> None:
        parts = await _parts(twin, projection)
        while any(part.position < len(log) for part in parts):
            if chance.random() < 0.3:
                parts = await _parts(twin, projection)  # killed, and begun again
            targets = [min(len(log), part.position + chance.randint(0, 1_500)) for part in parts]
            await advance(parts, ListSource(log), targets)
            assert [part.position for part in parts] == targets

    asyncio.run(run())
    assert twin.generation("2").views == _expected(projection, log)
    assert twin.generation("1").views == {}
    assert twin.generation("2").feeds.get(0, []) == []


def test_several_projections_share_the_pages(log: list[LedgerEvent]) -> None:
    stores = {name: MemoryViews() for name in (views.MARKET, views.MINING, views.ACCOUNTS)}
    told: list[int] = []

    class Counting(ListSource):
        async def page(self, after: int, limit: int) -> Sequence[Positioned]:
            told.append(after)
            return await super().page(after, limit)

    async def run() -> None:
        parts = [part for name, twin in stores.items() for part in await _parts(twin, name)]
        await advance(parts, Counting(log), [len(log)] * len(parts))

    asyncio.run(run())
    assert told == sorted(set(told))
    for name, twin in stores.items():
        assert twin.generation("2").views == _expected(name, log)


def test_progress_is_stored_on_the_way(log: list[LedgerEvent]) -> None:
    twin = MemoryViews()

    class Failing(ListSource):
        async def page(self, after: int, limit: int) -> Sequence[Positioned]:
            if after >= COMMIT_EVENTS:
                raise ConnectionError("the log is away")
            return await super().page(after, limit)

    async def run(source: ListSource) -> None:
        await advance(await _parts(twin, views.MINING), source, [len(log)])

    with pytest.raises(ConnectionError):
        asyncio.run(run(Failing(log)))
    assert twin.generation("2").checkpoints[0].position == COMMIT_EVENTS
    asyncio.run(run(ListSource(log)))
    assert twin.generation("2").views == _expected(views.MINING, log)


def test_log_that_ends_before_the_target_is_refused(log: list[LedgerEvent]) -> None:
    async def run() -> None:
        await advance(await _parts(MemoryViews(), views.MINING), ListSource(log), [len(log) + 1])

    with pytest.raises(RebuildRefused, match=f"nothing after position {len(log)}"):
        asyncio.run(run())


def test_somebody_elses_write_is_noticed(log: list[LedgerEvent]) -> None:
    async def run() -> None:
        twin = MemoryViews()
        one, other = await _parts(twin, views.MINING), await _parts(twin, views.MINING)
        await advance(one, ListSource(log), [100])
        await advance(other, ListSource(log), [100])

    with pytest.raises(RebuildRefused, match="generation 2 was changed"):
        asyncio.run(run())


def test_event_that_cannot_be_folded_stops_it_where_it_is(log: list[LedgerEvent]) -> None:
    async def run() -> None:
        twisted = [*log[:300], log[299], *log[300:]]  # a second that comes twice
        await advance(await _parts(MemoryViews(), views.MINING), ListSource(twisted), [400])

    with pytest.raises(EventPoisoned) as poisoned:
        asyncio.run(run())
    assert poisoned.value.position == 301
