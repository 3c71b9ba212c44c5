"""The deep history in PostgreSQL and its twin: the same rows after the same records."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import psycopg
import pytest
from psycopg import errors

from projections.errors import ViewsRolledBack, ViewsUnavailable
from projections.history.fold import HistoryBatch
from projections.history.folder import STATE_PLACE, WEIGHTS_PLACE, HistoryFolder
from projections.history.memory import MemoryHistory, fresh_history
from projections.history.months import month_of
from projections.history.schema import GENERATIONS_TABLE
from projections.history.store import HistoryStore
from projections.partition import PartitionWorker, Record
from projections.ports import Checkpoint, Moved, Overtaken, ViewStore
from schemas.deep_history import IndexMark, Transaction, WeightChange
from tests.fixtures.history import HistoryDatabase, expected_lines, stored_lines
from tests.fixtures.ledger_logs import event_records, positioned, random_log

pytestmark = pytest.mark.services
Result = TypeVar("Result")
LOG = random_log(5, seconds=400, trades=60)
ROWS = expected_lines(fresh_history(positioned(LOG)))
FIRST = Checkpoint(position=5, sequence=1, offset=0, epoch="e1")
SECOND = Checkpoint(position=9, sequence=2, offset=1, epoch="e1")
Store = ViewStore[HistoryBatch]


class Bench:
    """A store under test; each call runs alone in its own event loop, connections included."""

    def __init__(
        self, open_store: Callable[[str | None], Store], lines: Callable[[], dict[str, list[str]]]
    ) -> None:
        self._open = open_store
        self.lines = lines

    def run(
        self, use: Callable[[Store], Awaitable[Result]], generation: str | None = None
    ) -> Result:
        async def once() -> Result:
            store = self._open(generation)
            try:
                return await use(store)
            finally:
                if isinstance(store, HistoryStore):
                    await store.close()

        return asyncio.run(once())

    def receive(self, *batches: Sequence[Record], epoch: str = "e1") -> None:
        """Records through a new worker, each batch at once."""

        async def use(store: Store) -> None:
            worker = worker_of(store, epoch)
            for records in batches:
                await worker.receive(records)

        self.run(use)

    def commit(self, batch: HistoryBatch, expected: Checkpoint, reached: Checkpoint) -> object:
        return self.run(lambda store: store.commit(0, batch, expected=expected, reached=reached))

    def checkpoint(self) -> Checkpoint:
        return self.run(lambda store: store.checkpoint(0))


def worker_of(store: Store, epoch: str = "e1") -> PartitionWorker[HistoryBatch]:
    return PartitionWorker(
        partition=0, folder=HistoryFolder(), store=store, new_epoch=lambda: epoch
    )


def pinned(store: MemoryHistory, generation: str | None) -> Store:
    return store if generation is None else store.pinned(generation)


@pytest.fixture(params=["memory", "postgres"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "memory":
        twin = MemoryHistory()
        yield Bench(lambda one: pinned(twin, one), lambda: expected_lines(twin.rows))
        return
    database: HistoryDatabase = request.getfixturevalue("history_database")
    yield Bench(
        lambda one: HistoryStore(database.writer_url, generation=one),
        lambda: stored_lines(database.reader_url),
    )


def row(position: int, user_id: str = "u", at_ns: int = 0) -> HistoryBatch:
    batch = HistoryBatch()
    batch.transactions.append(Transaction(position, at_ns, user_id, "t", "DUR", 1, 0))
    batch.state = b"{}"
    return batch


# -- store ------------------------------------------------------------------------------------


def test_empty_history_has_the_empty_checkpoint(bench: Bench) -> None:
    assert bench.checkpoint() == Checkpoint()
    assert bench.run(lambda store: store.reader("1").strings(0, [STATE_PLACE[1]])) == [None]
    assert bench.run(lambda store: store.reader("1").fields(WEIGHTS_PLACE, ["a"])) == [None]


def test_rows_and_checkpoint_are_written_together(bench: Bench) -> None:
    assert bench.commit(row(5), Checkpoint(), FIRST) is None
    assert bench.checkpoint() == FIRST
    assert bench.lines() == expected_lines(row(5))
    assert bench.run(lambda store: store.reader("1").strings(0, [STATE_PLACE[1]])) == [b"{}"]


@pytest.mark.parametrize(
    "expected",
    [Checkpoint(), SECOND, Checkpoint(position=5, sequence=1, offset=0, epoch="other")],
    ids=["empty", "ahead", "other epoch"],
)
def test_refused_commit_writes_nothing_and_says_what_is_there(
    bench: Bench, expected: Checkpoint
) -> None:
    bench.commit(row(5), Checkpoint(), FIRST)
    assert bench.commit(row(9), expected, SECOND) == Overtaken(FIRST)
    assert bench.checkpoint() == FIRST
    assert bench.lines() == expected_lines(row(5))


def test_newest_weight_change_of_each_user_is_read_back(bench: Bench) -> None:
    batch = HistoryBatch()
    huge = 1 << 100
    batch.weights += [
        WeightChange(1, 60, "a", 5, huge, 1, 0),
        WeightChange(2, 60, "a", 6, huge, 2, 0),
        WeightChange(3, 60, 'b\\"', 7, huge, 3, huge),
    ]
    bench.commit(batch, Checkpoint(), FIRST)
    read = bench.run(lambda store: store.reader("1").fields(WEIGHTS_PLACE, ["none", 'b\\"', "a"]))
    assert read[0] is None
    assert [one and b'"weight":7' in one for one in read] == [None, True, False]
    assert read[2] is not None and b'"weight":6' in read[2] and str(huge).encode() in read[2]


def test_text_that_copy_would_misread_survives(bench: Bench) -> None:
    user_id = "a\\N\tb\\.\nc\rd"
    bench.commit(row(5, user_id), Checkpoint(), FIRST)
    assert bench.lines() == expected_lines(row(5, user_id))


def test_rows_of_many_months_find_their_tables(bench: Bench) -> None:
    batch, second = HistoryBatch(), 1_700_000_000
    for month in range(15):
        batch.marks.append(IndexMark(month + 1, second + month * 31 * 86_400, 1 << 90, 7))
        batch.transactions += row(month + 1, at_ns=month * 31 * 86_400 * 10**9).transactions
    assert bench.commit(batch, Checkpoint(), FIRST) is None
    assert bench.lines() == expected_lines(batch)


def test_pinned_store_says_where_its_generation_is(bench: Bench) -> None:
    bench.commit(row(5), Checkpoint(), FIRST)
    assert bench.run(lambda store: store.checkpoint(0), "1") == FIRST


# -- worker -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(500,), (50,), (1, 7, 120)])
def test_records_become_the_rows_of_a_fresh_fold(bench: Bench, sizes: tuple[int, ...]) -> None:
    bench.receive(event_records(LOG, sizes))
    assert bench.lines() == ROWS
    assert bench.checkpoint().position == len(LOG)


def test_restart_after_every_batch_and_redelivery_change_nothing(bench: Bench) -> None:
    records = event_records(LOG, (50,))
    for at in range(len(records)):
        bench.receive(records[max(0, at - 2) : at + 1])
    bench.receive(records)
    assert bench.lines() == ROWS


def test_other_packing_of_the_same_log_changes_nothing(bench: Bench) -> None:
    bench.receive(event_records(LOG, (50,))[:3])
    bench.receive(event_records(LOG, (37,)))
    assert bench.lines() == ROWS


def test_worker_that_is_overtaken_reloads_and_goes_on(bench: Bench) -> None:
    records = event_records(LOG, (50,))

    async def race(store: Store) -> None:
        slow, quick = worker_of(store, "slow"), worker_of(store, "quick")
        await slow.receive(records[:2])
        await quick.receive(records[:4])
        await slow.receive(records[2:])

    bench.run(race)
    assert bench.lines() == ROWS
    assert bench.checkpoint().epoch == "slow"


# -- PostgreSQL -------------------------------------------------------------------------------


def test_two_workers_at_once_count_nothing_twice(history_database: HistoryDatabase) -> None:
    records = event_records(LOG, (20,))

    async def race() -> None:
        stores = [HistoryStore(history_database.writer_url) for _ in range(3)]

        async def work(store: Store) -> None:
            worker = worker_of(store)
            for record in records:
                await worker.receive([record])

        await asyncio.gather(*map(work, stores))
        for store in stores:
            await store.close()

    asyncio.run(race())
    assert stored_lines(history_database.reader_url) == ROWS


def test_workers_that_share_a_store_keep_out_of_each_others_transactions(
    history_database: HistoryDatabase,
) -> None:
    records = event_records(LOG, (20,))

    async def race() -> None:
        store = HistoryStore(history_database.writer_url)

        async def work() -> None:
            worker = worker_of(store)
            for record in records:
                await worker.receive([record])

        await asyncio.gather(work(), work(), *(store.checkpoint(0) for _ in range(50)))
        await store.close()

    asyncio.run(race())
    assert stored_lines(history_database.reader_url) == ROWS


def test_history_that_went_back_ends_the_worker(history_database: HistoryDatabase) -> None:
    records = event_records(LOG, (50,))

    async def run() -> None:
        store = HistoryStore(history_database.writer_url)
        worker = worker_of(store)
        await worker.receive(records[:4])
        with psycopg.connect(history_database.owner_url) as owner:
            owner.execute("DELETE FROM history_1.mining_transactions WHERE position > 100")
            owner.execute(f"UPDATE {GENERATIONS_TABLE} SET position = 100, epoch = 'e1'".encode())
        try:
            with pytest.raises(ViewsRolledBack):
                await worker.receive(records[4:])
        finally:
            await store.close()

    asyncio.run(run())


def test_worker_of_an_older_generation_is_told_and_follows(
    history_database: HistoryDatabase,
) -> None:
    records = event_records(LOG, (50,))

    async def run() -> None:
        store = HistoryStore(history_database.writer_url)
        worker = worker_of(store)
        await worker.receive(records[:4])
        with psycopg.connect(history_database.owner_url) as owner:
            owner.execute("INSERT INTO history_generations (name, state) VALUES ('2', 'building')")
            owner.execute("SELECT durian_make_history('2')")
        beside = HistoryStore(history_database.writer_url, generation="2")
        await worker_of(beside, "e2").receive(records[:6])
        with psycopg.connect(history_database.owner_url) as owner:
            owner.execute("SELECT durian_show_history('2')")
        assert await store.commit(
            0, row(999), expected=Checkpoint(generation="1"), reached=FIRST
        ) == Moved("2")
        await worker.receive(records[4:])
        await store.close()
        await beside.close()

    asyncio.run(run())
    assert stored_lines(history_database.reader_url) == ROWS
    assert stored_lines(history_database.reader_url, "1") != ROWS


def test_server_that_is_away_is_a_fault_of_the_views() -> None:
    async def ask() -> None:
        store = HistoryStore("postgresql://nobody:x@127.0.0.1:1/none")
        with pytest.raises(ViewsUnavailable):
            await store.checkpoint(0)
        await store.close()

    asyncio.run(ask())


def test_months_begin_at_midnight_of_utc() -> None:
    assert month_of(1_700_000_000) == 1_698_796_800  # 2023-11-01
    assert month_of(1_698_796_800) == 1_698_796_800
    assert month_of(1_698_796_799) == 1_696_118_400  # 2023-10-01


# -- rights -----------------------------------------------------------------------------------

TABLES = ("mining_transactions", "burn_records", "minute_klines", "weight_changes", "index_marks")
FORBIDDEN_TO_THE_WRITER = (
    *(f"DELETE FROM history_1.{table}" for table in TABLES),
    *(f"UPDATE history_1.{table} SET position = 1" for table in TABLES),
    *(f"TRUNCATE history_1.{table}" for table in TABLES),
    "DELETE FROM history_1.mining_transactions_2023_11",
    "CREATE TABLE mine (x int)",
    "CREATE TABLE history_1.mine (x int)",
    "DROP SCHEMA history_1",
    "UPDATE history_generations SET state = 'previous'",
    "INSERT INTO history_generations (name, state) VALUES ('9', 'building')",
    "DELETE FROM history_generations",
    "SELECT durian_make_history('9')",
    "SELECT durian_show_history('1')",
)
FORBIDDEN_TO_THE_READER = (
    "INSERT INTO history_1.index_marks VALUES (1, 1, 1, 1)",
    "UPDATE history_generations SET position = 9",
    "SELECT durian_extend_history('1', 0)",
)


def test_writer_appends_and_reader_reads_and_nothing_else(
    history_database: HistoryDatabase,
) -> None:
    with psycopg.connect(history_database.writer_url) as writer:
        writer.execute("SELECT durian_extend_history('1', 1700000000)")
    for url, forbidden in (
        (history_database.writer_url, FORBIDDEN_TO_THE_WRITER),
        (history_database.reader_url, FORBIDDEN_TO_THE_READER),
    ):
        for statement in forbidden:
            with (
                psycopg.connect(url) as connection,
                pytest.raises(errors.InsufficientPrivilege),
            ):
                connection.execute(statement.encode())


def test_months_are_made_for_known_generations_only(history_database: HistoryDatabase) -> None:
    with (
        psycopg.connect(history_database.writer_url) as writer,
        pytest.raises(errors.UndefinedObject, match="no generation"),
    ):
        writer.execute("SELECT durian_extend_history('7', 0)")
