"""The log's copies when all is over: Kafka by `durian relay --verify`, views by a fresh fold."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import psycopg

from projections.differences import compare
from projections.fresh import FreshFold
from projections.redis_views import RedisViews
from schemas import views
from schemas.codecs import decode_event
from schemas.events import LedgerEvent
from schemas.records import POSTINGS_PARTITIONS
from tests.fixtures._cluster import ENGINES, ROOT, Cluster
from tests.fixtures._member import wait_for

DEADLINE_S = 120.0
SHOWN_MAX = 5


def final_differences(made: Cluster) -> list[object]:
    """Stops the engines, waits for the copies to catch up; what of them is not the log's."""
    for name in ENGINES:
        made.members[name].stop()
    ((head,),) = made.database("SELECT position FROM ledger_events_head")
    assert isinstance(head, int)
    found: list[object] = []
    for projection in made.projections:
        member = made.members[f"projector-{projection}"]
        wait_for(
            lambda name=projection: _position(made, name) >= head,  # type: ignore[misc]
            member.told,
            deadline_s=DEADLINE_S,
        )
        expected = FreshFold(projection).fold_all(_log(made)).views
        found += asyncio.run(compare(projection, made.redis_url, expected))[:SHOWN_MAX]
    return [*found, *_kafka_differences(made)]


def _kafka_differences(made: Cluster) -> list[str]:
    verified = subprocess.run(
        [sys.executable, "-m", "ops", "relay", "--verify"],
        env=dict(made.members["relay"].part.environment),
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    return [] if verified.returncode == 0 else [verified.stdout + verified.stderr]


def _log(made: Cluster) -> Iterator[tuple[int, LedgerEvent]]:
    with psycopg.connect(made.owner_url) as connection, connection.cursor("log") as cursor:
        cursor.execute("SELECT notification_id, state FROM ledger_events ORDER BY notification_id")
        for position, payload in cursor:
            yield position, decode_event(payload)


def _position(made: Cluster, projection: str) -> int:
    partitions = POSTINGS_PARTITIONS if projection == views.ACCOUNTS else 1

    async def read() -> int:
        store = RedisViews(projection, made.redis_url)
        try:
            read = [(await store.checkpoint(number)).position for number in range(partitions)]
        finally:
            await store.close()
        return min(read)

    return asyncio.run(read())
