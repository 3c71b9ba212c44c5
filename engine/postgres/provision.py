"""Schema, roles and rights of the log's database; safe to run again at any time.

Roles: the owner (runs this), durian_log_writer (appends; may change only the head row),
durian_log_reader (reads). Nobody but a superuser can change or delete a stored event: the writer
has no right to, and a trigger refuses it even to the owner. All of a run is one transaction: it
leaves the newest schema or what was there before.
"""

from collections.abc import Iterator
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


def provision(
    owner_url: str,
    *,
    writer_password: str,
    reader_password: str,
    partition_events: int | None = None,
) -> Migration:
    """Create or upgrade what is not as it should be.

    partition_events: positions per partition of a new ledger, for tests; None for the usual.
    Raises StoreUnavailable if PostgreSQL refuses or does not answer, SchemaVersion if the
    database is newer than this program.
    """
    try:
        with _transaction(owner_url) as connection:
            driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
            # One migration at a time, even when several machines start together.
            driver.execute("SELECT pg_advisory_xact_lock(hashtext('durian migrate'))")
            if partition_events is not None:
                driver.execute(
                    "SELECT set_config('durian.partition_events', %s, true)",
                    (str(partition_events),),
                )
            _ensure_role(driver, WRITER_ROLE, writer_password)
            _ensure_role(driver, READER_ROLE, reader_password)
            return _migrate(connection)
    except (psycopg.Error, SQLAlchemyError) as exc:
        raise StoreUnavailable(f"cannot set up the log: {exc}") from exc


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


def _migrate(connection: Connection) -> Migration:
    scripts = ScriptDirectory(str(MIGRATIONS))
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
            raise SchemaVersion(before, SCHEMA_VERSION) from exc
    return Migration(before=before, after=SCHEMA_VERSION, applied=applied)
