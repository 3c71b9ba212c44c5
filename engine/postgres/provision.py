"""Schema, roles and rights of a database, the log's first of all; safe to run again at any time.

Roles of the log: the owner (runs this), durian_log_writer (appends; may change only the head row),
durian_log_reader (reads). Nobody but a superuser can change or delete a stored event: the writer
has no right to, and a trigger refuses it even to the owner. All of a run is one transaction: it
leaves the newest schema or what was there before.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import psycopg
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from psycopg.sql import SQL, Identifier, Literal
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from engine.errors import SchemaVersion, StoreUnavailable
from engine.postgres.schema import SCHEMA_VERSION

WRITER_ROLE = "durian_log_writer"
READER_ROLE = "durian_log_reader"
MIGRATIONS = Path(__file__).parent / "migrations"


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did. before: None if the database had no version; applied: oldest first."""

    before: str | None
    after: str
    applied: list[str]


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """What a database is to hold. migrations: directory of its versions, the newest is `version`.

    roles: made, or given this password, by name. settings: of the session that migrates.
    """

    migrations: Path
    version: str
    roles: Mapping[str, str]
    settings: Mapping[str, str] = {}


def provision(
    owner_url: str,
    *,
    writer_password: str,
    reader_password: str,
    partition_events: int | None = None,
) -> Migration:
    """Create or upgrade what is not as it should be in the log's database.

    partition_events: positions per partition of a new ledger, for tests; None for the usual.
    Raises as provision_schema does.
    """
    settings = {} if partition_events is None else {"durian.partition_events": partition_events}
    schema = Schema(
        migrations=MIGRATIONS,
        version=SCHEMA_VERSION,
        roles={WRITER_ROLE: writer_password, READER_ROLE: reader_password},
        settings={name: str(value) for name, value in settings.items()},
    )
    return provision_schema(owner_url, schema)


def provision_schema(owner_url: str, schema: Schema) -> Migration:
    """Create or upgrade what is not as it should be.

    Raises StoreUnavailable if PostgreSQL refuses or does not answer, SchemaVersion if the
    database is newer than this program.
    """
    try:
        with _transaction(owner_url) as connection:
            driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
            # One migration at a time, even when several machines start together.
            driver.execute("SELECT pg_advisory_xact_lock(hashtext('durian migrate'))")
            for name, value in schema.settings.items():
                driver.execute("SELECT set_config(%s, %s, true)", (name, value))
            for role, password in schema.roles.items():
                _ensure_role(driver, role, password)
            return _migrate(connection, schema)
    except (psycopg.Error, SQLAlchemyError) as exc:
        raise StoreUnavailable(f"cannot set up the database: {exc}") from exc


@contextmanager
def _transaction(owner_url: str) -> Iterator[Connection]:
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(owner_url), poolclass=NullPool
    )
    with engine.begin() as connection:
        yield connection


def _ensure_role(connection: psycopg.Connection[Any], role: str, password: str) -> None:
    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    verb = SQL("ALTER") if known else SQL("CREATE")
    connection.execute(
        SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, Identifier(role), Literal(password))
    )


def _migrate(connection: Connection, schema: Schema) -> Migration:
    scripts = ScriptDirectory(str(schema.migrations))
    before = MigrationContext.configure(connection).get_current_revision()
    applied: list[str] = []

    def steps(revision: Any, context: MigrationContext) -> list[MigrationStep]:
        found: list[Any] = scripts._upgrade_revs("head", revision)
        applied.extend(step.revision.doc for step in found)
        return found

    # No env.py and no alembic.ini: what they would hold is these lines.
    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(connection=connection, version_table_schema="public")
        try:
            environment.run_migrations()
        except CommandError as exc:
            raise SchemaVersion(before, schema.version) from exc
    return Migration(before=before, after=schema.version, applied=applied)
