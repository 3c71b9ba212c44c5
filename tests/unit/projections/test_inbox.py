"""What waits is handed over together, in its order; a full or closed inbox; offsets left out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from projections.errors import KafkaAway
from projections.inbox import WAITING_RECORDS_MAX, Inbox, end
from projections.partition import Record
from schemas.records import RecordHead

DEADLINE_S = 10.0


def _records(*offsets: int) -> list[Record]:
    head = RecordHead(first=1, last=1, sequence=1)
    return [Record(offset=offset, head=head, value=b"") for offset in offsets]


class Worker:
    """Receives; while `free` is cleared it is busy."""

    def __init__(self) -> None:
        self.received: list[list[int]] = []
        self.began = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()

    async def receive(self, records: Sequence[Record]) -> None:
        self.received.append([record.offset for record in records])
        self.began.set()
        await self.free.wait()


def _run(use: Callable[[Worker, Inbox, "asyncio.Task[None]"], Awaitable[None]]) -> None:
    async def run() -> None:
        worker = Worker()
        inbox = Inbox(worker.receive, next_offset=0)
        running = asyncio.create_task(inbox.run())
        async with asyncio.timeout(DEADLINE_S):
            await use(worker, inbox, running)
            await end(inbox, running)

    asyncio.run(run())


async def _busy(worker: Worker, inbox: Inbox) -> None:
    """The worker is at record 0 and does not come back."""
    worker.free.clear()
    await inbox.put(_records(0))
    await worker.began.wait()
    worker.began.clear()


def test_all_that_waits_is_handed_over_together() -> None:
    async def use(worker: Worker, inbox: Inbox, running: "asyncio.Task[None]") -> None:
        await _busy(worker, inbox)
        await inbox.put(_records(1, 2))
        await inbox.put(_records(3))
        worker.free.set()
        await worker.began.wait()
        assert worker.received == [[0], [1, 2, 3]]
        assert inbox.next_offset == 4

    _run(use)


def test_giver_waits_while_the_inbox_is_full() -> None:
    async def use(worker: Worker, inbox: Inbox, running: "asyncio.Task[None]") -> None:
        await _busy(worker, inbox)
        giving = asyncio.create_task(inbox.put(_records(*range(1, WAITING_RECORDS_MAX + 2))))
        done, _ = await asyncio.wait([giving], timeout=0.05)
        assert not done
        worker.free.set()
        assert await giving is None
        assert inbox.next_offset == WAITING_RECORDS_MAX + 2

    _run(use)


def test_closed_inbox_drops_what_waits_and_lets_its_giver_go() -> None:
    async def use(worker: Worker, inbox: Inbox, running: "asyncio.Task[None]") -> None:
        await _busy(worker, inbox)
        giving = asyncio.create_task(inbox.put(_records(*range(1, WAITING_RECORDS_MAX + 2))))
        await asyncio.wait([giving], timeout=0.01)
        ending = asyncio.create_task(end(inbox, running))
        assert await giving is None
        assert not ending.done(), "the batch under way may be finished"
        worker.free.set()
        await ending
        assert worker.received == [[0]]
        assert running.done()

    _run(use)


def test_offsets_left_out_are_asked_for_once_and_then_taken() -> None:
    async def use(worker: Worker, inbox: Inbox, running: "asyncio.Task[None]") -> None:
        assert await inbox.put(_records(0, 1, 5, 6)) == 2
        assert inbox.next_offset == 2
        assert await inbox.put(_records(2, 3)) is None
        assert await inbox.put(_records(6)) == 4
        assert await inbox.put(_records(6)) is None, "Kafka has no 4 and 5"
        assert inbox.next_offset == 7

    _run(use)


def test_records_fetched_before_a_seek_are_not_taken() -> None:
    async def use(worker: Worker, inbox: Inbox, running: "asyncio.Task[None]") -> None:
        await _busy(worker, inbox)
        await inbox.put(_records(1, 2))
        assert await inbox.put(_records(0, 1, 2, 3)) == 3
        assert await inbox.put(_records(3, 4)) is None
        worker.free.set()
        await worker.began.wait()
        assert worker.received == [[0], [1, 2, 3, 4]]

    _run(use)


def test_offsets_that_went_back_are_those_of_another_topic() -> None:
    async def use(worker: Worker, inbox: Inbox, running: "asyncio.Task[None]") -> None:
        await inbox.put(_records(0, 1, 2))
        assert await inbox.put(_records(0, 1)) == 3
        with pytest.raises(KafkaAway, match="made anew"):
            await inbox.put(_records(0, 1))

    _run(use)


def test_fault_ends_and_closes_the_inbox() -> None:
    async def fail(records: Sequence[Record]) -> None:
        raise ValueError("no")

    async def run() -> None:
        inbox = Inbox(fail, next_offset=0)
        running = asyncio.create_task(inbox.run())
        await inbox.put(_records(0))
        with pytest.raises(ValueError, match="no"):
            await running
        assert await inbox.put(_records(*range(1, WAITING_RECORDS_MAX + 9))) is None

    asyncio.run(run())


def test_topic_made_anew_is_seen_by_a_partition_that_is_stopped() -> None:
    async def use(worker: Worker, inbox: Inbox, running: "asyncio.Task[None]") -> None:
        await inbox.put(_records(0, 1, 2))
        inbox.close()
        assert await inbox.put(_records(3, 4)) is None
        with pytest.raises(KafkaAway, match="made anew"):
            await inbox.put(_records(0))

    _run(use)


def test_batch_that_never_ends_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projections.inbox.CLOSE_SECONDS", 0.01)

    async def use(worker: Worker, inbox: Inbox, running: "asyncio.Task[None]") -> None:
        await _busy(worker, inbox)
        await end(inbox, running)
        assert running.cancelled()

    _run(use)
