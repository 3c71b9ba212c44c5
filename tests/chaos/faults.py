"""What can be done to a running ledger, drawn from a seed: kills, freezes, and cut or lost commits.

Inflicting a fault also ends it: whatever was frozen runs again when the call returns.
"""

import enum
import random
import time
from collections.abc import Iterator

from tests.fixtures._cluster import ENGINES, Cluster
from tests.fixtures._link_proxy import Link, Loss
from tests.fixtures._member import Member

LEADER_DEADLINE_S = 30.0
# A robbed append needs one to pass; without load none does.
ROB_DEADLINE_S = 3.0
# The leader's lock lasts 3 s and an append 4 s: below, between and above.
FREEZE_S = (3.3, 6.0)
SHORT_FREEZE_S = (0.5, 3.0)
SECOND_FAULT_SHARE = 0.25


class Fault(enum.StrEnum):
    KILL_LEADER = "kill -9 leader"
    KILL_STANDBY = "kill -9 standby"
    KILL_BOTH_ENGINES = "kill -9 both engines"
    KILL_POSTGRES = "kill -9 PostgreSQL"
    KILL_KAFKA = "kill -9 Kafka"
    KILL_REDIS = "kill -9 Redis"
    KILL_RELAY = "kill -9 relay"
    KILL_PROJECTOR = "kill -9 projector"
    FREEZE_LEADER = "SIGSTOP leader past its lock"
    FREEZE_LEADER_SHORTLY = "SIGSTOP leader, shorter"
    FREEZE_POSTGRES = "SIGSTOP PostgreSQL"
    CUT_LEADER = "connections cut: leader"
    CUT_RELAY = "connections cut: relay"
    LOSE_REQUEST = "commit lost: request"
    LOSE_HALF_REQUEST = "commit lost: half the request"
    LOSE_ANSWER = "commit lost: answer"
    RACE_COMMIT = "commit raced by a reset"
    BLACK_HOLE_LEADER = "black hole, then delivered late: leader"
    SLOW_LEADER = "slow link: leader"


def draw_faults(chance: random.Random, count: int) -> Iterator[tuple[Fault, ...]]:
    """`count` faults, most alone, some in pairs; each kind once before any comes again."""
    drawn: list[Fault] = []
    while count > 0:
        if not drawn:
            drawn = chance.sample(list(Fault), len(Fault))
        size = 2 if len(drawn) > 1 < count and chance.random() < SECOND_FAULT_SHARE else 1
        count -= size
        yield tuple(drawn.pop() for _ in range(size))


def inflict(fault: Fault, cluster: Cluster, chance: random.Random) -> None:
    """Do it, and end it. Blocks for as long as it lasts."""
    members = cluster.members
    match fault:
        case Fault.KILL_KAFKA:
            members["kafka"].kill()
        case Fault.KILL_REDIS:
            members["redis"].kill()
        case Fault.KILL_RELAY:
            members["relay"].kill()
        case Fault.KILL_PROJECTOR:
            members[f"projector-{chance.choice(cluster.projections)}"].kill()
        case Fault.KILL_POSTGRES:
            members["postgres"].kill()
        case Fault.KILL_BOTH_ENGINES:
            for name in ENGINES:
                members[name].kill()
        case Fault.FREEZE_POSTGRES:
            _freeze(members["postgres"], chance.uniform(*chance.choice((FREEZE_S, SHORT_FREEZE_S))))
        case Fault.CUT_RELAY:
            cluster.links["relay"].cut()
        case _:
            _hurt_leader(fault, cluster, chance)


def _hurt_leader(fault: Fault, cluster: Cluster, chance: random.Random) -> None:
    leader = await_leader(cluster)
    link = cluster.links[leader.name]
    match fault:
        case Fault.KILL_LEADER:
            leader.kill()
        case Fault.KILL_STANDBY:
            cluster.standby_of(leader).kill()
        case Fault.FREEZE_LEADER:
            _freeze(leader, chance.uniform(*FREEZE_S))
        case Fault.FREEZE_LEADER_SHORTLY:
            _freeze(leader, chance.uniform(*SHORT_FREEZE_S))
        case Fault.CUT_LEADER:
            link.cut()
        case Fault.LOSE_REQUEST:
            _rob(link, Loss.REQUEST)
        case Fault.LOSE_HALF_REQUEST:
            _rob(link, Loss.HALF_REQUEST)
        case Fault.LOSE_ANSWER:
            _rob(link, Loss.ANSWER)
        case Fault.RACE_COMMIT:
            _rob(link, Loss.NOTHING)
        case Fault.BLACK_HOLE_LEADER:
            link.freeze()
            let_pass(chance.uniform(*FREEZE_S))
            link.thaw()
        case Fault.SLOW_LEADER:
            link.slow(chance.uniform(0.01, 0.3))
            let_pass(chance.uniform(1, 2))
            link.slow(0)
        case _:
            raise ValueError(fault)


def await_leader(cluster: Cluster) -> Member:
    """Whoever leads, as soon as somebody does and PostgreSQL says so."""
    deadline = time.monotonic() + LEADER_DEADLINE_S
    while (leader := cluster.leader()) is None:
        assert time.monotonic() < deadline, f"nobody leads\n{cluster.told()}"
        time.sleep(0.02)
    return leader


def _freeze(member: Member, seconds: float) -> None:
    member.pause()
    let_pass(seconds)
    member.resume()


def _rob(link: Link, loss: Loss) -> None:
    if not link.rob_next_append(loss).wait(ROB_DEADLINE_S):
        link.forgive()


def let_pass(seconds: float) -> None:
    """A fault's own length: the time itself is what is tested."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(left)
