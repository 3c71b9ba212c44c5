"""The database of the deep history: its URL beside the log's, making it, its schema and roles.

It is on the log's server under the specification's name trading_db, unless DURIAN_HISTORY_URL
names another one.
"""

from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import errors
from psycopg.sql import SQL, Identifier

from engine.errors import StoreUnavailable
from engine.postgres.provision import Migration, Schema, provision_schema
from projections.history import schema

DATABASE = "trading_db"
MAINTENANCE = "postgres"
CONNECT_SECONDS = 5


def history_url_beside(postgres_url: str) -> str:
    """The same server and role, database trading_db."""
    return _with_database(postgres_url, DATABASE)


def provision_history(owner_url: str, *, writer_password: str, reader_password: str) -> Migration:
    """Make the database if it is missing, then create or upgrade what it holds.

    Raises StoreUnavailable if PostgreSQL refuses or does not answer, SchemaVersion if the
    database is newer than this program.
    """
    _ensure_database(owner_url)
    wanted = Schema(
        migrations=schema.MIGRATIONS,
        version=schema.HISTORY_SCHEMA_VERSION,
        roles={schema.WRITER_ROLE: writer_password, schema.READER_ROLE: reader_password},
    )
    return provision_schema(owner_url, wanted)


def _ensure_database(owner_url: str) -> None:
    name = urlsplit(owner_url).path.lstrip("/")
    try:
        with psycopg.connect(owner_url, connect_timeout=CONNECT_SECONDS):
            return
    except psycopg.OperationalError as exc:
        # While connecting, libpq tells errors apart by their text only.
        if "does not exist" not in str(exc):
            raise StoreUnavailable(f"cannot reach database {name}: {exc}") from exc
    try:
        with psycopg.connect(
            _with_database(owner_url, MAINTENANCE), autocommit=True, connect_timeout=CONNECT_SECONDS
        ) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    except (errors.DuplicateDatabase, errors.UniqueViolation):
        return  # another one made it at the same moment
    except psycopg.Error as exc:
        raise StoreUnavailable(
            f"there is no database {name} and this role could not create it ({exc}): create it as"
            " an administrator, owned by this role, or set DURIAN_HISTORY_URL"
        ) from exc


def _with_database(postgres_url: str, name: str) -> str:
    return urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
