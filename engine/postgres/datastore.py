"""The eventsourcing library's datastore, from one URL."""

from urllib.parse import unquote, urlsplit

from eventsourcing.postgres import PostgresDatastore


class LedgerDatastore(PostgresDatastore):
    """Connects when it is used, not when a recorder is made."""

    def register_type_adapters(self) -> None:
        """None are needed: our recorder sends no composite values."""


def datastore_of(url: str, *, pool_size: int = 1) -> LedgerDatastore:
    """The library's datastore for postgresql://user:password@host:port/database.

    Raises ValueError if the URL lacks one of them.
    """
    parts = urlsplit(url)
    if not (parts.hostname and parts.username and parts.path.strip("/")):
        raise ValueError("expected postgresql://user:password@host:port/database")
    return LedgerDatastore(
        dbname=unquote(parts.path.strip("/")),
        host=parts.hostname,
        port=parts.port or 5432,
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        pool_size=pool_size,
        originator_id_type="text",
    )
