"""One suite for every ViewStore: the twin in memory and real Redis hold the same after the same."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import msgspec
import pytest
from redis import Redis

from projections.batch import Batch, Place, Publication
from projections.differences import read_views
from projections.memory import MemoryViews, Stored
from projections.ports import Checkpoint, Held, Moved, Overtaken, Refused, ViewReader, ViewStore
from projections.redis_views import PAIRS_MAX, RedisViews
from schemas import views
from schemas.views import FIRST_GENERATION, stored_key

pytestmark = pytest.mark.services
Result = TypeVar("Result")

ACCOUNT: Place = (views.TRADING_DB, "account:a")
CONTRIBUTION: Place = (views.CONTRIBUTION_DB, "contribution:a")
WEIGHTS: Place = (views.CONTRIBUTION_DB, views.WEIGHTS_KEY)
LEADERS: Place = (views.ADMIN_DB, "leaders:mined")
NONE = Checkpoint()
FIRST = Checkpoint(position=5, sequence=1, offset=0, epoch="e1")
SECOND = Checkpoint(position=9, sequence=2, offset=1, epoch="e1")


class Bench:
    """A store under test; each call runs alone in its own event loop, connections included.

    open_store: the live store, or one pinned to the generation named.
    """

    def __init__(
        self,
        open_store: Callable[[str], ViewStore[Batch]],
        stored: Callable[[], dict[Place, Stored]],
        switch: Callable[[str], None],
        hold: Callable[[bool], None],
    ):
        self._open = open_store
        self.stored = stored
        self.switch = switch
        self.hold = hold

    def run(
        self, use: Callable[[ViewStore[Batch]], Awaitable[Result]], *, generation: str = ""
    ) -> Result:
        async def once() -> Result:
            store = self._open(generation)
            try:
                return await use(store)
            finally:
                if isinstance(store, RedisViews):
                    await store.close()

        return asyncio.run(once())

    def read(self, use: Callable[[ViewReader], Awaitable[Result]]) -> Result:
        """A read of the first generation."""
        return self.run(lambda store: use(store.reader(FIRST_GENERATION)))

    def commit(
        self, batch: Batch, expected: Checkpoint, reached: Checkpoint, *, generation: str = ""
    ) -> Refused | None:
        return self.run(
            lambda store: store.commit(0, batch, expected=expected, reached=reached),
            generation=generation,
        )

    def checkpoint(self, partition: int = 0, *, generation: str = "") -> Checkpoint:
        return self.run(lambda store: store.checkpoint(partition), generation=generation)


@pytest.fixture(params=["memory", "redis"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Projection accounts, because it writes several databases."""
    yield (
        _memory_bench()
        if request.param == "memory"
        else _redis_bench(request.getfixturevalue("projection_redis"))
    )


def _memory_bench() -> Bench:
    twin = MemoryViews()

    def open_store(generation: str) -> ViewStore[Batch]:
        return twin.pinned(generation) if generation else twin

    def switch(generation: str) -> None:
        twin.live = generation

    def hold(held: bool) -> None:
        twin.held = held

    return Bench(open_store, lambda: twin.views, switch, hold)


def _redis_bench(url: str) -> Bench:
    home = Redis.from_url(url, db=views.HOME_DB[views.ACCOUNTS])

    def switch(generation: str) -> None:
        home.set(views.generation_key(views.ACCOUNTS), generation)

    def hold(held: bool) -> None:
        key = views.hold_key(views.ACCOUNTS)
        if held:
            home.set(key, "x")
        else:
            home.delete(key)

    return Bench(
        lambda generation: RedisViews(views.ACCOUNTS, url, generation=generation),
        lambda: asyncio.run(read_views(views.ACCOUNTS, url)),
        switch,
        hold,
    )


def _batch(account: bytes = b"1") -> Batch:
    batch = Batch()
    batch.put(ACCOUNT, account)
    batch.put(CONTRIBUTION, b"2")
    batch.rank(WEIGHTS, "a", 10**25)
    batch.rank(LEADERS, "a", 7)
    batch.publish(Publication("account", 1, b"{}", "a"))
    return batch


def test_empty_store_has_the_empty_checkpoint(bench: Bench) -> None:
    assert bench.checkpoint() == Checkpoint()
    assert bench.read(lambda reader: reader.strings(views.TRADING_DB, ["none"])) == [None]
    assert bench.read(lambda reader: reader.fields(ACCOUNT, ["none"])) == [None]
    assert bench.read(lambda reader: reader.all_fields(ACCOUNT)) == {}


def test_batch_and_checkpoint_are_written_together_in_every_database(bench: Bench) -> None:
    assert bench.commit(_batch(), Checkpoint(), FIRST) is None
    assert bench.checkpoint() == FIRST
    assert bench.checkpoint(1) == Checkpoint()
    ranks: dict[Place, Stored] = {WEIGHTS: {"a": 1e25}, LEADERS: {"a": 7.0}}
    assert bench.stored() == {ACCOUNT: b"1", CONTRIBUTION: b"2", **ranks}


