"""What can be done to projections under load, drawn from a seed.

Inflicting a fault also ends it: what was stopped runs again when the call returns; whether the
views recover is for others to judge.
"""

import asyncio
import enum
import random
import shutil
import signal
from collections.abc import Iterator

from redis import Redis

from engine.kafka import remake_topics
from schemas import views
from schemas.records import EVENTS_TOPIC, POSTINGS_PARTITIONS, POSTINGS_TOPIC
from tests.chaos.faults import let_pass
from tests.chaos.worker_group import partitions_by_member
from tests.fixtures._cluster import Cluster
from tests.fixtures._member import Member, wait_for

# Long enough that workers folded more meanwhile, which an older Redis then does not know.
AGE_S = (0.5, 2.0)
# Shorter and longer than a session: a frozen worker keeps its partitions, or comes back without.
FREEZE_S = (0.5, 13.0)
SPARE_INSTANCES = (1, 2)
REBALANCE_DEADLINE_S = 60.0


class ViewFault(enum.StrEnum):
    KILL_WORKER = "kill -9 worker"
    KILL_ALL_WORKERS = "kill -9 all workers"
    FREEZE_WORKER = "SIGSTOP worker"
    REBALANCE = "accounts: 1 worker, 3, and back"
    EMPTY_REDIS = "Redis emptied"
    KILL_REDIS = "kill -9 Redis"
    AGE_REDIS = "Redis restored to an older state"
    KILL_KAFKA = "kill -9 Kafka"
    REMAKE_TOPICS = "topics deleted and made anew"
    KILL_POSTGRES = "kill -9 PostgreSQL"
    KILL_RELAY = "kill -9 relay"


# Redis then knows nothing of the lines of views that were there.
LOSES_VIEWS = frozenset({ViewFault.EMPTY_REDIS})


def draw_view_faults(chance: random.Random, *, kills: int, others: int) -> Iterator[ViewFault]:
    """So many kills of a worker, and every other fault `others` times, in any order."""
    drawn = [ViewFault.KILL_WORKER] * kills
    drawn += [fault for fault in ViewFault if fault is not ViewFault.KILL_WORKER] * others
    chance.shuffle(drawn)
    return iter(drawn)


def inflict(fault: ViewFault, cluster: Cluster, chance: random.Random) -> None:
    """Do it, and end it. Blocks for as long as it lasts."""
    members = cluster.members
    match fault:
        case ViewFault.KILL_WORKER:
            _any_worker(cluster, chance).kill()
        case ViewFault.KILL_ALL_WORKERS:
            for projection in cluster.projections:
                members[f"projector-{projection}"].kill()
        case ViewFault.FREEZE_WORKER:
            _freeze(_any_worker(cluster, chance), chance)
        case ViewFault.REBALANCE:
            _rebalance(cluster, chance)
        case ViewFault.EMPTY_REDIS:
            with Redis.from_url(cluster.redis_url) as client:
                client.flushall()
        case ViewFault.AGE_REDIS:
            _age_redis(cluster, chance)
        case ViewFault.REMAKE_TOPICS:
            asyncio.run(remake_topics(cluster.kafka_bootstrap, (EVENTS_TOPIC, POSTINGS_TOPIC)))
        case ViewFault.KILL_REDIS:
            members["redis"].kill()
        case ViewFault.KILL_KAFKA:
            members["kafka"].kill()
        case ViewFault.KILL_POSTGRES:
            members["postgres"].kill()
        case ViewFault.KILL_RELAY:
            members["relay"].kill()


def _any_worker(cluster: Cluster, chance: random.Random) -> Member:
    return cluster.members[f"projector-{chance.choice(cluster.projections)}"]


def _freeze(member: Member, chance: random.Random) -> None:
    member.pause()
    let_pass(chance.uniform(*FREEZE_S))
    member.resume()


def _age_redis(cluster: Cluster, chance: random.Random) -> None:
    redis, home = cluster.members["redis"], cluster.data_dir.redis
    older = home.with_name("redis-older")
    redis.pause()
    shutil.copytree(home, older)
    redis.resume()
    let_pass(chance.uniform(*AGE_S))
    redis.stop(order=signal.SIGKILL)
    shutil.rmtree(home)
    older.rename(home)
    redis.start()


def _rebalance(cluster: Cluster, chance: random.Random) -> None:
    """Three workers share the partitions; one of them is hurt; two leave, in order or not."""
    started = [cluster.add_worker(views.ACCOUNTS, instance) for instance in SPARE_INSTANCES]
    for member in started:
        member.start()
    _wait_shared(cluster, workers=1 + len(started))
    if chance.random() < 0.5:
        chance.choice([cluster.members[f"projector-{views.ACCOUNTS}"], *started]).kill()
        _wait_shared(cluster, workers=1 + len(started))
    for member in started:
        member.stop(order=chance.choice((signal.SIGTERM, signal.SIGKILL)))
    _wait_shared(cluster, workers=1)


def _wait_shared(cluster: Cluster, *, workers: int) -> None:
    """Until so many workers own all partitions of the accounts together."""

    def is_shared() -> bool:
        owned = partitions_by_member(cluster.kafka_bootstrap, views.ACCOUNTS)
        owners = [partitions for partitions in owned.values() if partitions]
        everything = sorted(number for partitions in owners for number in partitions)
        return len(owners) == workers and everything == list(range(POSTINGS_PARTITIONS))

    wait_for(
        is_shared,
        lambda: (
            f"{partitions_by_member(cluster.kafka_bootstrap, views.ACCOUNTS)}, not {workers}\n"
            + cluster.told()
        ),
        deadline_s=REBALANCE_DEADLINE_S,
    )
