"""Which records a worker folds, drops and refuses; what it does when its commit is refused."""

import asyncio

import msgspec
import pytest

from projections.errors import RecordBroken, RecordsMissing, ViewsRolledBack
from projections.folders import folder
from projections.fresh import FreshFold
from projections.memory import MemoryViews
from projections.partition import PartitionWorker, Record
from schemas import views
from schemas.records import RecordHead
from tests.fixtures.ledger_logs import event_records, positioned, random_log

LOG = random_log(5, seconds=300, trades=30)


def _worker(store: MemoryViews, epoch: str = "e1") -> PartitionWorker:
    return PartitionWorker(
        partition=0, folder=folder(views.MARKET), store=store, new_epoch=lambda: epoch
    )


def _receive(worker: PartitionWorker, records: list[Record]) -> None:
    async def receive_all() -> None:
        for record in records:
            await worker.receive(record)

    asyncio.run(receive_all())


def _expected() -> MemoryViews:
    return FreshFold(views.MARKET).fold_all(positioned(LOG))


def test_redelivered_records_change_nothing() -> None:
    store, records = MemoryViews(), event_records(LOG, (50,))
    _receive(_worker(store), [records[0], *records[:4], *records[1:], records[-1]])
    assert store.views == _expected().views
    assert store.checkpoints[0].position == len(LOG)


def test_overlapping_positions_are_folded_once() -> None:
    store, records = MemoryViews(), event_records(LOG, (50,))
    wide = event_records(LOG, (120,))[0]  # positions 1 to 120 again, under the next sequence
    head = RecordHead(first=1, last=120, sequence=3)
    overlapping = msgspec.structs.replace(wide, head=head, offset=2)
    rest = event_records(LOG, (120,))[1:]
    moved = [
        msgspec.structs.replace(
            record, head=msgspec.structs.replace(record.head, sequence=record.head.sequence + 2)
        )
        for record in rest
    ]
    _receive(_worker(store), [*records[:2], overlapping, *moved])
    assert store.views == _expected().views


def test_other_packing_and_numbering_of_the_same_log_changes_nothing() -> None:
    """Topics that were lost and filled again by the relay: other records, sequences from 1."""
    store = MemoryViews()
    _receive(_worker(store), event_records(LOG, (50,))[:3])
    _receive(_worker(store), event_records(LOG, (37,)))
    assert store.views == _expected().views
    assert store.checkpoints[0].position == len(LOG)


def test_hole_in_the_positions_raises() -> None:
    records = event_records(LOG, (50,))
    head = RecordHead(first=101, last=150, sequence=2)
    with pytest.raises(RecordsMissing, match="position 51 is missing"):
        _receive(
            _worker(MemoryViews()), [records[0], msgspec.structs.replace(records[2], head=head)]
        )


@pytest.mark.parametrize("value", [b"", b"{}", b"junk\njunk"])
def test_record_that_cannot_be_read_raises(value: bytes) -> None:
    record = Record(offset=0, head=RecordHead(first=1, last=2, sequence=1), value=value)
    with pytest.raises(RecordBroken):
        _receive(_worker(MemoryViews()), [record])


def test_worker_that_is_overtaken_reloads_and_goes_on() -> None:
    store, records = MemoryViews(), event_records(LOG, (50,))
    slow, quick = _worker(store, "slow"), _worker(store, "quick")
    _receive(slow, records[:2])
    _receive(quick, records[:4])
    _receive(slow, records[2:])
    assert store.views == _expected().views
    assert store.checkpoints[0].epoch == "slow"


def test_two_workers_that_start_together_agree_on_one_epoch() -> None:
    store, records = MemoryViews(), event_records(LOG, (50,))
    first, second = _worker(store, "first"), _worker(store, "second")

    async def race() -> None:
        await asyncio.gather(*(worker.receive(records[0]) for worker in (first, second)))

    asyncio.run(race())
    _receive(second, records)
    assert store.views == _expected().views


@pytest.mark.parametrize("kept", [0, 2])
def test_store_that_went_back_ends_the_worker(kept: int) -> None:
    store, records = MemoryViews(), event_records(LOG, (50,))
    worker, older = _worker(store), MemoryViews()
    _receive(_worker(older), records[:kept])
    _receive(worker, records[:4])
    store.views, store.checkpoints = older.views, older.checkpoints
    with pytest.raises(ViewsRolledBack):
        _receive(worker, records[4:])
    _receive(_worker(store), records)
    assert store.views == _expected().views


def test_store_of_another_epoch_ends_the_worker() -> None:
    store, records = MemoryViews(), event_records(LOG, (50,))
    worker, other = _worker(store), MemoryViews()
    _receive(_worker(other, "other"), records[:4])
    _receive(worker, records[:4])
    store.views, store.checkpoints = other.views, other.checkpoints
    with pytest.raises(ViewsRolledBack):
        _receive(worker, records[4:])
