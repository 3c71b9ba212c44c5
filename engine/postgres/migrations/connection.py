"""The psycopg connection of the running migration; SQLAlchemy stays out of what versions do."""

from typing import Any, cast

import psycopg
from alembic import op


def connection() -> psycopg.Connection[tuple[Any, ...]]:
    """Open in the migration's one transaction, with the owner's rights."""
    driver = op.get_bind().connection.driver_connection
    return cast("psycopg.Connection[tuple[Any, ...]]", driver)


def execute(*scripts: str) -> None:
    """Run scripts of several statements each."""
    for script in scripts:
        connection().execute(script.encode())
