"""Records and pages of the log reach the fold; what cannot be read is named by its position."""

import asyncio

import pytest

from projections.batch import Batch
from projections.errors import EventPoisoned, ViewBroken
from projections.folders import EffectFolder, decode_effects, decode_events, folder
from projections.markets import STATE_PLACE
from projections.memory import MemoryViews
from projections.restore import restore_markets, restore_pool
from schemas import views
from schemas.records import POSTINGS_PARTITIONS, RecordHead
from tests.fixtures.ledger_logs import effect_records, event_records, positioned, random_log

LOG = random_log(3, seconds=200, trades=20)


def test_empty_store_gives_empty_folds() -> None:
    reader = MemoryViews()
    assert asyncio.run(restore_markets(reader)).drain().publications == []
    assert asyncio.run(restore_pool(reader)).drain().publications == []


def test_state_of_another_shape_raises() -> None:
    reader = MemoryViews()
    reader.views[STATE_PLACE] = b'{"scales":7}'
    with pytest.raises(ViewBroken, match="MarketsState"):
        asyncio.run(restore_markets(reader))


def test_page_of_the_log_gives_the_same_batch_as_its_records() -> None:
    async def fold() -> None:
        for projection in (views.MARKET, views.MINING):
            (record,) = event_records(LOG, (len(LOG),))
            paged, packed = folder(projection), folder(projection)
            for one in (paged, packed):
                await one.load(MemoryViews())
            await paged.fold_events(list(positioned(LOG)))
            assert await packed.fold_record(record.head, record.value, after=0) == len(LOG)
            assert _written(paged.drain()) == _written(packed.drain())
            assert paged.at_ns == packed.at_ns == LOG[-1].at_ns

    asyncio.run(fold())


def test_page_of_the_log_gives_each_partition_its_own_users() -> None:
    async def fold() -> None:
        for partition, records in enumerate(effect_records(LOG, (len(LOG),))):
            paged, packed = (folder(views.ACCOUNTS, partition) for _ in range(2))
            for one in (paged, packed):
                await one.load(MemoryViews())
            await paged.fold_events(list(positioned(LOG)))
            await packed.fold_record(records[0].head, records[0].value, after=0)
            assert _written(paged.drain()) == _written(packed.drain())

    assert POSTINGS_PARTITIONS > 1
    asyncio.run(fold())


def _written(batch: Batch) -> tuple[object, ...]:
    return batch.strings, batch.fields, batch.rows, batch.ranks, batch.publications


GOOD = b'{"position":%d,"at_ns":0,"user_id":"u","event_type":"t"}'
HEAD = RecordHead(first=4, last=9, sequence=1)


def _effects(*lines: bytes, after: int = 0, until: int | None = None) -> list[int]:
    found = decode_effects(HEAD, b"\n".join(lines), after=after, until=until)
    return [effect.position for effect in found]


def test_effects_beyond_a_position_and_up_to_one_are_decoded() -> None:
    lines = [GOOD % position for position in (4, 5, 5, 8)]
    assert _effects(*lines) == [4, 5, 5, 8]
    assert _effects(*lines, after=4) == [5, 5, 8]
    assert _effects(*lines, after=4, until=5) == [5, 5]


@pytest.mark.parametrize("outside", [10, 3])
def test_effect_outside_its_records_positions_is_poison(outside: int) -> None:
    with pytest.raises(EventPoisoned, match="position 4"):
        _effects(GOOD % 5, GOOD % outside)


@pytest.mark.parametrize(
    ("line", "position"),
    [
        (b"junk", 5),  # the second line of the event at 5, for all that one can tell
        (b'{"position":7,"event_type":"novel"}', 7),
    ],
)
def test_effect_that_cannot_be_read_is_named(line: bytes, position: int) -> None:
    lines = [GOOD % 5, line, GOOD % 8]
    with pytest.raises(EventPoisoned) as poisoned:
        _effects(*lines)
    assert poisoned.value.position == position
    assert poisoned.value.event_type == ("novel" if b"novel" in line else "")
    assert all(at < position for at in _effects(*lines, until=position - 1))


def test_effect_that_was_folded_already_need_not_be_readable() -> None:
    assert _effects(b'{"position":5}', GOOD % 8, after=5) == [8]


def test_event_that_cannot_be_read_is_named() -> None:
    (record,) = event_records(LOG[:6], (6,))
    lines = record.value.split(b"\n")
    lines[3] = b'{"type":"novel","v":1,"at_ns":1}'
    value = b"\n".join(lines)
    with pytest.raises(EventPoisoned) as poisoned:
        decode_events(record.head, value, after=1)
    assert (poisoned.value.position, poisoned.value.event_type) == (4, "novel")
    read = decode_events(record.head, value, after=1, until=3)
    assert read == [(2, LOG[1]), (3, LOG[2])]
    assert decode_events(record.head, value, after=4) == [(5, LOG[4]), (6, LOG[5])]


def test_event_that_cannot_be_folded_is_named() -> None:
    async def fold() -> None:
        one = folder(views.MINING)
        await one.load(MemoryViews())
        await one.fold_events([(1, LOG[0]), (2, LOG[-1])])

    with pytest.raises(EventPoisoned, match="AssertionError"):
        asyncio.run(fold())


def test_user_is_read_back_when_first_touched() -> None:
    async def fold() -> None:
        store = MemoryViews()
        key = (views.TRADING_DB, views.account_key("u"))
        store.generation("1").views[key] = b"junk"
        one = EffectFolder()
        await one.load(store)
        await one.fold_record(HEAD, GOOD % 5, after=0)

    with pytest.raises(ViewBroken, match="AccountView"):
        asyncio.run(fold())
