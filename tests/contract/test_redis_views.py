"""One suite for every ViewStore: the twin in memory and real Redis hold the same after the same."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
from redis import Redis

from projections.batch import Batch, Place, Publication
from projections.differences import read_views
from projections.memory import MemoryViews, Stored
from projections.ports import Checkpoint, ViewStore
from projections.redis_views import PAIRS_MAX, RedisViews
from schemas import views

pytestmark = pytest.mark.services
Result = TypeVar("Result")

ACCOUNT: Place = (views.TRADING_DB, "account:a")
CONTRIBUTION: Place = (views.CONTRIBUTION_DB, "contribution:a")
WEIGHTS: Place = (views.CONTRIBUTION_DB, views.WEIGHTS_KEY)
FIRST = Checkpoint(position=5, sequence=1, offset=0, epoch="e1")
SECOND = Checkpoint(position=9, sequence=2, offset=1, epoch="e1")


class Bench:
    """A store under test; each call runs alone in its own event loop, connections included."""

    def __init__(
        self, open_store: Callable[[], ViewStore], stored: Callable[[], dict[Place, Stored]]
    ):
        self._open = open_store
        self.stored = stored

    def run(self, use: Callable[[ViewStore], Awaitable[Result]]) -> Result:
        async def once() -> Result:
            store = self._open()
            try:
                return await use(store)
            finally:
                if isinstance(store, RedisViews):
                    await store.close()

        return asyncio.run(once())

    def commit(self, batch: Batch, expected: Checkpoint, reached: Checkpoint) -> Checkpoint | None:
        return self.run(lambda store: store.commit(0, batch, expected=expected, reached=reached))

    def checkpoint(self, partition: int = 0) -> Checkpoint:
        return self.run(lambda store: store.checkpoint(partition))


@pytest.fixture(params=["memory", "redis"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Projection accounts, because it writes two databases."""
    if request.param == "memory":
        twin = MemoryViews()
        yield Bench(lambda: twin, lambda: twin.views)
        return
    url = request.getfixturevalue("projection_redis")
    yield Bench(
        lambda: RedisViews(views.ACCOUNTS, url),
        lambda: asyncio.run(read_views(views.ACCOUNTS, url)),
    )


def _batch(account: bytes = b"1") -> Batch:
    batch = Batch()
    batch.put(ACCOUNT, account)
    batch.put(CONTRIBUTION, b"2")
    batch.rank(WEIGHTS, "a", 10**25)
    batch.publish(Publication("account", 1, b"{}", "a"))
    return batch


def test_empty_store_has_the_empty_checkpoint(bench: Bench) -> None:
    assert bench.checkpoint() == Checkpoint()
    assert bench.run(lambda store: store.strings(views.TRADING_DB, ["none"])) == [None]
    assert bench.run(lambda store: store.fields(ACCOUNT, ["none"])) == [None]
    assert bench.run(lambda store: store.all_fields(ACCOUNT)) == {}


def test_batch_and_checkpoint_are_written_together_in_every_database(bench: Bench) -> None:
    assert bench.commit(_batch(), Checkpoint(), FIRST) is None
    assert bench.checkpoint() == FIRST
    assert bench.checkpoint(1) == Checkpoint()
    assert bench.stored() == {ACCOUNT: b"1", CONTRIBUTION: b"2", WEIGHTS: {"a": 1e25}}


@pytest.mark.parametrize(
    "expected",
    [Checkpoint(), SECOND, Checkpoint(position=5, sequence=1, offset=0, epoch="other")],
    ids=["empty", "ahead", "other epoch"],
)
def test_refused_commit_writes_nothing_and_says_what_is_there(
    bench: Bench, expected: Checkpoint
) -> None:
    bench.commit(_batch(), Checkpoint(), FIRST)
    assert bench.commit(_batch(b"other"), expected, SECOND) == FIRST
    assert bench.checkpoint() == FIRST
    assert bench.stored()[ACCOUNT] == b"1"


def test_fields_are_replaced_one_by_one(bench: Bench) -> None:
    place = (views.TRADING_DB, "account:h")
    batch = Batch()
    for number in range(PAIRS_MAX + 7):
        batch.put_field(place, str(number), b"%d" % number)
    bench.commit(batch, Checkpoint(), FIRST)
    batch = Batch()
    batch.put_field(place, "3", b"three")
    bench.commit(batch, FIRST, SECOND)
    hashed = bench.run(lambda store: store.all_fields(place))
    assert len(hashed) == PAIRS_MAX + 7
    assert bench.run(lambda store: store.fields(place, ["3", "4", "no"])) == [b"three", b"4", None]


def test_rows_are_newest_first_and_cut(bench: Bench) -> None:
    place = (views.TRADING_DB, "account:list")
    checkpoint = Checkpoint()
    for sequence in (1, 2, 3):
        batch = Batch()
        for row in range(3):
            batch.push(place, b"%d.%d" % (sequence, row), kept=4)
        reached = Checkpoint(position=sequence, sequence=sequence, offset=sequence, epoch="e")
        bench.commit(batch, checkpoint, reached)
        checkpoint = reached
    assert bench.stored()[place] == [b"3.2", b"3.1", b"3.0", b"2.2"]


def test_reset_comes_before_what_the_batch_writes(bench: Bench) -> None:
    place = (views.TRADING_DB, "account:list")
    batch = Batch()
    batch.push(place, b"old", kept=9)
    bench.commit(batch, Checkpoint(), FIRST)
    batch = Batch()
    batch.push(place, b"dropped", kept=9)
    batch.reset(place)
    batch.push(place, b"new", kept=9)
    bench.commit(batch, FIRST, SECOND)
    assert bench.stored()[place] == [b"new"]


def test_score_of_zero_takes_a_member_out(bench: Bench) -> None:
    bench.commit(_batch(), Checkpoint(), FIRST)
    batch = Batch()
    batch.rank(WEIGHTS, "a", 0)
    bench.commit(batch, FIRST, SECOND)
    assert WEIGHTS not in bench.stored()


def test_text_beyond_ascii_survives(bench: Bench) -> None:
    content = '{"用户":"é"}'.encode()
    bench.commit(_batch(content), Checkpoint(), FIRST)
    assert bench.stored()[ACCOUNT] == content


def test_feed_has_the_publications_in_order(projection_redis: str) -> None:
    batch = Batch()
    batch.publish(Publication("account", 7, b'{"a":1}', "a"))
    batch.publish(Publication("pulse", 8, b"{}"))
    redis_bench = Bench(lambda: RedisViews(views.ACCOUNTS, projection_redis), dict)
    redis_bench.commit(batch, Checkpoint(), FIRST)
    with Redis.from_url(projection_redis, db=views.TRADING_DB) as client:
        entries = client.xrange(views.feed_key(views.ACCOUNTS, 0))
    assert [fields for _, fields in entries] == [
        {b"ch": b"account", b"offset": b"7", b"data": b'{"a":1}', b"user": b"a"},
        {b"ch": b"pulse", b"offset": b"8", b"data": b"{}"},
    ]
