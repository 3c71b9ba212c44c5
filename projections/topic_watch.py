"""Whether a worker's topic is there, and given to its group.

A group whose topic is away has no partitions to give, and the driver may not notice the topic's
return. So a worker begins when the topic is there, and ends when it is gone or was overlooked.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from projections.errors import KafkaAway

LOOK_SECONDS = 0.5
REQUEST_SECONDS = 5


async def wait_for_topic(bootstrap: str, topic: str, *, on_wait: Callable[[str], None]) -> None:
    """Returns when Kafka answers and has the topic. on_wait: told why it waits, if it must."""
    tell = _Changes(on_wait)
    while True:
        try:
            async with _admin(bootstrap) as admin:
                while not await _partitions(admin, topic):
                    tell(f"there is no topic {topic}")
                    await asyncio.sleep(LOOK_SECONDS)
        except (KafkaError, OSError) as exc:
            tell(f"Kafka does not answer: {exc!r}")
            await asyncio.sleep(LOOK_SECONDS)
        else:
            return


async def watch_topic(
    bootstrap: str,
    topic: str,
    *,
    group: str,
    has_partitions: Callable[[], bool],
    on_away: Callable[[str], None],
) -> None:
    """Raises KafkaAway once Kafka says that there is no such topic, or that no member of the group
    has some of its partitions (asked only while we have none: an idle worker is none the worse for
    it if others have them all). Waits while Kafka says nothing; on_away is then told once.
    """
    tell = _Changes(on_away)
    while True:
        try:
            async with _admin(bootstrap) as admin:
                tell("")
                while True:
                    partitions = await _partitions(admin, topic)
                    if not partitions:
                        raise KafkaAway(f"topic {topic} was deleted")
                    if not has_partitions() and await _given(admin, group, topic) < partitions:
                        raise KafkaAway(f"group {group} overlooks partitions of topic {topic}")
                    await asyncio.sleep(LOOK_SECONDS)
        except (KafkaError, OSError) as exc:
            tell(f"Kafka does not answer: {exc!r}")
            await asyncio.sleep(LOOK_SECONDS)


class _Changes:
    """Passes on what is not what was said last; "" ends that and is not passed on."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._said = ""

    def __call__(self, what: str) -> None:
        if what and what != self._said:
            self._tell(what)
        self._said = what


async def _partitions(admin: AIOKafkaAdminClient, topic: str) -> int:
    """How many the topic has; 0 if there is no such topic."""
    # Asked for by its name, a topic might be created.
    if topic not in await admin.list_topics():
        return 0
    (described,) = await admin.describe_topics([topic])
    return len(described["partitions"])


async def _given(admin: AIOKafkaAdminClient, group: str, topic: str) -> float:
    """How many of the topic's partitions members of the group have; any number during a rebalance,
    and before the group's first one.
    """
    (answer,) = await admin.describe_consumer_groups([group])
    (described,) = answer.to_object()["groups"]
    if described["state"] != "Stable":
        return float("inf")
    given = [
        ConsumerProtocolMemberAssignment.decode(member["member_assignment"])
        for member in described["members"]
    ]
    return sum(tp.topic == topic for assignment in given for tp in assignment.partitions())


@contextlib.asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_SECONDS * 1_000
    )
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
