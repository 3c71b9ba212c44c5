"""Databases beside the log's on one server: their URLs, and making one that is missing."""

from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import errors
from psycopg.sql import SQL, Identifier

from engine.errors import StoreUnavailable

MAINTENANCE = "postgres"
CONNECT_SECONDS = 5


def with_database(postgres_url: str, name: str) -> str:
    """The same server and role, another database."""
    return urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))


def ensure_database(owner_url: str, *, variable: str) -> None:
    """Make the database that the URL names if it is missing.

    variable: what an administrator could set to name another one. Raises StoreUnavailable if
    PostgreSQL does not answer, or if the role may not create databases.
    """
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
            with_database(owner_url, MAINTENANCE), autocommit=True, connect_timeout=CONNECT_SECONDS
        ) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    except (errors.DuplicateDatabase, errors.UniqueViolation):
        return  # another one made it at the same moment
    except psycopg.Error as exc:
        raise StoreUnavailable(
            f"there is no database {name} and this role could not create it ({exc}): create it as"
            f" an administrator, owned by this role, or set {variable}"
        ) from exc
