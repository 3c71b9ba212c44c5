"""The migration of a ledger: schemas, roles and topics, from one Config."""

import asyncio

import msgspec

from engine.kafka import create_topics
from engine.postgres.provision import Migration, provision
from ops.config import Config, require
from ops.history_database import history_url_beside, provision_history
from ops.service_databases import (
    auth_url_beside,
    desk_url_beside,
    provision_auth,
    provision_desk,
)
from ops.wiring import bootstrap_of


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of `durian migrate` did; its JSON is public. topics_created: of Kafka.

    history, auth, desk: of the databases of the deep history, the accounts, the administration.
    """

    schema: Migration
    history: Migration
    auth: Migration
    desk: Migration
    topics_created: list[str]


async def run_migrate(config: Config) -> Migrated:
    """Schemas and roles, then topics. Raises SchemaVersion if a database is newer than we are."""
    owner_url = require(config, "postgres_url")
    migration = await asyncio.to_thread(
        provision,
        owner_url,
        writer_password=require(config, "log_writer_password"),
        reader_password=require(config, "log_reader_password"),
    )
    history = await asyncio.to_thread(
        provision_history,
        config.history_url or history_url_beside(owner_url),
        writer_password=require(config, "history_writer_password"),
        reader_password=require(config, "history_reader_password"),
    )
    auth = await asyncio.to_thread(
        provision_auth,
        config.auth_url or auth_url_beside(owner_url),
        password=require(config, "auth_password"),
    )
    desk = await asyncio.to_thread(
        provision_desk,
        config.desk_url or desk_url_beside(owner_url),
        password=require(config, "desk_password"),
    )
    topics = await create_topics(bootstrap_of(config))
    return Migrated(schema=migration, history=history, auth=auth, desk=desk, topics_created=topics)
