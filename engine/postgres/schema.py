"""Which version of the schema this program works with, and the check of it at a part's start.

Knows no migration: alembic takes half a second to import, and only `durian migrate` needs it.
"""

import psycopg
from psycopg import errors

from engine.errors import SchemaVersion, StoreUnavailable

SCHEMA_VERSION = "0003"


def schema_version(url: str) -> str | None:
    """The database's version; None if `durian migrate` has never run there.

    Raises StoreUnavailable if PostgreSQL does not answer.
    """
    try:
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT version_num FROM public.alembic_version").fetchone()
    except errors.UndefinedTable:
        return None
    except psycopg.Error as exc:
        raise StoreUnavailable(f"cannot read the schema's version: {exc}") from exc
    return row[0] if row else None


def require_schema(url: str, expected: str = SCHEMA_VERSION) -> None:
    """Raises SchemaVersion unless the database has exactly the expected version."""
    found = schema_version(url)
    if found != expected:
        raise SchemaVersion(found, expected)
