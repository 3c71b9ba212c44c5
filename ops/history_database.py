"""The database of the deep history: its URL beside the log's, making it, its schema and roles.

It is on the log's server under the specification's name trading_db, unless DURIAN_HISTORY_URL
names another one.
"""

from engine.postgres.provision import Migration, Schema, provision_schema
from ops.databases import ensure_database, with_database
from projections.history import schema

DATABASE = "trading_db"


def history_url_beside(postgres_url: str) -> str:
    """The same server and role, database trading_db."""
    return with_database(postgres_url, DATABASE)


def provision_history(owner_url: str, *, writer_password: str, reader_password: str) -> Migration:
    """Make the database if it is missing, then create or upgrade what it holds.

    Raises StoreUnavailable if PostgreSQL refuses or does not answer, SchemaVersion if the
    database is newer than this program.
    """
    ensure_database(owner_url, variable="DURIAN_HISTORY_URL")
    wanted = Schema(
        migrations=schema.MIGRATIONS,
        version=schema.HISTORY_SCHEMA_VERSION,
        roles={schema.WRITER_ROLE: writer_password, schema.READER_ROLE: reader_password},
    )
    return provision_schema(owner_url, wanted)
