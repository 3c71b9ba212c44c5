"""Judges the views after faults: against a fresh fold of the log, and feeds against themselves.

Reads PostgreSQL and Redis directly. Each finding is a sentence; none means no violation.
"""

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from projections.differences import compare
from projections.errors import ViewsUnavailable
from projections.fresh import FreshFold
from projections.history.fold import HistoryBatch, HistoryFold, contributors
from projections.history.store import HistoryStore
from projections.ports import Checkpoint
from projections.redis_views import RedisViews
from schemas import views
from schemas.codecs import decode_event
from schemas.events import LedgerEvent
from schemas.records import POSTINGS_PARTITIONS
from tests.fixtures._cluster import Cluster
from tests.fixtures._member import wait_for
from tests.fixtures.history import expected_lines, stored_lines

SHOWN_MAX = 5
Part = tuple[str, int]  # projection, partition
# Their offsets rise but are not counted one by one: second, effects of a user, log position.
SPARSE_CHANNELS = ("pulse", "account", "depth.")


class ViewAuditor:
    """Keeps a fresh fold beside the log, so that judging often costs what is new only."""

    def __init__(self, cluster: Cluster) -> None:
        self.position = 0
        self._cluster = cluster
        in_redis = [name for name in cluster.projections if name in views.HOME_DB]
        self._folds = {projection: FreshFold(projection) for projection in in_redis}
        self._history = FreshHistory() if views.HISTORY in cluster.projections else None

    def checkpoints(self) -> dict[Part, Checkpoint]:
        """Of every partition of every projection; empty while one of the stores does not answer."""
        try:
            return asyncio.run(self._checkpoints())
        except (RedisError, OSError, ViewsUnavailable):
            return {}

    def are_at(self, position: int) -> bool:
        """Whether every view is at or past a position of the log."""
        found = self.checkpoints()
        return bool(found) and all(one.position >= position for one in found.values())

    def head(self) -> int:
        """The log's newest position; waits for a PostgreSQL that is starting."""
        found: list[int] = []

        def is_read() -> bool:
            try:
                ((position,),) = self._cluster.database("SELECT position FROM ledger_events_head")
            except psycopg.Error:
                return False
            assert isinstance(position, int)
            found.append(position)
            return True

        wait_for(is_read, self._cluster.told)
        return found[0]

    def judge(self) -> list[str]:
        """The log stands still and the views are at its head: all that is not as it must be."""
        for position, event in self._new_events():
            for fold in self._folds.values():
                fold.fold(position, event)
            if self._history is not None:
                self._history.fold(position, event)
            self.position = position
        found: list[str] = []
        if self._history is not None:
            found += self._history.differences(stored_lines(self._cluster.history_url))
        for projection, fold in self._folds.items():
            expected = fold.finish().views
            differing = asyncio.run(compare(projection, self._cluster.redis_url, expected))
            found += [f"{projection}: {one}" for one in differing[:SHOWN_MAX]]
        for (projection, partition), checkpoint in self.checkpoints().items():
            if checkpoint.position != self.position:
                found.append(f"{projection} {partition} is at {checkpoint}, log at {self.position}")
            if projection in views.HOME_DB:
                found += self._feed_findings(projection, partition, checkpoint.generation)
        return found

    async def _checkpoints(self) -> dict[Part, Checkpoint]:
        found: dict[Part, Checkpoint] = {}
        for projection in self._cluster.projections:
            store: RedisViews | HistoryStore = (
                HistoryStore(self._cluster.history_url)
                if projection == views.HISTORY
                else RedisViews(projection, self._cluster.redis_url)
            )
            try:
                for partition in range(partition_count(projection)):
                    found[projection, partition] = await store.checkpoint(partition)
            finally:
                await store.close()
        return found

    def _new_events(self) -> Iterator[tuple[int, LedgerEvent]]:
        statement = (
            "SELECT notification_id, state FROM ledger_events"
            " WHERE notification_id > %s ORDER BY notification_id"
        )
        url = self._cluster.owner_url
        with psycopg.connect(url) as connection, connection.cursor("log") as cursor:
            cursor.execute(statement, (self.position,))
            for position, payload in cursor:
                yield position, decode_event(payload)

    def _feed_findings(self, projection: str, partition: int, generation: str) -> Iterator[str]:
        """Offsets rise; where they count one by one there is no hole, and the last is the newest.

        A feed is cut at its old end, so it may begin anywhere.
        """

        def name(key: str) -> str:
            return views.stored_key(projection, generation, key)

        with Redis.from_url(self._cluster.redis_url, db=views.HOME_DB[projection]) as client:
            reads: Any = client
            entries = reads.xrange(name(views.feed_key(projection, partition)))
            newest = reads.hgetall(name(views.offsets_key(projection)))
        by_channel: dict[str, list[int]] = defaultdict(list)
        for _, entry in entries:
            channel = f"{entry[b'ch'].decode()} {entry.get(b'user', b'').decode()}".strip()
            by_channel[channel].append(int(entry[b"offset"]))
        for channel, offsets in by_channel.items():
            yield from offset_findings(channel, offsets, newest)


class FreshHistory:
    """The deep history's rows as they should be after a log, grown event by event."""

    def __init__(self) -> None:
        self._fold = HistoryFold(cached_max=1 << 62)
        self._rows = HistoryBatch()

    def fold(self, position: int, event: LedgerEvent) -> None:
        for user_id in self._fold.unknown(contributors([(position, event)])):
            self._fold.adopt(user_id, None)
        self._fold.fold(position, event)

    def differences(self, stored: Mapping[str, list[str]]) -> Iterator[str]:
        """stored: the lines of each table."""
        self._rows.extend(self._fold.drain())
        for table, lines in expected_lines(self._rows).items():
            missing, extra = Counter(lines), Counter(stored[table])
            for line in [*(missing - extra)][:SHOWN_MAX]:
                yield f"{table} lacks {line}"
            for line in [*(extra - missing)][:SHOWN_MAX]:
                yield f"{table} should not have {line}"


def offset_findings(
    channel: str, offsets: list[int], newest: Mapping[bytes, bytes]
) -> Iterator[str]:
    """offsets: of one channel's publications in a feed, oldest first. newest: by channel."""
    steps = {late - early for early, late in itertools.pairwise(offsets)}
    if any(step < 1 for step in steps):
        yield f"offsets of {channel} do not rise: {offsets[-20:]}"
    elif not channel.startswith(SPARSE_CHANNELS):
        if steps - {1}:
            yield f"offsets of {channel} have a hole: {offsets[-20:]}"
        stored = int(newest.get(channel.encode(), b"0"))
        if stored != offsets[-1]:
            yield f"{channel}: last published {offsets[-1]}, stored {stored}"


def partition_count(projection: str) -> int:
    return POSTINGS_PARTITIONS if projection == views.ACCOUNTS else 1
