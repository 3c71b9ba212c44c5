"""Which records a worker folds, drops and refuses; what it does when its commit is refused."""

import asyncio

import msgspec
import pytest

from projections.batch import Batch
from projections.errors import EventPoisoned, RecordsMissing, ViewsRolledBack
from projections.folders import folder
from projections.fresh import FreshFold
from projections.memory import MemoryViews
from projections.partition import (
    BATCH_RECORDS_MAX,
    Committed,
    Observer,
    PartitionWorker,
    Record,
)
from projections.ports import Checkpoint, Held, Refused
from schemas import views
from schemas.codecs import encode_event
from schemas.events import MiningAllocated
from schemas.records import RecordHead
from tests.fixtures.ledger_logs import event_records, positioned, random_log

LOG = random_log(5, seconds=300, trades=30)


def _worker(store: MemoryViews, epoch: str = "e1") -> PartitionWorker[Batch]:
    return PartitionWorker(
        partition=0, folder=folder(views.MARKET), store=store, new_epoch=lambda: epoch
    )


def _receive(worker: PartitionWorker[Batch], records: list[Record]) -> None:
    async def receive_all() -> None:
        for record in records:
            await worker.receive([record])

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
    with pytest.raises(EventPoisoned):
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
        await asyncio.gather(*(worker.receive(records[:1]) for worker in (first, second)))

    asyncio.run(race())
    _receive(second, records)
    assert store.views == _expected().views


@pytest.mark.parametrize("kept", [0, 2])
def test_store_that_went_back_ends_the_worker(kept: int) -> None:
    store, records = MemoryViews(), event_records(LOG, (50,))
    worker, older = _worker(store), MemoryViews()
    _receive(_worker(older), records[:kept])
    _receive(worker, records[:4])
    store.generations = older.generations
    with pytest.raises(ViewsRolledBack):
        _receive(worker, records[4:])
    _receive(_worker(store), records)
    assert store.views == _expected().views


def test_store_of_another_epoch_ends_the_worker() -> None:
    store, records = MemoryViews(), event_records(LOG, (50,))
    worker, other = _worker(store), MemoryViews()
    _receive(_worker(other, "other"), records[:4])
    _receive(worker, records[:4])
    store.generations = other.generations
    with pytest.raises(ViewsRolledBack):
        _receive(worker, records[4:])


class Heard(Observer):
    """What a worker told, in its order."""

    def __init__(self) -> None:
        self.commits: list[Committed] = []
        self.refusals: list[Refused] = []
        self.was_refused = asyncio.Event()

    def committed(self, partition: int, committed: Committed) -> None:
        self.commits.append(committed)

    def refused(self, partition: int, refused: Refused) -> None:
        self.refusals.append(refused)
        self.was_refused.set()


def _observed(store: MemoryViews, heard: Observer) -> PartitionWorker[Batch]:
    return PartitionWorker(
        partition=0,
        folder=folder(views.MARKET),
        store=store,
        new_epoch=lambda: "e1",
        observer=heard,
    )


def test_records_that_wait_are_committed_together() -> None:
    store, heard = MemoryViews(), Heard()
    worker, records = _observed(store, heard), event_records(LOG, (50,))
    asyncio.run(worker.receive(records))
    (committed,) = heard.commits
    assert (committed.records, committed.events) == (len(records), len(LOG))
    assert committed.at_ns == LOG[-1].at_ns
    assert committed.checkpoint == store.checkpoints[0]
    assert store.views == _expected().views


def test_batch_of_waiting_records_has_a_limit() -> None:
    store, heard = MemoryViews(), Heard()
    records = event_records(LOG, (1,))
    asyncio.run(_observed(store, heard).receive(records))
    sizes = [committed.records for committed in heard.commits]
    assert sum(sizes) == len(records)
    assert max(sizes) == sizes[0] == BATCH_RECORDS_MAX
    assert store.views == _expected().views


def test_hole_between_waiting_records_stops_behind_the_first() -> None:
    store, records = MemoryViews(), event_records(LOG, (50,))
    with pytest.raises(RecordsMissing):
        asyncio.run(_worker(store).receive([*records[:2], *records[3:]]))
    assert store.checkpoints[0].position == 100


def test_worker_goes_on_in_the_generation_that_readers_see_now() -> None:
    store, records = MemoryViews(), event_records(LOG, (50,))
    worker = _worker(store, "live")
    built = PartitionWorker(
        partition=0,
        folder=folder(views.MARKET, quiet=True),
        store=store.pinned("2"),
        new_epoch=lambda: "built",
    )
    _receive(worker, records[:3])
    _receive(built, records[:5])
    store.live = "2"
    _receive(worker, records[3:])
    assert store.views == _expected().views
    assert store.checkpoints[0].epoch == "built"
    assert store.checkpoints[0].position == len(LOG)
    assert store.generation("1").checkpoints[0].position == 150


def test_worker_waits_while_a_rebuild_holds_the_store() -> None:
    store, heard = MemoryViews(), Heard()
    store.held = True
    worker, records = _observed(store, heard), event_records(LOG, (50,))

    async def fold() -> None:
        receiving = asyncio.create_task(worker.receive(records))
        await heard.was_refused.wait()
        assert store.views == {}
        store.held = False
        await receiving

    asyncio.run(fold())
    assert set(heard.refusals) == {Held()}
    assert store.views == _expected().views


def _poison(records: list[Record], position: int, line: bytes) -> list[Record]:
    """The same records with another line at `position`."""
    found = []
    for record in records:
        lines = record.value.split(b"\n")
        if record.head.first <= position <= record.head.last:
            lines[position - record.head.first] = line
        found.append(msgspec.structs.replace(record, value=b"\n".join(lines)))
    return found


WRONG_SECOND = encode_event(
    msgspec.structs.replace(next(e for e in LOG if isinstance(e, MiningAllocated)), second=7)
)


@pytest.mark.parametrize("position", [1, 2, 50, 51, 137, len(LOG)])
@pytest.mark.parametrize("line", [b"junk", WRONG_SECOND], ids=["unreadable", "unfoldable"])
def test_poison_leaves_the_views_at_the_position_before_it(position: int, line: bytes) -> None:
    projection = views.MINING
    store, records = MemoryViews(), event_records(LOG, (50,))
    worker = PartitionWorker(
        partition=0, folder=folder(projection), store=store, new_epoch=lambda: "e1"
    )
    for _ in range(2):
        with pytest.raises(EventPoisoned) as poisoned:
            asyncio.run(worker.receive(_poison(records, position, line)))
        assert poisoned.value.position == position
    before = FreshFold(projection).fold_all(list(positioned(LOG))[: position - 1])
    assert store.views == before.views
    checkpoint = store.checkpoints.get(0, Checkpoint())
    assert checkpoint.position == position - 1
    wholly = [record.offset for record in records if record.head.last < position]
    assert checkpoint.offset == (wholly[-1] if wholly else -1)


def test_views_stopped_by_poison_go_on_with_a_program_that_can_read_it() -> None:
    store, records = MemoryViews(), event_records(LOG, (50,))
    with pytest.raises(EventPoisoned):
        asyncio.run(_worker(store).receive(_poison(records, 137, b"junk")))
    asyncio.run(_worker(store).receive(records[2:]))
    assert store.views == _expected().views
    assert store.checkpoints[0].position == len(LOG)
