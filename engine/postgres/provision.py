"""Tables, roles and rights of the log's database; safe to run again at any time.

Roles: the owner (runs this), durian_log_writer (appends; may change only the head row),
durian_log_reader (reads). Nobody but a superuser can change or delete a stored event: the writer
has no right to, and a trigger refuses it even to the owner.
"""

from urllib.parse import unquote, urlsplit

import psycopg
from eventsourcing.postgres import PostgresDatastore
from psycopg.sql import SQL, Identifier, Literal

from engine.errors import StoreUnavailable
from engine.postgres.recorder import LedgerRecorder

WRITER_ROLE = "durian_log_writer"
READER_ROLE = "durian_log_reader"


def datastore_of(url: str, *, pool_size: int = 1) -> PostgresDatastore:
    """The library's datastore for postgresql://user:password@host:port/database.

    Raises ValueError if the URL lacks one of them.
    """
    parts = urlsplit(url)
    if not (parts.hostname and parts.username and parts.path.strip("/")):
        raise ValueError("expected postgresql://user:password@host:port/database")
    return PostgresDatastore(
        dbname=unquote(parts.path.strip("/")),
        host=parts.hostname,
        port=parts.port or 5432,
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        pool_size=pool_size,
        originator_id_type="text",
    )


def provision(owner_url: str, *, writer_password: str, reader_password: str) -> None:
    """Create what is missing. Raises StoreUnavailable if PostgreSQL refuses or does not answer."""
    try:
        with psycopg.connect(owner_url) as connection, datastore_of(owner_url) as datastore:
            recorder = LedgerRecorder(datastore)
            # One migration at a time, even when several machines start together.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('durian migrate'))")
            for role, password in (
                (WRITER_ROLE, writer_password),
                (READER_ROLE, reader_password),
            ):
                _ensure_role(connection, role, password)
            for statement in recorder.sql_create_statements:
                if "CREATE TYPE" not in statement.as_string():
                    connection.execute(statement)
            _protect(connection, recorder)
    except psycopg.Error as exc:
        raise StoreUnavailable(f"cannot set up the log: {exc}") from exc


def _ensure_role(connection: psycopg.Connection, role: str, password: str) -> None:
    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    verb = SQL("ALTER") if known else SQL("CREATE")
    connection.execute(
        SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, Identifier(role), Literal(password))
    )


def _protect(connection: psycopg.Connection, recorder: LedgerRecorder) -> None:
    schema = recorder.datastore.schema
    names = {
        "events": Identifier(schema, recorder.events_table_name),
        "head": Identifier(schema, recorder.head_table_name),
        "writer": Identifier(WRITER_ROLE),
        "reader": Identifier(READER_ROLE),
    }
    for statement in _PROTECTION:
        connection.execute(SQL(statement).format(**names))


_PROTECTION = (
    """
    CREATE OR REPLACE FUNCTION durian_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% on % refused: the event log is append-only', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {events}
    FOR EACH STATEMENT EXECUTE FUNCTION durian_refuse_change()
    """,
    "REVOKE ALL ON {events}, {head} FROM PUBLIC",
    "GRANT SELECT, INSERT ON {events} TO {writer}",
    "GRANT SELECT, UPDATE (epoch, position, hash) ON {head} TO {writer}",
    "GRANT SELECT ON {events}, {head} TO {reader}",
)