@pytest.mark.parametrize(
    "expected",
    [Checkpoint(), SECOND, Checkpoint(position=5, sequence=1, offset=0, epoch="other")],
    ids=["empty", "ahead", "other epoch"],
)
def test_refused_commit_writes_nothing_and_says_what_is_there(
    bench: Bench, expected: Checkpoint
) -> None:
    bench.commit(_batch(), Checkpoint(), FIRST)
    assert bench.commit(_batch(b"other"), expected, SECOND) == Overtaken(FIRST)
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
    hashed = bench.read(lambda reader: reader.all_fields(place))
    assert len(hashed) == PAIRS_MAX + 7
    assert bench.read(lambda reader: reader.fields(place, ["3", "4", "no"])) == [
        b"three",
        b"4",
        None,
    ]


def test_field_of_none_is_taken_out(bench: Bench) -> None:
    place = (views.TRADING_DB, "account:h")
    batch = Batch()
    batch.put_field(place, "kept", b"")
    for number in range(PAIRS_MAX + 7):
        batch.put_field(place, str(number), b"1")
    bench.commit(batch, Checkpoint(), FIRST)
    batch = Batch()
    for number in range(PAIRS_MAX + 7):
        batch.put_field(place, str(number), None)
    batch.put_field(place, "never there", None)
    bench.commit(batch, FIRST, SECOND)
    assert bench.stored() == {place: {"kept": b""}}


def test_last_field_takes_its_key_along(bench: Bench) -> None:
    place = (views.TRADING_DB, "account:h")
    batch = Batch()
    batch.put_field(place, "only", b"1")
    bench.commit(batch, Checkpoint(), FIRST)
    batch = Batch()
    batch.put_field(place, "only", None)
    bench.commit(batch, FIRST, SECOND)
    assert bench.stored() == {}


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


def test_many_members_are_ranked_and_taken_out_at_once(bench: Bench) -> None:
    members = [str(number) for number in range(PAIRS_MAX + 7)]
    batch = Batch()
    for member in members:
        batch.rank(WEIGHTS, member, int(member) + 1)
    bench.commit(batch, Checkpoint(), FIRST)
    assert bench.stored() == {WEIGHTS: {member: int(member) + 1.0 for member in members}}
    batch = Batch()
    for member in members[1:]:
        batch.rank(WEIGHTS, member, 0)
    bench.commit(batch, FIRST, SECOND)
    assert bench.stored() == {WEIGHTS: {"0": 1.0}}


def test_text_beyond_ascii_survives(bench: Bench) -> None:
    content = '{"用户":"é"}'.encode()
    bench.commit(_batch(content), Checkpoint(), FIRST)
    assert bench.stored()[ACCOUNT] == content


def test_store_follows_the_live_generation(bench: Bench) -> None:
    bench.commit(_batch(), Checkpoint(), FIRST)
    bench.switch("2")
    assert bench.checkpoint() == Checkpoint(generation="2")
    assert bench.stored() == {}
    assert bench.commit(_batch(), FIRST, SECOND) == Moved("2")
    expected, reached = (msgspec.structs.replace(one, generation="2") for one in (NONE, FIRST))
    assert bench.commit(_batch(b"new"), expected, reached) is None
    assert bench.checkpoint() == reached
    assert bench.stored()[ACCOUNT] == b"new"
    bench.switch(FIRST_GENERATION)
    assert bench.checkpoint() == FIRST
    assert bench.stored()[ACCOUNT] == b"1"


def test_held_store_takes_nothing_until_it_is_let_go(bench: Bench) -> None:
    bench.hold(True)
    assert bench.commit(_batch(), Checkpoint(), FIRST) == Held()
    assert bench.stored() == {}
    bench.hold(False)
    assert bench.commit(_batch(), Checkpoint(), FIRST) is None


def test_pinned_store_writes_its_own_generation_only(bench: Bench) -> None:
    bench.commit(_batch(), Checkpoint(), FIRST)
    bench.hold(True)
    expected, reached = (msgspec.structs.replace(one, generation="2") for one in (NONE, SECOND))
    assert bench.checkpoint(generation="2") == expected
    assert bench.commit(_batch(b"new"), expected, reached, generation="2") is None
    assert bench.commit(_batch(b"no"), expected, reached, generation="2") == Overtaken(reached)
    assert bench.checkpoint(generation="2") == reached
    assert bench.checkpoint() == FIRST
    assert bench.stored()[ACCOUNT] == b"1"
    bench.switch("2")
    assert bench.stored()[ACCOUNT] == b"new"


def test_feed_has_the_publications_in_order(projection_redis: str) -> None:
    batch = Batch()
    batch.publish(Publication("account", 7, b'{"a":1}', "a"))
    batch.publish(Publication("pulse", 8, b"{}"))
    _redis_bench(projection_redis).commit(batch, Checkpoint(), FIRST)
    with Redis.from_url(projection_redis, db=views.TRADING_DB) as client:
        entries = client.xrange(
            stored_key(views.ACCOUNTS, FIRST_GENERATION, views.feed_key(views.ACCOUNTS, 0))
        )
    assert [fields for _, fields in entries] == [
        {b"ch": b"account", b"offset": b"7", b"data": b'{"a":1}', b"user": b"a"},
        {b"ch": b"pulse", b"offset": b"8", b"data": b"{}"},
    ]
