"""Who of a projection's consumer group owns which partitions, as Kafka's coordinator says."""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from projections.folders import TOPIC


def partitions_by_member(bootstrap: str, projection: str) -> dict[str, list[int]]:
    """By member id; empty while the group is rebalancing or Kafka does not answer."""
    return asyncio.run(_partitions(bootstrap, projection))


async def _partitions(bootstrap: str, projection: str) -> dict[str, list[int]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        (answer,) = await admin.describe_consumer_groups([f"durian.{projection}"])
        ((_, _, state, _, _, members, *_),) = answer.groups  # type: ignore[attr-defined]  # generated per version
    except (KafkaError, ValueError):
        return {}
    finally:
        await admin.close()
    if state != "Stable":
        return {}
    owned: dict[str, list[int]] = {}
    for member in members:
        member_id, assignment = member[0], member[-1]
        topics = ConsumerProtocolMemberAssignment.decode(assignment).assignment
        owned[member_id] = [
            n for topic, numbers in topics if topic == TOPIC[projection] for n in numbers
        ]
    return owned
