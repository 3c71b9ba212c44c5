"""Generations of the deep history: built beside, compared, switched while a projector goes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from hashlib import sha256

import psycopg
import pytest

from projections.errors import RebuildRefused, RebuildUnderWay
from projections.generations import Comparison
from projections.history.copying import TABLES
from projections.history.fold import HistoryBatch
from projections.history.folder import HistoryFolder
from projections.history.generations import HistoryGenerations, Switch
from projections.history.memory import fresh_history
from projections.history.schema import schema_of
from projections.history.store import HistoryStore
from projections.partition import PartitionWorker
from projections.ports import Checkpoint
from tests.fixtures.history import HistoryDatabase, expected_lines, stored_lines
from tests.fixtures.ledger_logs import event_records, positioned, random_log

pytestmark = pytest.mark.services
DEADLINE_SECONDS = 20.0
LOG = random_log(9, seconds=400, trades=60)
POSITIONED = list(positioned(LOG))
RECORDS = event_records(LOG, (25,))
ROWS = expected_lines(fresh_history(positioned(LOG)))


def worker_of(store: HistoryStore) -> PartitionWorker[HistoryBatch]:
    return PartitionWorker(
        partition=0, folder=HistoryFolder(), store=store, new_epoch=lambda: "live"
    )


class Builder:
    """Folds the log into one generation up to a position, as a rebuild does."""

    def __init__(self, store: HistoryStore, generation: str) -> None:
        self._store = store
        self._generation = generation
        self.calls = 0

    async def __call__(self, positions: Sequence[int]) -> None:
        self.calls += 1
        (position,) = positions
        expected = await self._store.checkpoint(0)
        folder = HistoryFolder()
        await folder.load(self._store.reader(self._generation))
        await folder.fold_events(POSITIONED[expected.position : position])
        reached = Checkpoint(position=position, epoch="new", generation=self._generation)
        refused = await self._store.commit(0, folder.drain(), expected=expected, reached=reached)
        assert refused is None, refused


class Bench:
    """A history whose live generation a projector filled up to some record."""

    def __init__(self, database: HistoryDatabase) -> None:
        self.database = database
        self.store = HistoryStore(database.writer_url)
        self.worker = worker_of(self.store)
        self.generations = HistoryGenerations(database.owner_url)

    async def build(self) -> tuple[str, Builder]:
        name = await self.generations.begin()
        return name, Builder(self.generations.store(name), name)

    async def rebuild(self, switch: Switch) -> Comparison:
        name, builder = await self.build()
        return await self.generations.compare(name, builder, switch=switch)

    async def states(self) -> dict[str, str]:
        return {one.name: one.state for one in await self.generations.generations()}

    def change(self, statement: str) -> None:
        with psycopg.connect(self.database.owner_url) as owner:
            owner.execute(statement.encode())

    async def close(self) -> None:
        await self.store.close()
        await self.generations.close()


def run(database: HistoryDatabase, story: Callable[[Bench], Awaitable[None]]) -> None:
    async def told() -> None:
        bench = Bench(database)
        try:
            await story(bench)
        finally:
            await bench.close()

    asyncio.run(told())


def test_digest_is_the_sum_of_the_rows_hashes(history_database: HistoryDatabase) -> None:
    async def story(bench: Bench) -> None:
        await bench.worker.receive(RECORDS)
        made = await bench.rebuild("never")
        total = entries = 0
        with psycopg.connect(bench.database.owner_url) as owner:
            for name, table in TABLES.items():
                rows = f"SELECT {table.columns} FROM {schema_of('1')}.{name}"
                for (text,) in owner.execute(f"SELECT r::text FROM ({rows}) AS r".encode()):
                    total += int.from_bytes(sha256(f"{name}\t{text}".encode()).digest())
                    entries += 1
        assert made.entries == entries
        assert made.old_digest == made.new_digest == f"{total % (1 << 256):064x}"

    run(history_database, story)


def test_new_history_has_one_generation_that_is_live(history_database: HistoryDatabase) -> None:
    async def story(bench: Bench) -> None:
        (only,) = await bench.generations.generations()
        assert (only.name, only.state, only.checkpoints) == ("1", "live", (Checkpoint(),))

    run(history_database, story)


def test_rebuild_that_is_equal_is_switched_to(history_database: HistoryDatabase) -> None:
    async def story(bench: Bench) -> None:
        await bench.worker.receive(RECORDS[:10])
        compared = await bench.rebuild("if_equal")
        assert (compared.switched, compared.differing) == (True, 0)
        assert compared.old_digest == compared.new_digest
        assert compared.positions == (250,) and compared.entries > 100
        assert 0 < compared.held_ms < 1_000
        assert await bench.states() == {"1": "previous", "2": "live"}
        # The new checkpoint is where the old one was in Kafka.
        now, before = await bench.store.checkpoint(0), RECORDS[9]
        assert (now.generation, now.offset, now.sequence) == ("2", 9, before.head.sequence)
        await bench.worker.receive(RECORDS[10:])

    run(history_database, story)
    assert stored_lines(history_database.reader_url) == ROWS
    assert stored_lines(history_database.reader_url, "2") == ROWS
    assert stored_lines(history_database.reader_url, "1") != ROWS


def test_comparing_alone_changes_nothing(history_database: HistoryDatabase) -> None:
    async def story(bench: Bench) -> None:
        await bench.worker.receive(RECORDS[:10])
        compared = await bench.rebuild("never")
        assert (compared.switched, compared.differing) == (False, 0)
        assert await bench.states() == {"1": "live", "2": "building"}

    run(history_database, story)


PLANTED = {
    "changed": (
        "UPDATE history_1.mining_transactions SET available_minor = available_minor + 1"
        " WHERE position = (SELECT max(position) FROM history_1.mining_transactions"
        " WHERE type = 'funds_deposited')",
        "mining_transactions",
        2,
    ),
    "gone": ("DELETE FROM history_1.index_marks WHERE open_second % 180 = 0", "index_marks", 1),
    "added": (
        "INSERT INTO history_1.weight_changes VALUES (7, 1700000000, 'x', 1, 1, 1, 1)",
        "weight_changes",
        1,
    ),
    "twice": (
        "INSERT INTO history_1.mining_transactions SELECT * FROM history_1.mining_transactions"
        " WHERE type = 'order_placed' ORDER BY position LIMIT 1",
        "mining_transactions",
        1,
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_corruption_is_found_and_not_switched(
    history_database: HistoryDatabase, kind: str
) -> None:
    statement, table, rows = PLANTED[kind]

    async def story(bench: Bench) -> None:
        await bench.worker.receive(RECORDS)
        bench.change(statement)
        compared = await bench.rebuild("if_equal")
        assert not compared.switched and compared.old_digest != compared.new_digest
        assert compared.differing >= rows and {one.key for one in compared.differences} == {table}
        assert len(compared.differences) == (1 if kind == "changed" else compared.differing)
        if kind == "changed":
            (one,) = compared.differences
            assert one.expected and one.found and one.expected != one.found
        assert await bench.states() == {"1": "live", "2": "building"}
        repaired = await bench.rebuild("always")
        assert repaired.switched

    run(history_database, story)
    assert stored_lines(history_database.reader_url) == ROWS


def test_switch_while_the_projector_goes_on_loses_and_doubles_nothing(
    history_database: HistoryDatabase,
) -> None:
    async def story(bench: Bench) -> None:
        await bench.worker.receive(RECORDS[:4])
        switched: list[Comparison] = []

        async def project() -> None:
            for record in RECORDS[4:]:
                await bench.worker.receive([record])
                await asyncio.sleep(0)

        async def rebuild() -> None:
            for _ in range(3):
                switched.append(await bench.rebuild("if_equal"))

        await asyncio.gather(project(), rebuild())
        assert [one.switched for one in switched] == [True, True, True]
        assert await bench.states() == {"2": "dropped", "3": "previous", "4": "live"}

    run(history_database, story)
    assert stored_lines(history_database.reader_url) == ROWS


def test_readers_see_one_generation_or_the_other(history_database: HistoryDatabase) -> None:
    async def story(bench: Bench) -> None:
        await bench.worker.receive(RECORDS)
        stop, reads = asyncio.Event(), 0

        async def read() -> None:
            nonlocal reads
            async with await psycopg.AsyncConnection.connect(
                history_database.reader_url, autocommit=True
            ) as connection:
                while not stop.is_set():
                    cursor = await connection.execute("SELECT count(*) FROM mining_transactions")
                    assert await cursor.fetchone() == (len(ROWS["mining_transactions"]),)
                    reads += 1

        async def rebuild() -> None:
            try:
                for _ in range(3):
                    assert (await bench.rebuild("if_equal")).switched
            finally:
                stop.set()

        await asyncio.gather(read(), rebuild())
        assert reads > 10

    run(history_database, story)


def test_rollback_catches_up_and_goes_back(history_database: HistoryDatabase) -> None:
    async def story(bench: Bench) -> None:
        await bench.worker.receive(RECORDS[:4])
        await bench.rebuild("if_equal")
        await bench.worker.receive(RECORDS[4:8])
        builder = Builder(bench.generations.store("1"), "1")
        compared = await bench.generations.compare("1", builder, switch="always")
        assert compared.switched and compared.positions == (200,) and not compared.differing
        assert await bench.states() == {"1": "live", "2": "previous"}
        await bench.worker.receive(RECORDS[8:])

    run(history_database, story)
    assert stored_lines(history_database.reader_url, "1") == ROWS


def test_emptied_history_is_replaced_by_what_was_built(history_database: HistoryDatabase) -> None:
    async def story(bench: Bench) -> None:
        name, builder = await bench.build()
        await builder([len(LOG)])
        compared = await bench.generations.compare(name, builder, switch="if_equal")
        assert compared.switched and not compared.is_compared and compared.entries == 0
        assert (compared.old_digest, len(compared.new_digest)) == ("", 64)
        assert compared.positions == (len(LOG),)

    run(history_database, story)
    assert stored_lines(history_database.reader_url) == ROWS


def test_records_and_sizes_of_generations_are_told(history_database: HistoryDatabase) -> None:
    async def story(bench: Bench) -> None:
        await bench.worker.receive(RECORDS)
        name = await bench.generations.begin("log")
        bench.change("ANALYZE")
        live, built = await bench.generations.generations()
        assert built.record.source == "log" and built.record.started_at and live.record.switched_at
        size = await bench.generations.size("1")
        assert size.entries == sum(map(len, ROWS.values())) and size.bytes > 50_000
        assert (await bench.generations.size(name)).entries == 0

    run(history_database, story)


def test_unfinished_generation_is_resumed(history_database: HistoryDatabase) -> None:
    async def story(bench: Bench) -> None:
        name, builder = await bench.build()
        await builder([100])
        await bench.generations.close()
        assert await bench.generations.begin() == name
        assert (await bench.generations.store(name).checkpoint(0)).position == 100

    run(history_database, story)


def test_one_rebuilder_at_a_time(history_database: HistoryDatabase) -> None:
    async def story(bench: Bench) -> None:
        await bench.generations.begin()
        async with opened(history_database) as other:
            with pytest.raises(RebuildUnderWay, match="server process"):
                await other.begin()
            await bench.generations.close()  # as when its process dies
            assert await begin_soon(other) == "2"

    run(history_database, story)


async def begin_soon(generations: HistoryGenerations) -> str:
    """The server takes a moment to end the session of whoever went away."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            with contextlib.suppress(RebuildUnderWay):
                return await generations.begin()
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def opened(database: HistoryDatabase) -> AsyncIterator[HistoryGenerations]:
    generations = HistoryGenerations(database.owner_url)
    try:
        yield generations
    finally:
        await generations.close()


def test_live_generation_is_neither_dropped_nor_compared_with_itself(
    history_database: HistoryDatabase,
) -> None:
    async def story(bench: Bench) -> None:
        name, builder = await bench.build()
        for refused in ("1", "77"):
            with pytest.raises(RebuildRefused):
                await bench.generations.drop(refused)
            with pytest.raises(RebuildRefused):
                await bench.generations.compare(refused, builder, switch="never")
        await builder([100])
        assert await bench.generations.drop(name) > 50
        assert await bench.states() == {"1": "live"}

    run(history_database, story)


def test_long_read_delays_the_switch_but_nobody_else(history_database: HistoryDatabase) -> None:
    async def story(bench: Bench) -> None:
        await bench.worker.receive(RECORDS[:4])
        async with await psycopg.AsyncConnection.connect(history_database.reader_url) as reading:
            await reading.execute("SELECT count(*) FROM mining_transactions")  # locked to the end
            switching = asyncio.create_task(bench.rebuild("if_equal"))
            for record in RECORDS[4:8]:
                await asyncio.wait_for(bench.worker.receive([record]), 5)
            assert not switching.done()
            await reading.rollback()
            assert (await switching).switched

    run(history_database, story)
