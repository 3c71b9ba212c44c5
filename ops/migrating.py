"""The migration of a ledger: schema, roles and topics, from one Config."""

import asyncio

import msgspec

from engine.kafka import create_topics
from engine.postgres.provision import Migration, provision
from ops.config import Config, require
from ops.wiring import bootstrap_of


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of `durian migrate` did; its JSON is public. topics_created: of Kafka."""

    schema: Migration
    topics_created: list[str]


async def run_migrate(config: Config) -> Migrated:
    """Schema and roles, then topics. Raises SchemaVersion if the database is newer than we are."""
    migration = await asyncio.to_thread(
        provision,
        require(config, "postgres_url"),
        writer_password=require(config, "log_writer_password"),
        reader_password=require(config, "log_reader_password"),
    )
    return Migrated(schema=migration, topics_created=await create_topics(bootstrap_of(config)))
